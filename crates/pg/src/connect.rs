//! One session with a server, and the task that carries it.

use crate::error::{Cause, PgError, ServerError};
use crate::tls;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::future;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls, Row, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What sessions of ours are called in `pg_stat_activity`.
pub const APPLICATION_NAME: &str = "pgdb";

/// How long a session's task may take to say good-bye once nobody holds the client any more.
const LINGER: Duration = Duration::from_secs(1);

/// Over TCP, a network that is cut says nothing. So it is asked for signs of life once it has been silent for this long…
const SILENCE: Duration = Duration::from_secs(10);
/// …this long after each question without an answer…
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// …and after so many it is taken as cut.
const QUESTIONS: u32 = 3;
/// What was sent and is not acknowledged for this long is lost, and the connection with it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A unix socket.
    Socket {
        /// Its folder.
        dir: PathBuf,
        /// The port in its name.
        port: u16,
    },
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether and how to encrypt.
        tls: TlsMode,
    },
}

/// Whether and how to encrypt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// In the clear.
    Disable,
    /// Encrypted, with any certificate, if the server can; else in the clear.
    Prefer,
    /// Encrypted; any certificate will do.
    Require,
    /// Encrypted, and the certificate is, or was signed by, one of these (PEM). Names are not compared.
    VerifyCa(String),
    /// The same, and the certificate is for the host that was asked for.
    VerifyFull(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// A session. It ends when this is dropped; [`Client::close`] also waits for that.
pub struct Client {
    raw: tokio_postgres::Client,
    major: u16,
    odd_strings: bool,
    task: JoinHandle<()>,
    /// Dropped with us, which tells the task that it has [`LINGER`] left.
    held: oneshot::Sender<()>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("major", &self.major).field("closed", &self.is_closed()).finish()
    }
}

impl Client {
    /// The server's major version; 0 if it did not say.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// Whether a backslash meant something in an ordinary string (`standard_conforming_strings`) when the session began.
    pub(crate) fn has_odd_strings(&self) -> bool {
        self.odd_strings
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// Runs statements without parameters in one round trip. `action` is verb and object, for the error.
    pub async fn batch(&self, action: &'static str, sql: &str) -> Result<(), PgError> {
        self.raw.batch_execute(sql).await.map_err(|error| PgError::query(action, error))
    }

    /// Runs one statement with text parameters, without preparing it first: one round trip.
    ///
    /// Parameters can end up in the server's log as they are: none of them may be a secret.
    pub async fn query(&self, action: &'static str, sql: &str, params: &[&str]) -> Result<Vec<Row>, PgError> {
        let params: Vec<(&(dyn ToSql + Sync), Type)> =
            params.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        self.raw.query_typed(sql, &params).await.map_err(|error| PgError::query(action, error))
    }

    /// Runs one statement and gives the first column of its first row, as text: `None` without a row, `Some(None)` for
    /// NULL.
    pub async fn first_value(&self, action: &'static str, sql: &str) -> Result<Option<Option<String>>, PgError> {
        let messages = self.raw.simple_query(sql).await.map_err(|error| PgError::query(action, error))?;
        Ok(messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.try_get(0).ok().flatten().map(str::to_owned)),
            _ => None,
        }))
    }

    /// The driver's own session, for what has to be sent without waiting for the answer before.
    pub(crate) fn raw(&self) -> &tokio_postgres::Client {
        &self.raw
    }

    /// Ends the session and returns once the connection is closed, at most a second later.
    pub async fn close(self) {
        let Self { raw, task, held, .. } = self;
        drop(raw);
        drop(held);
        // An error here is a task that panicked, which tokio has reported.
        let _ = task.await;
    }
}

/// Where names without a schema are looked for in a session of ours. An application owns `public` in its database and
/// could put a `format` or an `=` there that suits our arguments better than PostgreSQL's, and would run with our rights.
const OWN_SEARCH_PATH: &str = "-c search_path=pg_catalog,pg_temp";

