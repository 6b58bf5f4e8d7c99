//! Migrations against real servers: PostgreSQL 15 and the newest that there is.

mod ahead;
mod apart;
mod apart_killed;
mod cut;
mod drift;
mod drift_outside;
mod failures;
mod import;
mod isolation;
mod kept;
mod leftovers;
mod lint;
mod locks;
mod order;
mod put_back;
mod splitter;
mod steps;
mod steps_anew;
mod texts;

use crate::server::{ADMIN, Server, one};
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_pg::Client;
use pgdb_pg::migrate::error::MigrateError;
use pgdb_pg::migrate::report::{Event, Failure, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::{Login, Session};
use std::path::Path;
use std::time::Duration;

/// Makes of one test two, one for each server.
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn on_15() {
                super::$name(&super::super::Bed::start(&crate::server::oldest()).await).await;
            }
            #[tokio::test]
            async fn on_the_newest() {
                super::$name(&super::super::Bed::start(&crate::server::newest()).await).await;
            }
        }
    };
}
pub(crate) use on_both;

/// A server with one empty database.
pub(crate) struct Bed {
    pub(crate) server: Server,
}

pub(crate) const DB: &str = "target";

impl Bed {
    pub(crate) async fn start(bin: &Path) -> Self {
        let bed = Self { server: Server::start_of(bin, "max_prepared_transactions = 2", |_| {}).await };
        let admin = bed.server.admin("postgres").await;
        admin.batch("set up", &format!("CREATE DATABASE {DB}")).await.expect("a database");
        admin.close().await;
        bed
    }

    pub(crate) fn login(&self) -> Login {
        Login {
            target: self.server.socket(),
            user: ADMIN.to_owned(),
            password: None,
            db: DB.to_owned(),
            timeout: Duration::from_secs(20),
        }
    }

    pub(crate) async fn session(&self) -> Session {
        Session::open(&self.login()).await.expect("a session")
    }

    /// Another session in the same database.
    pub(crate) async fn client(&self) -> Client {
        self.server.admin(DB).await
    }

    /// One run with a session of its own.
    pub(crate) async fn try_run(&self, files: &[File], options: &Options) -> Result<RunReport, MigrateError> {
        let mut session = self.session().await;
        let report = run(&mut session, files, options, &mut |_| {}).await;
        session.close().await;
        report
    }

    /// A run that brings everything up to date.
    pub(crate) async fn run(&self, files: &[File]) -> RunReport {
        let report = self.try_run(files, &options()).await.expect("a run");
        assert!(report.is_complete(), "{report:#?}");
        report
    }

    /// A run that ends with the failure of its last file.
    pub(crate) async fn fail(&self, files: &[File]) -> Failure {
        let report = self.try_run(files, &options()).await.expect("a run");
        assert_eq!(report.failed, 1, "{report:#?}");
        report.files.last().and_then(|file| file.failure.clone()).expect("a failure")
    }

    /// The first column of the first row.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        let client = self.client().await;
        let answer = one(&client, sql).await;
        client.close().await;
        answer
    }
}

pub(crate) fn options() -> Options {
    Options::new("test")
}

pub(crate) fn file(key: &str, text: &str) -> File {
    File::new(Key::parse(key).expect(key), text.as_bytes().to_vec())
}

/// What a listener heard, in words.
pub(crate) fn word(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Waiting { holder } => Some(format!("waiting: {holder}")),
        Event::Notice { notice, .. } => Some(format!("{}: {}", notice.severity, notice.message)),
        Event::Retrying { attempt, .. } => Some(format!("retrying after {attempt}")),
        Event::Warning { message, .. } => Some(format!("warning: {message}")),
        _ => None,
    }
}
