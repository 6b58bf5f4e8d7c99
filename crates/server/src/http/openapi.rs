//! The OpenAPI document: what every operation has in common is added here, so that no handler repeats it.

use super::rule::{Access, Rule};
use pgdb_api::errors::ErrorBody;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

/// The document without paths.
pub(super) fn frame() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token from `pgdb token create`, or a bootstrap token."))
        .build();
    let key = ApiKeyValue::with_description("X-Internal-Key", "The same token; taken on `/internal/*` alone.");
    let components = ComponentsBuilder::new()
        .schema(ErrorBody::name(), ErrorBody::schema())
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("internal_key", SecurityScheme::ApiKey(ApiKey::Header(key)))
        .build();
    let info = InfoBuilder::new()
        .title("pgdb")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("PostgreSQL in every form a team needs."))
        .license(Some(utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Adds what the rule means for each operation of a path.
pub(super) fn complete(path: &str, item: &mut PathItem, rule: Rule) {
    let PathItem { get, put, post, delete, patch, .. } = item;
    for (operation, changes) in [(get, false), (put, true), (post, true), (delete, true), (patch, true)] {
        if let Some(operation) = operation {
            complete_operation(path, operation, rule, changes);
        }
    }
}

fn complete_operation(path: &str, operation: &mut Operation, rule: Rule, changes: bool) {
    let guarded = !matches!(rule.access, Access::Open | Access::Signed);
    if !guarded {
        operation.security = Some(Vec::new());
    } else {
        let bearer = SecurityRequirement::new("bearer", Vec::<String>::new());
        let mut security = vec![bearer];
        if path.starts_with("/internal") {
            security.push(SecurityRequirement::new("internal_key", Vec::<String>::new()));
        }
        operation.security = Some(security);
    }
    if let Access::Scope(scope) = rule.access {
        let mut description = operation.description.take().unwrap_or_default();
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str(&format!("Needs the scope `{}`.", scope.as_str()));
        operation.description = Some(description);
    }
    let in_path = |parameter: &RefOr<utoipa::openapi::path::Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path);
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let (has_parameters, has_path) = (!parameters.is_empty(), parameters.iter().any(in_path));
    // What looks at a server of somebody's choice may find none, or one that does not answer.
    let names_server = |parameter: &RefOr<utoipa::openapi::path::Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == "on");
    let on_server = parameters.iter().any(names_server);
    let has_body = operation.request_body.is_some();
    let applicable = [
        (400, has_body || has_parameters, "the request makes no sense"),
        (401, guarded, "no token, or one that is unknown, expired or revoked"),
        (403, guarded, "the token lacks a scope"),
        (404, has_path || has_body || on_server, "there is no such thing"),
        (408, guarded && !rule.waits, "it took too long"),
        (409, guarded && (changes || rule.streams || on_server), "it contradicts what is there"),
        (413, has_body && !rule.streams, "the body is too large"),
        (415, has_body, "the body is of another type"),
        (422, guarded && has_body, "the request is understood and cannot be followed"),
        (423, guarded && changes, "it is locked"),
        (429, guarded, "too many wrong tokens from this address"),
        (500, true, "our own fault"),
        (502, guarded && (changes || rule.streams || on_server), "PostgreSQL or an engine failed"),
        (503, guarded, "busy; try again after a moment"),
    ];
    for (status, applies, description) in applicable {
        if applies {
            operation.responses.responses.entry(status.to_string()).or_insert_with(|| error(description));
        }
    }
}

fn error(description: &str) -> RefOr<utoipa::openapi::Response> {
    let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
    ResponseBuilder::new().description(description).content("application/json", content).build().into()
}
