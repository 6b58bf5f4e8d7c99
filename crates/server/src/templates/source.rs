//! Where a template comes from.

use crate::instances::world::pg;
use crate::operations::StepError;
use pgdb_pg::url::{ParsedUrl, parse};
use pgdb_pg::{Client, connect};
use pgdb_runtime::spec::OtherServer;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// How long a server may take to let us in.
const LOGIN: Duration = Duration::from_secs(15);

/// A URL without its password, for people to see.
pub(super) fn shown(url: &ParsedUrl) -> String {
    format!("postgres://{}@{}:{}/{}?sslmode={}", url.user, url.host, url.port, url.db, url.tls.sslmode())
}

/// A URL that was sealed. It was checked before.
pub(super) fn opened(url: &SecretString) -> Result<ParsedUrl, StepError> {
    parse(url.expose_secret()).map_err(|error| StepError::lasting("invalid_value", error.to_string()))
}

/// A session as the URL says, in its database or another one.
pub(super) async fn session(url: &ParsedUrl, db: Option<&str>) -> Result<Client, StepError> {
    connect(&url.target(), &url.user, url.password.as_ref(), db.unwrap_or(&url.db), LOGIN).await.map_err(pg)
}

/// The server of a URL, for client programs.
pub(super) fn server(url: &ParsedUrl, major: u16) -> OtherServer {
    OtherServer {
        host: url.host.clone(),
        port: url.port,
        sslmode: url.tls.sslmode().to_owned(),
        sslrootcert: url.sslrootcert.clone(),
        major,
    }
}
