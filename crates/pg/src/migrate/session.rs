//! The session that migrates, and the one that keeps the ledger when that is another.

use crate::connect::{Client, Hearing, Hears, Said, Target, connect_hearing};
use crate::error::PgError;
use crate::migrate::report::Notice;
use crate::migrate::setup::Setup;
use crate::url::ParsedUrl;
use secrecy::SecretString;
use std::collections::hash_map::RandomState;
use std::future;
use std::hash::{BuildHasher, Hasher};
use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a login may take where nobody has said anything.
const LOGIN_TAKES: Duration = Duration::from_secs(15);

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
        let timeout = url.connect_timeout.unwrap_or(LOGIN_TAKES);
        Self { target, user: url.user, password: url.password, db: url.db, timeout }
    }
}

/// What is prepared in a session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepared {
    /// The statement that writes a file's row of the ledger.
    pub(crate) note: bool,
    /// Those around plain files.
    pub(crate) plain: bool,
    /// The one that few of them need.
    pub(crate) look_before: bool,
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
    /// The process id of the server's process for it.
    backend: String,
    heard: Mutex<Heard>,
    how: watch::Sender<Hears>,
    /// What the statement that writes a row of the ledger is called: no file has something of that name by chance.
    note_name: String,
    /// By chance its own.
    number: u64,
    prepared: Mutex<Prepared>,
}

impl Session {
    /// Logs in: one session for all, and files have its rights.
    pub async fn open(login: &Login) -> Result<Self, PgError> {
        let Login { target, user, password, db, timeout } = login;
        let (said, heard) = mpsc::unbounded_channel();
        let (how, watched) = watch::channel(Hears::Anytime);
        let hearing = Hearing { said, how: watched };
        let client = connect_hearing(target, user, password.as_ref(), db, *timeout, hearing).await?;
        let number = RandomState::new().build_hasher().finish();
        let set_up = format!("{}; SELECT pg_catalog.pg_backend_pid()", Setup::OURS);
        let backend = client.first_value("set the session up", &set_up).await?.flatten().unwrap_or_default();
        Ok(Self {
            client,
            keeper: None,
            login: login.clone(),
            backend,
            heard: Mutex::new(Heard { said: heard, waiting: None }),
            how,
            note_name: format!("pgdb_note_{number:016x}"),
            number,
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
        self.set_prepared(Prepared { others: true, ..Prepared::default() });
    }

    /// Throws away all that is prepared.
    pub(crate) async fn clear_prepared(&self) -> Result<(), PgError> {
        self.client.batch("throw away what is prepared", "DEALLOCATE ALL").await?;
        self.set_prepared(Prepared::default());
        Ok(())
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

    /// A number by which it differs from others, by chance.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The process id of the server's process for the files' session.
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }

    /// From now on what the server says unasked is heard so. While it is heard in turn, whoever waits for an answer has to
    /// listen too, and to look for answers first.
    pub(crate) fn set_hearing(&self, how: Hears) {
        // What was said meanwhile is nobody's.
        let was = self.how.send_replace(how);
        if [was, how].contains(&Hears::Nothing) {
            drop(held(&self.heard).rest());
        }
    }

    /// What the server has said since this was asked last; nothing while it is heard in turn, for then what is there is of
    /// what has no answer yet.
    pub(crate) fn take_notices(&self) -> Vec<Notice> {
        match *self.how.borrow() {
            Hears::Anytime => held(&self.heard).rest().into_iter().map(told).collect(),
            Hears::InTurn | Hears::Nothing => Vec::new(),
        }
    }

    /// Waits until the server says something.
    pub(crate) async fn hear(&self) -> Notice {
        let hear = |context: &mut Context<'_>| {
            let mut heard = held(&self.heard);
            if let Some(said) = heard.waiting.take() {
                return Poll::Ready(Some(told(said)));
            }
            loop {
                match (heard.said.poll_recv(context), *self.how.borrow()) {
                    (Poll::Ready(Some(_)), Hears::Nothing) => {}
                    // Answers that came before it are to be seen before it.
                    (Poll::Ready(Some(said)), Hears::InTurn) => {
                        heard.waiting = Some(said);
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    (said, _) => return said.map(|said| said.map(told)),
                }
            }
        };
        match future::poll_fn(hear).await {
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
    /// What was received, and is told when all answers before it were looked at.
    waiting: Option<Said>,
}

impl Heard {
    /// All that is there.
    fn rest(&mut self) -> Vec<Said> {
        self.waiting.take().into_iter().chain(iter::from_fn(|| self.said.try_recv().ok())).collect()
    }
}

/// Nothing that holds one of these can panic.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(said: Said) -> Notice {
    let notice = said.notice;
    Notice {
        severity: notice.severity,
        sqlstate: notice.sqlstate,
        message: notice.message,
        detail: notice.detail,
        hint: notice.hint,
    }
}
