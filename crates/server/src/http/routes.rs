//! Adding routes: never without a rule, and always in the OpenAPI document.

use super::guard::guard;
use super::openapi;
use super::rule::Rule;
use super::state::App;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::MethodRouter;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// Routes with their rules.
#[derive(Default)]
#[must_use]
pub struct Routes(OpenApiRouter<App>);

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `utoipa_axum::routes!` made of one or more handlers of one path, all under one rule.
    pub fn route(self, rule: Rule, (schemas, mut paths, methods): UtoipaMethodRouter<App>) -> Self {
        for (path, item) in &mut paths.paths {
            openapi::complete(path, item, rule);
        }
        Self(self.0.routes((schemas, paths, protect(rule, methods))))
    }

    /// Adds a route that is no part of the API, such as a page.
    pub fn page(self, rule: Rule, path: &str, methods: MethodRouter<App>) -> Self {
        Self(self.0.route(path, protect(rule, methods)))
    }

    /// Adds another capability's routes.
    pub fn merge(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }

    pub(super) fn into_inner(self) -> OpenApiRouter<App> {
        self.0
    }
}

fn protect(rule: Rule, methods: MethodRouter<App>) -> MethodRouter<App> {
    let limit = if rule.streams { DefaultBodyLimit::disable() } else { DefaultBodyLimit::max(rule.body_limit) };
    methods.route_layer(limit).route_layer(from_fn(move |request, next| guard(rule, request, next)))
}
