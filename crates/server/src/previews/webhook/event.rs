//! What a delivery says.

use crate::config::GithubRepository;
use crate::previews::checks;
use crate::problem::Problem;
use pgdb_core::preview::PrNumber;
use serde::Deserialize;
use serde_json::Value;

/// The header that names the event.
pub(super) const HEADER: &str = "x-github-event";

/// What a delivery asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// GitHub asks whether we are there.
    Ping,
    /// Something happened to a pull request.
    PullRequest {
        /// Its number.
        number: PrNumber,
        /// The template of its repository, where that is not the configured one.
        template: Option<String>,
        /// What is to become of its preview.
        change: Change,
    },
    /// Nothing, and why.
    Ignored(String),
}

/// What is to become of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The pull request was opened, opened again, or has new commits.
    Ensure,
    /// It was closed, whether merged or not.
    Delete,
}

/// The parts of GitHub's payload that matter here. It has many more.
#[derive(Deserialize)]
struct Payload {
    action: String,
    number: Value,
    #[serde(default)]
    pull_request: PullRequest,
    repository: Repository,
}

#[derive(Deserialize, Default)]
struct PullRequest {
    head: Option<Head>,
}

#[derive(Deserialize)]
struct Head {
    /// Null once the fork is gone.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

/// Reads a delivery whose signature is right. `repositories` are those that count, all when there are none.
pub(super) fn parse(event: &str, body: &[u8], repositories: &[GithubRepository]) -> Result<Event, Problem> {
    match event {
        "ping" => return Ok(Event::Ping),
        "pull_request" => {}
        other => return Ok(ignored(format!("the event '{}' is not about pull requests", shown(other)))),
    }
    let payload: Payload = serde_json::from_slice(body)
        .map_err(|error| Problem::invalid("invalid_json", format!("it is no pull_request event: {error}")))?;
    // GitHub does not tell names apart by case.
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let Repository { full_name } = &payload.repository;
    let known = repositories.iter().find(|repository| same(&repository.full_name, full_name));
    if !repositories.is_empty() && known.is_none() {
        let why = format!("the repository '{}' is not in PGDB_GITHUB_REPOSITORIES", shown(full_name));
        return Ok(ignored(why));
    }
    let change = match payload.action.as_str() {
        "opened" | "reopened" | "synchronize" => Change::Ensure,
        "closed" => Change::Delete,
        other => return Ok(ignored(format!("the action '{}' changes nothing for a preview", shown(other)))),
    };
    // Anybody can open one from a fork, and databases are not for anybody.
    let own = |head: Head| head.repo.is_some_and(|repo| same(&repo.full_name, full_name));
    if change == Change::Ensure && !payload.pull_request.head.is_some_and(own) {
        return Ok(ignored("the pull request comes from a fork".to_owned()));
    }
    let number = checks::number(&payload.number)?;
    Ok(Event::PullRequest { number, template: known.and_then(|repository| repository.template.clone()), change })
}

fn ignored(why: String) -> Event {
    Event::Ignored(why)
}

/// A text from outside, fit for a sentence.
fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn payload(action: &str, number: Value, head: Value) -> Vec<u8> {
        let body = json!({
            "action": action,
            "number": number,
            "pull_request": { "id": 1, "number": number, "state": "open", "head": head, "base": { "ref": "main" } },
            "repository": { "id": 2, "name": "app", "full_name": "shop/app", "private": true },
            "sender": { "login": "ann" }
        });
        serde_json::to_vec(&body).expect("JSON")
    }

    fn own() -> Value {
        json!({ "ref": "feature", "sha": "abc", "repo": { "full_name": "shop/app", "fork": false } })
    }

    fn said(action: &str, head: Value, repositories: &[&str]) -> Event {
        let read = |name: &&str| match name.split_once('=') {
            Some((name, template)) => {
                GithubRepository { full_name: name.to_owned(), template: Some(template.to_owned()) }
            }
            None => GithubRepository { full_name: (*name).to_owned(), template: None },
        };
        let repositories: Vec<GithubRepository> = repositories.iter().map(read).collect();
        parse("pull_request", &payload(action, json!(7), head), &repositories).expect("understood")
    }

    fn is_ignored(event: &Event, why: &str) -> bool {
        matches!(event, Event::Ignored(text) if text.contains(why))
    }

    #[test]
    fn actions_of_a_pull_request_are_told_apart() {
        let number = checks::digits("7").expect("a number");
        let about = |template: Option<&str>, change| {
            let template = template.map(str::to_owned);
            Event::PullRequest { number, template, change }
        };
        for action in ["opened", "reopened", "synchronize"] {
            assert_eq!(said(action, own(), &[]), about(None, Change::Ensure), "{action}");
        }
        assert_eq!(said("closed", own(), &[]), about(None, Change::Delete));
        let listed = ["shop/api", "Shop/App=shop"];
        assert_eq!(said("opened", own(), &listed), about(Some("shop"), Change::Ensure));
        assert!(is_ignored(&said("labeled", own(), &[]), "labeled"));
    }

    #[test]
    fn forks_get_nothing_and_are_cleaned_up_all_the_same() {
        let fork = json!({ "repo": { "full_name": "eve/app", "fork": true } });
        for head in [fork.clone(), json!({ "repo": null })] {
            assert!(is_ignored(&said("opened", head, &[]), "fork"));
        }
        assert!(matches!(said("closed", fork, &[]), Event::PullRequest { change: Change::Delete, .. }));
    }

    #[test]
    fn other_repositories_and_events_are_ignored_with_the_reason() {
        assert!(matches!(said("opened", own(), &["other/app", "Shop/App"]), Event::PullRequest { .. }));
        for action in ["opened", "closed"] {
            assert!(is_ignored(&said(action, own(), &["other/app"]), "'shop/app'"), "{action}");
        }
        assert_eq!(parse("ping", b"{}", &[]).expect("understood"), Event::Ping);
        assert!(is_ignored(&parse("push", b"no JSON", &[]).expect("understood"), "'push'"));
        assert!(is_ignored(&parse("a\nb", b"", &[]).expect("understood"), "a\\nb"));
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for body in ["", "{", "[]", "{}", r#"{"action":"opened","number":7}"#] {
            assert_eq!(parse("pull_request", body.as_bytes(), &[]).expect_err(body).code, "invalid_json", "{body}");
        }
        for number in [json!(0), json!(-1), json!("1; DROP"), json!(null)] {
            let body = payload("opened", number.clone(), own());
            assert_eq!(parse("pull_request", &body, &[]).expect_err("refused").code, "invalid_pr_number", "{number}");
        }
    }
}
