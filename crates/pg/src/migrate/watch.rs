//! The locks of the files' session as another one sees them, which looks again and again while work goes on: those of a
//! statement that cannot be in a transaction, for they are gone when it is over, and since when a transaction that takes
//! long has those that it took on its way.

use crate::connect::{Client, connect};
use crate::error::PgError;
use crate::migrate::held::each_held;
use crate::migrate::session::Session;
use pgdb_core::migration::ledger::SeenLock;
use std::time::Duration;
use tokio::time::{self, Instant};

/// What takes no longer is not worth a session that looks at it, if it tells its locks at its end.
pub(crate) const LONG: Duration = Duration::from_millis(100);

/// Looks are close to one another at first, and then less so: what matters takes long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What was seen of some work.
#[derive(Debug)]
pub(crate) struct Sights {
    each: Vec<Sight>,
    /// When the last look began.
    last_look: Option<Instant>,
    /// When the work was over.
    end: Instant,
}

/// One lock, and when it was seen.
#[derive(Debug)]
struct Sight {
    relation: String,
    mode: String,
    /// When the look began that did not see it yet; `None` if the first one did.
    before: Option<Instant>,
    first: Instant,
    last: Instant,
}

/// Does `work` in the files' session, and after a while looks what that has locked. Without a second session nothing is
/// seen.
pub(crate) async fn watched<T>(session: &Session, after: Duration, work: impl Future<Output = T>) -> (T, Sights) {
    let (mut each, mut last_look) = (Vec::new(), None);
    let done = {
        let looking = look(session, after, &mut each, &mut last_look);
        tokio::pin!(looking, work);
        tokio::select! {
            biased;
            done = &mut work => done,
            _ = &mut looking => work.await,
        }
    };
    (done, Sights { each, last_look, end: Instant::now() })
}

/// Looks until it is dropped, or until it cannot.
async fn look(
    session: &Session,
    after: Duration,
    each: &mut Vec<Sight>,
    last_look: &mut Option<Instant>,
) -> Result<(), PgError> {
    time::sleep(after).await;
    let login = session.login();
    let client = connect(&login.target, &login.user, login.password.as_ref(), &login.db, login.timeout).await?;
    let sql = each_held("$1::integer");
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        if see(&client, &sql, session.backend(), *last_look, each).await? {
            *last_look = Some(began);
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One look. Gives whether it has seen the backend at work: behind a pooler there may be another one.
async fn see(
    client: &Client,
    sql: &str,
    backend: &str,
    before: Option<Instant>,
    each: &mut Vec<Sight>,
) -> Result<bool, PgError> {
    let rows = client.query("look at the locks", sql, &[backend]).await?;
    let now = Instant::now();
    for row in &rows {
        let (Some(relation), mode) = (row.get::<_, Option<&str>>(0), row.get::<_, &str>(1)) else { continue };
        match each.iter_mut().find(|sight| sight.relation == relation && sight.mode == mode) {
            Some(sight) => sight.last = now,
            None => {
                let (relation, mode) = (relation.to_owned(), mode.to_owned());
                each.push(Sight { relation, mode, before, first: now, last: now });
            }
        }
    }
    Ok(!rows.is_empty())
}

impl Sights {
    /// What was seen, and for how long it was.
    pub(crate) fn into_locks(self) -> Vec<SeenLock> {
        let lock = |Sight { relation, mode, first, last, .. }| {
            let held_ms = i64::try_from((last - first).as_millis()).unwrap_or(i64::MAX);
            SeenLock { relation, mode, held_ms, sampled: true }
        };
        self.each.into_iter().map(lock).collect()
    }

    /// Has locks that were held at the end of the work say no more than since the last look that did not see them. Gives
    /// whether that is less than they have said.
    pub(crate) fn shorten(&self, locks: &mut [SeenLock]) -> bool {
        // Under another name it may have been seen all the same: it was renamed.
        let all_are_told = self.each.iter().all(|sight| locks.iter().any(|lock| lock.relation == sight.relation));
        let mut shorter = false;
        for lock in locks {
            let sight = self.each.iter().find(|sight| sight.relation == lock.relation && sight.mode == lock.mode);
            let not_yet = match sight {
                Some(sight) => sight.before,
                None => self.last_look.filter(|_| all_are_told),
            };
            let Some(not_yet) = not_yet else { continue };
            let at_most = i64::try_from((self.end - not_yet).as_millis()).unwrap_or(i64::MAX);
            shorter |= at_most < lock.held_ms;
            lock.held_ms = lock.held_ms.min(at_most);
        }
        shorter
    }
}
