//! The provider's error codes, in words with what to do.

/// A refusal for a person: what the provider said, and what to do where that is known.
pub fn words(code: &str, message: &str) -> String {
    match advice(code) {
        Some(advice) => format!("the provider said: {message} ({code}); {advice}"),
        None => format!("the provider said: {message} ({code})"),
    }
}

fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthorized" => "HCLOUD_TOKEN is not a valid token: make one in the project's console, under Security",
        "forbidden" => "the token may not do this: use one of the project with the permission Read & Write",
        "token_readonly" => "the token can only read: make one with the permission Read & Write",
        "resource_limit_exceeded" => {
            "the project may not have more of these: remove one, or ask the provider for a higher limit"
        }
        "uniqueness_error" => "something in the project has this name already: take another --name",
        "placement_error" | "resource_unavailable" => {
            "there is no room for this right now: try another --location or --server-type, or later"
        }
        "no_space_left_in_location" => "there is no room for volumes there: try another --location",
        "invalid_server_type" => {
            "this type does not go with the image or is not sold any more: try another --server-type"
        }
        "invalid_input" => "something that was asked for is not known there: look at the values of the flags",
        "locked" => "something else is being done with it: try again in a minute",
        "resource_locked" => "the provider has locked it: ask its support",
        "conflict" => "it was changed at the same time: try again",
        "protected" => "it is protected from being deleted: lift the protection in the console first",
        "resource_in_use" => "something still uses it",
        "rate_limit_exceeded" => "too many requests were made with this token: try again later",
        "maintenance" => "the provider is at work there: try again later",
        "not_found" => "it is not there, or not in the project of this token",
        "deprecated_api_endpoint" => "this version of pgdb is too old for the provider: take a newer one",
        _ => return None,
    })
}
