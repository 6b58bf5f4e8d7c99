//! The state file: commits, refusals, and reading beside a writer.

use super::{OpenError, Store};
use crate::problem::Problem;
use rusqlite::Connection;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("state.db")).expect("a state file");
    (folder, store)
}

fn put(key: &str) -> impl FnOnce(&Connection) -> Result<(), Problem> + Send + 'static {
    let key = key.to_owned();
    move |connection| {
        connection.execute("INSERT INTO meta VALUES (?1, '')", [key])?;
        Ok(())
    }
}

async fn count(store: &Store) -> i64 {
    let count = |connection: &Connection| Ok(connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))?);
    store.read(count).await.expect("read")
}

#[tokio::test]
async fn of_changes_that_share_a_commit_a_refused_one_takes_no_other_along() {
    let (_folder, store) = store();
    let refused = |connection: &Connection| {
        put("refused")(connection)?;
        Err::<(), _>(Problem::conflict("no", "no"))
    };
    let panicking = |_: &Connection| -> Result<(), Problem> { panic!("on purpose") };
    let (one, two, three, four) =
        tokio::join!(store.write(put("one")), store.write(refused), store.write(panicking), store.write(put("four")));
    assert!(one.is_ok() && four.is_ok());
    assert_eq!(two.expect_err("refused").code, "no");
    assert_eq!(three.expect_err("panicked").code, "internal");
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn a_row_in_the_way_is_a_conflict_that_nobody_tries_again() {
    let (_folder, store) = store();
    store.write(put("a")).await.expect("written");
    assert_eq!(store.write(put("a")).await.expect_err("there already").code, "state_conflict");
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn the_revision_counts_up_before_a_writer_hears_of_its_commit() {
    let (_folder, store) = store();
    let before = store.revision();
    store.write(put("one")).await.expect("written");
    assert!(store.revision() > before);
}

#[tokio::test]
async fn a_lock_held_by_another_program_is_a_busy_problem_and_nothing_is_lost() {
    let (_folder, store) = store();
    let other = Connection::open(store.path()).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let problem = store.write(put("one")).await.expect_err("locked");
    assert_eq!(problem.code, "state_locked");
    assert!(problem.retry_after.is_some());
    assert_eq!(count(&store).await, 0, "readers go on");
    other.execute_batch("ROLLBACK").expect("released");
    store.write(put("one")).await.expect("written");
    assert_eq!(count(&store).await, 1);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let damaged = folder.path().join("damaged.db");
    std::fs::write(&damaged, "this is not a SQLite file, but long enough to be looked at").expect("written");
    assert!(matches!(Store::open(&damaged), Err(OpenError::Damaged { .. })));

    let newer = folder.path().join("newer.db");
    drop(Store::open(&newer).expect("made"));
    Connection::open(&newer).expect("opened").execute_batch("PRAGMA user_version = 999").expect("set");
    assert!(matches!(Store::open(&newer), Err(OpenError::Newer { found: 999, .. })));
}

#[test]
fn nobody_else_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = store();
    let mode = std::fs::metadata(store.path()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
