//! `POST /v1/db/{name}/start`, `…/stop` and `…/restart`.

use super::view::view;
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::{PathParams, QueryParams};
use crate::http::state::App;
use crate::instances::record::subject;
use crate::instances::service::Power;
use crate::operations::routes::answer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use pgdb_api::instances::{StatusItem, WaitQuery};
use pgdb_api::operations::Operation;

macro_rules! power {
    ($(#[$doc:meta])* $name:ident, $path:literal, $power:expr) => {
        $(#[$doc])*
        #[utoipa::path(
            post, path = $path, tag = "instances", params(("name" = String, Path), WaitQuery),
            responses(
                (status = 200, body = StatusItem),
                (status = 202, body = Operation, description = "With `wait=false`.")
            )
        )]
        pub(super) async fn $name(
            State(app): State<App>,
            caller: Caller,
            PathParams(name): PathParams<String>,
            QueryParams(query): QueryParams<WaitQuery>,
            headers: HeaderMap,
        ) -> Result<Response, HttpError> {
            caller.about(subject(&name));
            let started = app.instances.start_power(&name, $power).await?;
            let view = view(&headers, &caller);
            answer(&app, &started, query.wait, async || Ok(app.instances.item(&name, &view).await?)).await
        }
    };
}

power! {
    /// Starts an instance, which then should run; one that runs stays as it is.
    start, "/v1/db/{name}/start", Power::Start
}
power! {
    /// Stops an instance cleanly, which then stays stopped until it is started.
    stop, "/v1/db/{name}/stop", Power::Stop
}
power! {
    /// Stops an instance, writes its configuration anew and starts it.
    restart, "/v1/db/{name}/restart", Power::Restart
}
