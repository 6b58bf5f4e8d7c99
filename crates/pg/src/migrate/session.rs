//! The one session that migrates.

use crate::connect::{Client, Target, connect_hearing};
use crate::error::{PgError, ServerError};
use crate::migrate::report::Notice;
use crate::url::ParsedUrl;
use secrecy::SecretString;
use std::future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::Statement;

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
    notices: Mutex<mpsc::UnboundedReceiver<ServerError>>,
    /// The statement that writes a row of the ledger, once it was prepared.
    pub(crate) note: Option<Statement>,
}

impl Session {
    /// Logs in.
    pub async fn open(login: &Login) -> Result<Self, PgError> {
        let Login { target, user, password, db, timeout } = login;
        let (heard, notices) = mpsc::unbounded_channel();
        let client = connect_hearing(target, user, password.as_ref(), db, *timeout, Some(heard)).await?;
        Ok(Self { client, notices: Mutex::new(notices), note: None })
    }

    /// What the server has said since this was asked last.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices();
        std::iter::from_fn(|| notices.try_recv().ok()).map(told).collect()
    }

    /// Waits until the server says something.
    pub(crate) async fn hear(&self) -> Notice {
        match future::poll_fn(|context| self.notices().poll_recv(context)).await {
            Some(notice) => told(notice),
            // The session has ended, which its statements tell.
            None => future::pending().await,
        }
    }

    fn notices(&self) -> MutexGuard<'_, mpsc::UnboundedReceiver<ServerError>> {
        // Nothing that holds it can panic.
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session itself, for questions that are no migration.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Ends it, and waits for that.
    pub async fn close(self) {
        self.client.close().await;
    }
}

fn told(notice: ServerError) -> Notice {
    Notice {
        severity: notice.severity,
        sqlstate: notice.sqlstate,
        message: notice.message,
        detail: notice.detail,
        hint: notice.hint,
    }
}
