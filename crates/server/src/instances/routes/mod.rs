//! Instances over HTTP.

mod deploy;
mod destroy;
mod dump;
mod logs;
mod password;
mod power;
mod protect;
mod registry;
mod restore;
mod show;
mod status;
mod view;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    let read = || Rule::scope(Scope::InstancesRead);
    let write = || Rule::scope(Scope::InstancesWrite).waits();
    let reveal = || Rule::scope(Scope::InstancesReveal);
    Routes::new()
        .route(write(), routes!(deploy::deploy))
        .route(read(), routes!(status::status))
        .route(write(), routes!(destroy::destroy))
        .route(read(), routes!(show::show))
        .route(write(), routes!(power::start))
        .route(write(), routes!(power::stop))
        .route(write(), routes!(power::restart))
        .route(write(), routes!(protect::protect))
        .route(write(), routes!(protect::unprotect))
        .route(write(), routes!(password::rotate_password))
        .route(read().streams(), routes!(logs::logs))
        .route(reveal().streams(), routes!(dump::dump))
        .route(write().streams(), routes!(restore::restore))
        .route(reveal(), routes!(registry::export_registry))
        .route(Rule::scope(Scope::Admin), routes!(registry::import_registry))
}
