//! `POST /v1/webhooks/github`.

use super::event::{self, Change, Event};
use super::{BODY_LIMIT, signature};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::extract::read_up_to;
use crate::http::state::App;
use crate::operations::routes::wire;
use crate::previews::checks::Wanted;
use crate::previews::record;
use crate::previews::service::{Place, Progress};
use crate::problem::Problem;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pgdb_api::previews::WebhookAnswer;
use pgdb_core::preview::PrNumber;
use secrecy::ExposeSecret;
use std::time::Duration;
use tracing::Instrument;

/// GitHub gives an answer ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// How often others that are at work on the same preview are waited for.
const ROUNDS: usize = 20;

/// A delivery of GitHub. A pull request that is opened, opened again or has new commits gets its preview; one that is
/// closed loses it. Everything else is ignored, with the reason.
///
/// There is no token: the delivery is signed with `PGDB_GITHUB_WEBHOOK_SECRET`. One that comes twice does nothing the
/// second time.
#[utoipa::path(
    post, path = "/v1/webhooks/github", tag = "previews",
    params(
        ("X-Hub-Signature-256" = String, Header, pattern = "^sha256=[0-9a-f]{64}$"),
        ("X-GitHub-Event" = String, Header, example = "pull_request")
    ),
    request_body(content = serde_json::Value, content_type = "application/json", description = "GitHub's payload, at most 25 MiB."),
    responses(
        (status = 200, body = WebhookAnswer, description = "To a ping."),
        (status = 202, body = WebhookAnswer),
        (status = 401, body = pgdb_api::errors::ErrorBody, description = "The signature is missing or wrong."),
        (status = 409, body = pgdb_api::errors::ErrorBody, description = "There are too many previews already."),
        (status = 423, body = pgdb_api::errors::ErrorBody, description = "The preview is protected."),
        (status = 502, body = pgdb_api::errors::ErrorBody, description = "PostgreSQL failed."),
        (status = 503, body = pgdb_api::errors::ErrorBody, description = "Busy; deliver it again after a moment.")
    )
)]
pub(super) async fn github_webhook(
    State(app): State<App>,
    caller: Caller,
    request: Request,
) -> Result<Response, HttpError> {
    let (headers, body) = signed(&app, request).await?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // GitHub's other form hides the same JSON in a field.
    if text(header::CONTENT_TYPE.as_str()).starts_with("application/x-www-form-urlencoded") {
        let message = "set the webhook's content type to application/json in the settings of the repository";
        return Err(HttpError::unsupported_media_type(message));
    }
    let repositories = &app.previews.world.config.github_repositories;
    let (number, template, change) = match event::parse(text(event::HEADER), &body, repositories)? {
        Event::Ping => return Ok(Json(WebhookAnswer::Pong { pong: true }).into_response()),
        Event::Ignored(ignored) => return Ok(accepted(WebhookAnswer::Ignored { ignored })),
        Event::PullRequest { number, template, change } => (number, template, change),
    };
    let subject = match &template {
        Some(template) => format!("preview {number} of {template}"),
        None => format!("preview {number}"),
    };
    caller.about(subject.clone());
    // In a task of its own, which goes on when GitHub's time is up.
    let work = follow(app.clone(), caller, (number, template), change).in_current_span();
    match tokio::time::timeout(ANSWER_WITHIN, app.requests.spawn(work)).await {
        Ok(Ok(answer)) => Ok(accepted(answer?)),
        Ok(Err(error)) => Err(Problem::internal(format!("a webhook's task ended: {error}")).into()),
        Err(_) => Ok(accepted(WebhookAnswer::Pending { pending: subject })),
    }
}

