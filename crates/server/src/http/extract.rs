//! Extractors that refuse in the one shape of every error.

use super::error::HttpError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

/// Bodies above this are refused, except where a route takes a stream.
pub const BODY_LIMIT: usize = 1 << 20;
/// How much of a parser's message is handed on; it may quote what it was given.
const MESSAGE_LIMIT: usize = 300;

/// A JSON body.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// A JSON body of a route whose rule allows `LIMIT` bytes.
#[derive(Debug)]
pub struct LargeJsonBody<T, const LIMIT: usize>(pub T);

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct OptionalJsonBody<T>(pub T);

/// The parameters of the path.
#[derive(Debug)]
pub struct PathParams<T>(pub T);

/// The query.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        LargeJsonBody::<T, BODY_LIMIT>::from_request(request, state).await.map(|body| Self(body.0))
    }
}

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for LargeJsonBody<T, LIMIT> {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let (headers, body) = read_up_to(LIMIT, request, state).await?;
        if body.is_empty() {
            return Err(invalid("invalid_json", "the body is empty; this route needs a JSON object".to_owned()));
        }
        parse(&headers, &body).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = HttpError;
    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let (headers, body) = read_up_to(BODY_LIMIT, request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        // A list would be taken for the fields in their order.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(invalid("invalid_json", "the body is a list; this route takes a JSON object".to_owned()));
        }
        parse(&headers, &body).map(Self)
    }
}

/// The body as it came, for who has to check a signature over it. `limit` is that of the route's rule, in bytes.
pub(crate) async fn read_up_to<S: Send + Sync>(
    limit: usize,
    request: Request,
    state: &S,
) -> Result<(HeaderMap, Bytes), HttpError> {
    let headers = request.headers().clone();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(too_large(limit));
    }
    match Bytes::from_request(request, state).await {
        Ok(body) => Ok((headers, body)),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large(limit)),
        Err(_) => Err(invalid("body_unreadable", "the body broke off".to_owned())),
    }
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, HttpError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Clients of the original daemon say nothing, or what curl says for `--data`.
    let unsaid = media.is_empty() || media == "application/x-www-form-urlencoded";
    if !unsaid && media != "application/json" && !(media.starts_with("application/") && media.ends_with("+json")) {
        return Err(HttpError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send JSON, with the header Content-Type: application/json",
        ));
    }
    serde_json::from_slice(body).map_err(|error| invalid("invalid_json", shorten(&error.to_string())))
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(params)) => Ok(Self(params)),
            Err(rejection) => Err(invalid("invalid_path", shorten(&rejection.body_text()))),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(invalid("invalid_query", shorten(&rejection.body_text()))),
        }
    }
}

fn invalid(code: &'static str, message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, code, message)
}

fn too_large(limit: usize) -> HttpError {
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is larger than {limit} bytes"))
}

fn shorten(message: &str) -> String {
    if message.chars().count() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    message.chars().take(MESSAGE_LIMIT).chain(['…']).collect()
}
