//! Bad days: what happens to people and machines, each with a clear error and with nothing lost.

mod crowds;
mod daemon;
mod disk;
mod engines;
mod folders;
mod ports;
mod restores;
mod servers;
mod state_file;

use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::{sql, wait};
use std::time::Duration;

/// How long a server may take to come back: in a container a first start takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");

/// A database with a note in it, and its URL.
async fn noted(daemon: &Daemon, name: &str) -> String {
    let deployed = daemon.deploy_named(name).await;
    let url = deployed["database_url"].as_str().expect("a URL").to_owned();
    sql::run(&url, "CREATE TABLE note AS SELECT 'kept' AS text").await;
    url
}

/// Waits until the note can be read again.
async fn wait_for_note(url: &str) {
    let look = || async { sql::login(url).await.ok()?.run("SELECT text FROM note").await.ok() };
    let note = wait::until(LIMIT, "the server to answer again", look).await;
    assert_eq!(note.as_deref(), Some("kept"));
}
