//! The session that migrates, and the one that keeps the ledger when that is another.

use crate::connect::{APPLICATION_NAME, Client, Said, Target, connect_hearing};
use crate::error::{PgError, ServerError};
use crate::migrate::report::Notice;
use crate::migrate::setup::Setup;
use crate::url::ParsedUrl;
use secrecy::SecretString;
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::future;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

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

/// What is prepared in a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepared {
    /// The statement that writes a file's row of the ledger.
    pub(crate) note: bool,
    /// Those around plain files.
    pub(crate) plain: bool,
    /// Maybe others, which files have left.
    pub(crate) others: bool,
}

/// What migrates: one session, or one that runs the files and one that keeps the ledger.
#[derive(Debug)]
pub struct Session {
    /// Runs the files.
    pub(crate) client: Client,
    /// Holds the migrators' lock and writes the ledger, where the files' session must not be able to.
    keeper: Option<Client>,
    /// How the files' session was logged in.
    login: Login,
    heard: Mutex<Heard>,
    /// What the statement that writes a row of the ledger is called: no file has something of that name by chance.
    note_name: String,
    prepared: Mutex<Prepared>,
}

impl Session {
    /// Logs in: one session for all, and files have its rights.
    pub async fn open(login: &Login) -> Result<Self, PgError> {
        let Login { target, user, password, db, timeout } = login;
        let (heard, notices) = mpsc::unbounded_channel();
        let client = connect_hearing(target, user, password.as_ref(), db, *timeout, heard).await?;
        client.batch("set the session up", Setup::OURS).await?;
        Ok(Self {
            client,
            keeper: None,
            login: login.clone(),
            heard: Mutex::new(Heard { said: notices, later: VecDeque::new(), turn: 0 }),
            note_name: format!("pgdb_note_{:016x}", RandomState::new().build_hasher().finish()),
            prepared: Mutex::default(),
        })
    }

    /// Logs in for the files alone; the ledger is kept by another role's session in the same database, made by
    /// [`connect`](crate::connect::connect), which looks for names in `pg_catalog` alone. For files that are not trusted:
    /// whatever they do, they do with the rights of their own role. A run with such a session begins with a look whether
    /// that is a wall ([`MigrateError::NoWall`](crate::migrate::error::MigrateError::NoWall)).
    pub async fn open_apart(files: &Login, keeper: Client) -> Result<Self, PgError> {
        Ok(Self { keeper: Some(keeper), ..Self::open(files).await? })
    }

    /// The session that holds the lock and writes the ledger.
    pub(crate) fn keeper(&self) -> &Client {
        self.keeper.as_ref().unwrap_or(&self.client)
    }

    /// Whether that is another than the one that runs the files.
    pub(crate) fn is_apart(&self) -> bool {
        self.keeper.is_some()
    }

    /// Whether one of them was lost, so that nothing more can be run.
    pub(crate) fn is_lost(&self) -> bool {
        self.client.is_closed() || self.keeper().is_closed()
    }

    /// What of ours is prepared, as far as is known: a file can throw it away.
    pub(crate) fn prepared(&self) -> Prepared {
        *held(&self.prepared)
    }

    /// Takes note of what is prepared now.
    pub(crate) fn set_prepared(&self, prepared: Prepared) {
        *held(&self.prepared) = prepared;
    }

    /// Takes note that anything may be prepared, and ours may not.
    pub(crate) fn forget_prepared(&self) {
        self.set_prepared(Prepared { note: false, plain: false, others: true });
    }

    /// What the statement is called that writes a row of the ledger; the names of those around plain files begin with it.
    pub(crate) fn note_name(&self) -> &str {
        &self.note_name
    }

    /// The role that runs the files.
    pub(crate) fn user(&self) -> &str {
        &self.login.user
    }

    /// How the files' session was logged in, for another one that looks at it.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// From now on so many files of the run are done: what is said of later ones is kept until it is their turn.
    pub(crate) fn set_turn(&self, done: usize) {
        held(&self.heard).turn = done;
    }

    /// What the server has said since this was asked last.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        let mut heard = held(&self.heard);
        std::iter::from_fn(|| heard.next(|said| said.try_recv().ok())).collect()
    }

    /// Waits until the server says something.
    pub(crate) async fn hear(&self) -> Notice {
        let said = |context: &mut Context<'_>| {
            let mut heard = held(&self.heard);
            let mut ended = false;
            let notice = heard.next(|said| match said.poll_recv(context) {
                Poll::Ready(Some(said)) => Some(said),
                Poll::Ready(None) => {
                    ended = true;
                    None
                }
                Poll::Pending => None,
            });
            match notice {
                Some(notice) => Poll::Ready(Some(notice)),
                None if ended => Poll::Ready(None),
                None => Poll::Pending,
            }
        };
        match future::poll_fn(said).await {
            Some(notice) => notice,
            // The session has ended, which its statements tell.
            None => future::pending().await,
        }
    }

    /// The session that keeps the ledger, for questions that are no migration.
    pub fn client(&self) -> &Client {
        self.keeper()
    }

    /// Ends it, and waits for that.
    pub async fn close(self) {
        self.client.close().await;
        if let Some(keeper) = self.keeper {
            keeper.close().await;
        }
    }
}

/// What the server says, in its order.
#[derive(Debug)]
struct Heard {
    said: mpsc::UnboundedReceiver<Said>,
    /// What was said of files whose turn it is not yet.
    later: VecDeque<(usize, Notice)>,
    /// How many files are done.
    turn: usize,
}

impl Heard {
    /// The next that is due; `receive` gives what is new.
    fn next(&mut self, mut receive: impl FnMut(&mut mpsc::UnboundedReceiver<Said>) -> Option<Said>) -> Option<Notice> {
        if self.later.front().is_some_and(|(done, _)| *done <= self.turn) {
            return self.later.pop_front().map(|(_, notice)| notice);
        }
        while let Some(said) = receive(&mut self.said) {
            let done = said.application_name.as_deref().map_or(0, files_done);
            if done <= self.turn {
                return Some(told(said.notice));
            }
            self.later.push_back((done, told(said.notice)));
        }
        None
    }
}

/// What a session calls itself when so many files of a run are done, of those that are sent ahead of each other's answers:
/// for others to see, and for us to know whose a notice is.
pub(crate) fn name_when_done(files: usize) -> String {
    format!("{APPLICATION_NAME} (files done: {files})")
}

fn files_done(application_name: &str) -> usize {
    let number = application_name.strip_suffix(')').and_then(|name| name.rsplit_once(' '));
    number
        .filter(|_| application_name.starts_with(APPLICATION_NAME))
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

/// Nothing that holds one of these can panic.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_name_tells_how_many_files_are_done() {
        assert_eq!(name_when_done(12), "pgdb (files done: 12)");
        assert_eq!([12, 0, 12345].map(|files| files_done(&name_when_done(files))), [12, 0, 12345]);
        for other in ["pgdb", "", "psql (files done: 3)", "pgdb (files done: x)", "pgdb 3"] {
            assert_eq!(files_done(other), 0, "{other}");
        }
    }
}
