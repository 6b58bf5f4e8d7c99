//! The one session that migrates.

use crate::connect::{Client, Target};
use crate::error::PgError;
use crate::url::ParsedUrl;
use secrecy::SecretString;
use std::time::Duration;

/// Where to log in, and as whom.
#[derive(Debug, Clone)]
pub struct Login {
    /// The server.
    pub target: Target,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// The database.
    pub db: String,
    /// How long that may take.
    pub timeout: Duration,
}

impl From<ParsedUrl> for Login {
    fn from(url: ParsedUrl) -> Self {
        let target = url.target();
        Self { target, user: url.user, password: url.password, db: url.db, timeout: Duration::from_secs(15) }
    }
}

/// A session that migrates.
#[derive(Debug)]
pub struct Session {
    pub(crate) client: Client,
}

impl Session {
    /// Logs in.
    pub async fn open(login: &Login) -> Result<Self, PgError> {
        let Login { target, user, password, db, timeout } = login;
        let client = crate::connect(target, user, password.as_ref(), db, *timeout).await?;
        Ok(Self { client })
    }

    /// Ends it, and waits for that.
    pub async fn close(self) {
        self.client.close().await;
    }
}
