//! Previews over HTTP.

mod bootstrap;
mod delete;
mod ensure;
mod extend;
mod list;
mod orphans;
mod pool;
mod prepare;
mod protect;
mod reset;
mod show;

use crate::http::routes::Routes;
use crate::http::rule::Rule;
use crate::previews::webhook;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    let look = || Rule::scope(Scope::Previews);
    let change = || Rule::scope(Scope::Previews).waits();
    Routes::new()
        .route(Rule::scope(Scope::Templates).waits(), routes!(bootstrap::bootstrap_previews))
        .route(change(), routes!(ensure::ensure_preview))
        .route(change(), routes!(delete::delete_preview))
        .route(change(), routes!(prepare::prepare_template))
        .route(change(), routes!(pool::warm_template))
        .route(change(), routes!(pool::drop_pool_entry))
        .route(look(), routes!(orphans::list_orphans))
        .route(change(), routes!(orphans::collect_orphans))
        .route(look(), routes!(list::list_previews))
        .route(look(), routes!(show::show_preview))
        .route(change(), routes!(reset::reset_preview))
        .route(look(), routes!(extend::extend_preview))
        .route(look(), routes!(protect::protect_preview))
        .route(look(), routes!(protect::unprotect_preview))
        .merge(webhook::routes())
}
