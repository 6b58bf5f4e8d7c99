//! What the session is set to around each file, whatever the file before it did.

use crate::connect::Client;
use crate::error::PgError;
use crate::migrate::run::Options;
use crate::quote;

/// How often the server looks whether we are still there while it runs a statement. Without it a migrator that was
/// killed leaves its statement running, and the lock held, until the statement ends by itself.
const ALIVE_MS: u32 = 2000;
/// From this major on it can be told to look, unless its system cannot.
const FIRST_THAT_LOOKS: u16 = 14;

/// A commit that does not wait for the disk.
const QUICK: &str = "synchronous_commit = off";

/// The settings, as SQL.
#[derive(Debug)]
pub(crate) struct Setup {
    settings: Vec<String>,
    role: Option<String>,
    pub(crate) version: String,
    /// Whether another commit comes later in this run, which also waits until this one is on the disk. Commits reach the
    /// log in their order, so that a crash of the server takes the last files of a run and their rows, and none between.
    pub(crate) more_to_come: bool,
}

impl Setup {
    /// Puts a session back that is in no transaction.
    pub(crate) const LOOSE_BACK: &'static str = "CLOSE ALL; UNLISTEN *; RESET SESSION AUTHORIZATION; RESET ROLE; \
         RESET ALL; SET search_path TO pg_catalog, pg_temp";

    /// How the session is between files: names without a schema are PostgreSQL's, whatever the database holds. Files get
    /// what the role and the database say.
    pub(crate) const OURS: &'static str = "SET search_path TO pg_catalog, pg_temp";

    /// The same until the end of a transaction, after which everything is again as the file has set it.
    pub(crate) const FOR_A_NOTE: &'static str = "SET CONSTRAINTS ALL IMMEDIATE; \
         SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE; SET LOCAL search_path TO pg_catalog, pg_temp; \
         SET LOCAL synchronous_commit TO DEFAULT";

    pub(crate) async fn of(client: &Client, options: &Options) -> Result<Self, PgError> {
        let mut settings = vec![format!("lock_timeout = {}", options.lock_timeout.as_millis())];
        let alive = format!("client_connection_check_interval = {ALIVE_MS}");
        let try_it = format!("SET {alive}; RESET client_connection_check_interval");
        if client.major() >= FIRST_THAT_LOOKS && client.batch("try a setting", &try_it).await.is_ok() {
            settings.push(alive);
        }
        let role = options.role.as_deref().map(quote::identifier).transpose()?;
        Ok(Self { settings, role, version: options.version.clone(), more_to_come: false })
    }

    /// Begins a transaction: SQL, and how many statements that is. `modes` are what a file's own BEGIN said.
    ///
    /// BEGIN comes first: should anything after it fail, the transaction has failed, and what is sent next does
    /// nothing.
    pub(crate) fn begin(&self, modes: &str) -> (String, usize) {
        let mut sql = format!("BEGIN {modes}; RESET ALL; DISCARD TEMP");
        let settings = self.set_local(&mut sql);
        if let Some(role) = &self.role {
            sql.push_str("; SET LOCAL ROLE ");
            sql.push_str(role);
        }
        (sql, 3 + settings + usize::from(self.role.is_some()))
    }

    /// Runs what the file has put off until its commit, with what the file has set, and puts everything back that it has
    /// set or left: so that the ledger's row is written as the login would, the commit waits for the disk if it is to, and
    /// the next file's message is already read with nothing of this one's (`client_encoding`, isolation, …).
    pub(crate) fn back(&self) -> String {
        let mut sql = format!("SET CONSTRAINTS ALL IMMEDIATE; {}", Self::LOOSE_BACK);
        self.set_local(&mut sql);
        sql
    }

    /// Adds what holds until the end of the transaction. Gives how many statements that is.
    fn set_local(&self, sql: &mut String) -> usize {
        let quick = self.more_to_come.then_some(QUICK);
        for setting in self.settings.iter().map(String::as_str).chain(quick) {
            sql.push_str("; SET LOCAL ");
            sql.push_str(setting);
        }
        self.settings.len() + usize::from(quick.is_some())
    }

    /// Makes the session once what it is for each of the files that leave it as it is. They are followed by others or say
    /// that they wait for the disk. What is prepared is planned once and not for each file's key.
    pub(crate) fn kept(&self) -> String {
        let mut sql = "RESET ALL; DISCARD TEMP".to_owned();
        for setting in self.settings.iter().map(String::as_str).chain([QUICK, "plan_cache_mode = force_generic_plan"]) {
            sql.push_str("; SET ");
            sql.push_str(setting);
        }
        sql
    }

    /// The same for a file without a transaction.
    pub(crate) fn loose(&self) -> String {
        let mut sql = format!("{}; RESET search_path; DISCARD TEMP", Self::LOOSE_BACK);
        for setting in &self.settings {
            sql.push_str("; SET ");
            sql.push_str(setting);
        }
        if let Some(role) = &self.role {
            sql.push_str("; SET ROLE ");
            sql.push_str(role);
        }
        sql
    }
}