/// Logs in, for statements of our own: names without a schema are PostgreSQL's, whatever the database holds.
///
/// `timeout` bounds the whole of it: looking up the name, the connection, TLS and the login.
pub async fn connect(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<Client, PgError> {
    log_in(target, user, password, db, timeout, Some(OWN_SEARCH_PATH), None).await
}

/// The same for statements that somebody has given us: names are looked for where the role and the database say, and
/// what they find runs with the role's rights.
pub async fn connect_for_scripts(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
) -> Result<Client, PgError> {
    log_in(target, user, password, db, timeout, None, None).await
}

/// As [`connect_for_scripts`]; what the server says unasked goes to `hearing`, in the order in which it says it: what a
/// statement causes is there before the statement's answer is.
pub(crate) async fn connect_hearing(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
    hearing: Hearing,
) -> Result<Client, PgError> {
    let options = matches!(target, Target::Tcp { .. }).then(servers_keepalives);
    let hearing = Some(hearing);
    match log_in(target, user, password, db, timeout, options.as_deref(), hearing.clone()).await {
        // A pooler between us and the server may not take options.
        Err(error) if options.is_some() && refuses_options(&error) => {
            log_in(target, user, password, db, timeout, None, hearing).await
        }
        opened => opened,
    }
}

/// Makes the server look after us as we look after it: a session that holds locks must not outlive the network to us by
/// hours, which is what systems have by themselves. As options these are what `RESET ALL` goes back to.
fn servers_keepalives() -> String {
    format!(
        "-c tcp_keepalives_idle={} -c tcp_keepalives_interval={} -c tcp_keepalives_count={QUESTIONS} \
         -c tcp_user_timeout={}",
        SILENCE.as_secs(),
        ASK_AGAIN.as_secs(),
        UNACKNOWLEDGED.as_millis()
    )
}

/// Protocol violation, or something that is not supported.
fn refuses_options(error: &PgError) -> bool {
    let PgError::CannotConnect { cause, .. } = error else { return false };
    matches!(&**cause, Cause::Server(error) if ["08P01", "0A000"].contains(&error.sqlstate.as_str()))
}

async fn log_in(
    target: &Target,
    user: &str,
    password: Option<&SecretString>,
    db: &str,
    timeout: Duration,
    options: Option<&str>,
    hearing: Option<Hearing>,
) -> Result<Client, PgError> {
    let mut config = Config::new();
    config.user(user).dbname(db).application_name(APPLICATION_NAME);
    if let Some(options) = options {
        config.options(options);
    }
    if let Some(password) = password {
        config.password(password.expose_secret());
    }
    let tls = match target {
        Target::Socket { dir, port } => {
            config.host_path(dir).port(*port);
            &TlsMode::Disable
        }
        Target::Tcp { host, port, tls } => {
            config.host(host).port(*port).keepalives_idle(SILENCE).keepalives_interval(ASK_AGAIN);
            config.keepalives_retries(QUESTIONS).tcp_user_timeout(UNACKNOWLEDGED);
            tls
        }
    };
    let session = async {
        match tls::client_config(tls).map_err(Cause::Certificate)? {
            None => {
                config.ssl_mode(SslMode::Disable);
                open(&config, NoTls, hearing).await
            }
            Some(encrypted) => {
                config.ssl_mode(if *tls == TlsMode::Prefer { SslMode::Prefer } else { SslMode::Require });
                open(&config, MakeRustlsConnect::new(encrypted), hearing).await
            }
        }
    };
    let opened = time::timeout(timeout, session).await.unwrap_or_else(|_| Err(Cause::TimedOut(timeout)));
    opened.map_err(|cause| {
        let (address, cause) = (target.to_string(), Box::new(cause));
        if is_refusal(&cause, password.is_some()) {
            PgError::AuthenticationRefused { address, role: user.to_owned(), cause }
        } else {
            PgError::CannotConnect { address, cause }
        }
    })
}

fn is_refusal(cause: &Cause, password_given: bool) -> bool {
    match cause {
        Cause::Server(error) => error.sqlstate.starts_with("28"),
        // The server asked for a password. The driver has no kind for that one can test.
        Cause::Driver(error) => !password_given && error.to_string().starts_with("invalid configuration"),
        _ => false,
    }
}

/// Something that the server said unasked.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) notice: ServerError,
    /// Dropped with this: once it is known whose it is.
    _known: oneshot::Sender<()>,
}

