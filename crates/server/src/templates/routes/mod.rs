//! Templates over HTTP.

mod build;
mod define;
mod delete;
mod list;
mod lock;
mod migrate;
mod refresh;
mod rollback;
mod show;

use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::routes::Routes;
use crate::http::rule::Rule;
use crate::http::state::App;
use crate::operations::Started;
use crate::operations::routes as operations;
use crate::templates::service::Which;
use axum::response::Response;
use pgdb_api::migrations::FILES_LIMIT;
use pgdb_core::scope::Scope;
use utoipa_axum::routes;

/// The routes of this capability.
pub fn routes() -> Routes {
    let rule = || Rule::scope(Scope::Templates);
    Routes::new()
        .route(Rule::scope(Scope::Previews), routes!(list::list_templates))
        .route(Rule::scope(Scope::Previews), routes!(show::show_template))
        .route(rule(), routes!(define::define_template))
        .route(rule().waits(), routes!(refresh::refresh_template))
        .route(rule().streams(), routes!(refresh::refresh_template_from_dump))
        .route(rule().waits().body_limit(FILES_LIMIT), routes!(build::build_template))
        .route(rule().waits().body_limit(FILES_LIMIT), routes!(migrate::migrate_template))
        .route(rule().waits(), routes!(delete::delete_template))
        .route(rule().waits(), routes!(rollback::rollback_template))
        .route(rule(), routes!(lock::lock_template))
        .route(rule(), routes!(lock::unlock_template))
}

/// Which template a request is about.
async fn which(app: &App, caller: &Caller, on: Option<&str>, name: &str) -> Result<Which, HttpError> {
    let which = app.templates.which(on, name).await?;
    caller.about(which.subject());
    Ok(which)
}

/// The same for what is to be made: where nobody has named a server, the instance that previews are made on comes first.
async fn which_to_make(app: &App, caller: &Caller, on: Option<&str>, name: &str) -> Result<Which, HttpError> {
    app.templates.check_name(name)?;
    app.previews.server(on).await?;
    which(app, caller, on, name).await
}

/// The template as it stands at the operation's end; 202 with the operation for those who do not wait.
async fn answer(app: &App, which: &Which, started: &Started, wait: bool) -> Result<Response, HttpError> {
    operations::answer(app, started, wait, async || Ok(app.templates.show(which).await?)).await
}
