//! Why migrations could not be run at all. A file that fails is no error of the run: it is in its report.

use crate::error::PgError;
use pgdb_core::migration::plan::Refusal;
use std::time::Duration;

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// PostgreSQL cannot be reached, or did not do something of ours.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// Nothing was run, because of these files.
    #[error("nothing was run: {}", sentence(.0))]
    Refused(Vec<(String, Refusal)>),
    /// Another migrator did not come to its end.
    #[error("another migrator is at work on this database ({holder}) and did not end within {waited:?}")]
    Locked {
        /// The process id of its session, and what the session calls itself.
        holder: String,
        /// How long we waited.
        waited: Duration,
    },
    /// Nothing was run.
    #[error(
        "this session is somebody else's too, who migrates at this moment: there is a pooler in between that gives each \
         transaction another session. Use the server's own address, or a pool in session mode"
    )]
    SharedSession,
    /// Nothing was run.
    #[error(
        "standard_conforming_strings is off for this role or database, so that a backslash in a string means something \
         else than in standard SQL, and where a file's statements end cannot be told. Turn it on (ALTER DATABASE … RESET \
         standard_conforming_strings, or ALTER ROLE …), and write such strings as E'…'"
    )]
    OddStrings,
    /// Files were to run as a role that the ledger is not safe from. Nothing was run.
    #[error("the ledger cannot be kept from files that run as role '{role}': {why}")]
    NoWall {
        /// The files' role.
        role: String,
        /// What would let it through.
        why: String,
    },
    /// A transaction of an earlier run has not come to its end.
    #[error(
        "the transaction of an earlier run of '{key}' is still open on the server after {waited:?}; try again later"
    )]
    StillOpen {
        /// The file.
        key: String,
        /// How long we waited.
        waited: Duration,
    },
    /// An earlier run was ended at its commit, and the server cannot say any more whether that was done.
    #[error(
        "it cannot be told whether an earlier run of '{key}' was committed: that was on another server or too long ago; \
         look, and then say `pgdb migrate repair --done {key}`, or delete row {id} of pgdb.migrations to have it run"
    )]
    InDoubt {
        /// The file.
        key: String,
        /// The number of its row.
        id: i64,
    },
}

fn sentence(refusals: &[(String, Refusal)]) -> String {
    const SHOWN: usize = 5;
    let mut sentence =
        refusals.iter().take(SHOWN).map(|(key, refusal)| format!("'{key}' {refusal}")).collect::<Vec<_>>().join("; ");
    if refusals.len() > SHOWN {
        sentence.push_str(&format!("; and {} more", refusals.len() - SHOWN));
    }
    sentence
}