/// Where goes what the server says unasked.
#[derive(Debug, Clone)]
pub(crate) struct Hearing {
    /// Takes it.
    pub(crate) said: mpsc::UnboundedSender<Said>,
    /// How it is listened to.
    pub(crate) how: watch::Receiver<Hears>,
}

/// How somebody listens to what the server says unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    /// When it comes to it.
    Anytime,
    /// All the time: nothing that comes behind a notice is read before the notice is dropped. Whoever has got all answers
    /// that are there knows which of them came before the notice.
    InTurn,
    /// Not at all.
    Nothing,
}

impl Hearing {
    async fn tell(&mut self, notice: ServerError) {
        let (known, waits) = oneshot::channel();
        // Nobody listens any more: then nobody wants to know.
        if self.said.send(Said { notice, _known: known }).is_err() || *self.how.borrow() != Hears::InTurn {
            return;
        }
        tokio::select! {
            _ = waits => {}
            _ = self.how.wait_for(|how| *how != Hears::InTurn) => {}
        }
    }
}

async fn open<T>(config: &Config, tls: T, hearing: Option<Hearing>) -> Result<Client, Cause>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (raw, connection) = config.connect(tls).await?;
    let major = connection.parameter("server_version").map_or(0, major_of);
    let odd_strings = connection.parameter("standard_conforming_strings") == Some("off");
    let (held, gone) = oneshot::channel();
    let task = tokio::spawn(carry(connection, gone, hearing));
    Ok(Client { raw, major, odd_strings, task, held })
}

/// Carries the session's bytes. When the client is dropped the driver sends its good-bye, so that the server does
/// not log a lost connection; a network that does not take it is not waited for.
async fn carry<T>(mut connection: Connection<Socket, T>, gone: oneshot::Receiver<()>, mut hearing: Option<Hearing>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let session = async {
        // A connection that failed would report the same again for ever, so the first failure ends it.
        loop {
            match future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => match &mut hearing {
                    Some(hearing) => hearing.tell((&notice).into()).await,
                    None => tracing::debug!(
                        severity = notice.severity(),
                        sqlstate = notice.code().code(),
                        "PostgreSQL: {}",
                        notice.message()
                    ),
                },
                Some(Ok(_)) => {}
                Some(Err(error)) => break tracing::debug!(%error, "PostgreSQL connection lost"),
                None => break,
            }
        }
    };
    tokio::pin!(session);
    tokio::select! {
        () = &mut session => {}
        _ = gone => {
            // Too late is as good as done: the socket is closed with the task.
            let _ = time::timeout(LINGER, session).await;
        }
    }
}

/// `15.18 (Debian …)`, `18beta2`.
fn major_of(version: &str) -> u16 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_majors() {
        assert_eq!(major_of("15.18 (Debian 15.18-0+deb12u1)"), 15);
        assert_eq!(major_of("18beta2"), 18);
        assert_eq!(major_of("odd"), 0);
    }

    #[test]
    fn addresses_are_what_people_type() {
        let tcp = |host: &str| Target::Tcp { host: host.into(), port: 5432, tls: TlsMode::Disable }.to_string();
        assert_eq!(tcp("localhost"), "localhost:5432");
        assert_eq!(tcp("::1"), "[::1]:5432");
        assert_eq!(Target::Socket { dir: "/run/x".into(), port: 7 }.to_string(), "/run/x/.s.PGSQL.7");
    }
}
