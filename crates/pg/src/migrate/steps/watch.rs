//! The locks of a statement that cannot be in a transaction: when it is over they are gone, so a second session looks
//! again and again while it runs.

use crate::connect::connect;
use crate::migrate::ledger::{MODES, held};
use crate::migrate::session::Session;
use pgdb_core::migration::ledger::SeenLock;
use std::time::Duration;
use tokio::time::{self, Instant};

/// Looks are close to one another at first, and then less so: the statements that matter take long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// One lock, and when it was seen.
struct Sight {
    relation: String,
    mode: String,
    first: Instant,
    last: Instant,
}

/// Does `work` in the session, whose backend has the process id `pid`, and tells what was seen to be locked meanwhile.
/// Without a second session nothing is seen.
pub(super) async fn watched<T>(session: &Session, pid: &str, work: impl Future<Output = T>) -> (T, Vec<SeenLock>) {
    let mut sights = Vec::new();
    let done = {
        let looking = look(session, pid, &mut sights);
        tokio::pin!(looking, work);
        tokio::select! {
            biased;
            done = &mut work => done,
            () = &mut looking => work.await,
        }
    };
    let seen = sights.into_iter().map(|Sight { relation, mode, first, last }| SeenLock {
        relation,
        mode,
        held_ms: i64::try_from((last - first).as_millis()).unwrap_or(i64::MAX),
        sampled: true,
    });
    (done, seen.collect())
}

/// Looks until it is dropped, or until it cannot.
async fn look(session: &Session, pid: &str, sights: &mut Vec<Sight>) {
    let login = session.login();
    let password = login.password.as_ref();
    let Ok(client) = connect(&login.target, &login.user, password, &login.db, login.timeout).await else { return };
    let sql = format!("SELECT relation, ({MODES})[mode] FROM ({}) AS seen", held("l.pid = $1::integer", "true"));
    let mut pause = FIRST_PAUSE;
    loop {
        let Ok(rows) = client.query("look at the locks", &sql, &[pid]).await else { return };
        let now = Instant::now();
        for row in &rows {
            let (relation, mode) = (row.get::<_, &str>(0), row.get::<_, &str>(1));
            match sights.iter_mut().find(|sight| sight.relation == relation && sight.mode == mode) {
                Some(sight) => sight.last = now,
                None => {
                    sights.push(Sight { relation: relation.to_owned(), mode: mode.to_owned(), first: now, last: now })
                }
            }
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