fn accepted(answer: WebhookAnswer) -> Response {
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

/// Headers and body of a delivery that was signed with our secret.
async fn signed(app: &App, request: Request) -> Result<(HeaderMap, Bytes), HttpError> {
    let Some(secret) = &app.previews.world.webhook_secret else {
        let message = "there is no webhook here, because PGDB_GITHUB_WEBHOOK_SECRET is not set";
        return Err(Problem::not_found("webhook_disabled", message).into());
    };
    // Looked at before the body is read: what carries none is not worth 25 MiB.
    let claimed = request.headers().get(signature::HEADER).and_then(|value| signature::parse(value.to_str().ok()?));
    let claimed = claimed.ok_or_else(|| HttpError::invalid_signature("X-Hub-Signature-256 is missing or malformed"))?;
    let _permit =
        app.previews.world.deliveries.acquire().await.map_err(|error| Problem::internal(error.to_string()))?;
    let (headers, body) = read_up_to(BODY_LIMIT, request, app).await?;
    if !signature::matches(secret.expose_secret().as_bytes(), &body, &claimed) {
        let message = "the signature is wrong; set the same secret here and in the settings of the webhook";
        return Err(HttpError::invalid_signature(message));
    }
    Ok((headers, body))
}

/// Begins what a delivery asks for.
async fn follow(
    app: App,
    caller: Caller,
    (number, template): (PrNumber, Option<String>),
    change: Change,
) -> Result<WebhookAnswer, Problem> {
    let outcome = begin(&app, &caller, (number, template.as_deref()), change).await;
    if let Err(problem) = &outcome {
        // GitHub may not be listening any more.
        tracing::warn!(%number, ?change, code = problem.code, "a webhook's delivery could not be followed");
    }
    outcome
}

async fn begin(
    app: &App,
    caller: &Caller,
    (number, template): (PrNumber, Option<&str>),
    change: Change,
) -> Result<WebhookAnswer, Problem> {
    let place = match change {
        Change::Ensure => app.previews.place_to_make(None, template, number).await?,
        Change::Delete => match app.previews.place_to_delete(None, template, number).await? {
            Ok(place) => place,
            Err(deleted) => return Ok(WebhookAnswer::Absent { deleted }),
        },
    };
    caller.about(place.subject());
    for _ in 0..ROUNDS {
        let outcome = match change {
            Change::Ensure => ensure(app, &place).await,
            Change::Delete => delete(app, &place).await,
        };
        match outcome {
            // A pull request that is closed and opened again at once: one after the other, since GitHub does not repeat.
            Err(Problem { code: "operation_conflict", operation_id: Some(id), .. }) => {
                app.operations.wait(&id).await?;
            }
            outcome => return outcome,
        }
    }
    Err(Problem::busy("preview_busy", format!("{} keeps being changed by others; deliver it again", place.db)))
}

async fn ensure(app: &App, place: &Place) -> Result<WebhookAnswer, Problem> {
    match app.previews.ensure(place, &Wanted::default(), false).await? {
        Progress::Started(started) => operation(app, &started.id).await,
        Progress::Done(answer) => match app.previews.record(place).await? {
            Some(preview) => {
                if answer.created {
                    // GitHub does not want to know; who asks for the password does.
                    let id = preview.id.clone();
                    app.store.write(move |connection| record::put_news_back(connection, &id)).await?;
                }
                let preview = Box::new(app.previews.world.wire(&preview, false).await?);
                Ok(WebhookAnswer::Present { preview })
            }
            None => Err(Problem::busy("preview_busy", format!("{} was deleted meanwhile", place.db))),
        },
    }
}

async fn delete(app: &App, place: &Place) -> Result<WebhookAnswer, Problem> {
    match app.previews.delete(place, false).await? {
        Progress::Started(started) => operation(app, &started.id).await,
        Progress::Done(deleted) => Ok(WebhookAnswer::Absent { deleted }),
    }
}

async fn operation(app: &App, id: &str) -> Result<WebhookAnswer, Problem> {
    Ok(WebhookAnswer::Operation(Box::new(wire(&app.operations.get(id).await?))))
}
