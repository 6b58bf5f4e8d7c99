//! Connections that are cut.

use super::{Bed, DB, file, on_both, options};
use crate::server::ADMIN;
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::report::Event;
use pgdb_pg::migrate::run::run;
use pgdb_pg::migrate::session::{Login, Session};
use pgdb_pg::{Target, TlsMode};
use std::time::Duration;
use tokio::io;
use tokio::net::{TcpListener, TcpStream, UnixStream};

on_both!(a_session_that_the_server_ends_leaves_nothing_half_done);
on_both!(a_network_that_is_cut_leaves_nothing_half_done);

/// What is there of a table, an own transaction and a file in steps.
fn files() -> [File; 3] {
    [
        file("a/1.sql", "CREATE TABLE one (); SELECT pg_advisory_xact_lock(4711);"),
        file("a/2.sql", "BEGIN; CREATE TABLE two (); SELECT pg_advisory_xact_lock(4711); COMMIT;"),
        file(
            "a/3.sql",
            "-- no-transaction\nCREATE TABLE three ();\nCREATE TABLE four (); BEGIN; SELECT pg_advisory_xact_lock(4711); CREATE TABLE five (); COMMIT;",
        ),
    ]
}

const TABLES: &str = "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class \
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";

async fn a_session_that_the_server_ends_leaves_nothing_half_done(bed: &Bed) {
    let ending = "CREATE TABLE t (); SELECT pg_terminate_backend(pg_backend_pid());";
    let report = bed.try_run(&[file("a/1.sql", ending), file("a/2.sql", "SELECT 1")], &options()).await.expect("told");
    let failure = report.files[0].failure.as_ref().expect("a failure");
    assert_eq!((failure.sqlstate.as_deref(), report.not_reached.len()), (Some("57P01"), 1));
    assert!(failure.aftermath.contains("connection was lost"), "{failure}");
    assert_eq!(bed.ask(TABLES).await, "");
    bed.run(&[file("a/1.sql", "CREATE TABLE t ();"), file("a/2.sql", "SELECT 1")]).await;
}

async fn a_network_that_is_cut_leaves_nothing_half_done(bed: &Bed) {
    let Target::Socket { dir, port } = bed.server.socket() else { unreachable!() };
    let server = dir.join(format!(".s.PGSQL.{port}"));
    let gate = bed.client().await;
    gate.batch("close the gate", "SELECT pg_advisory_lock(4711)").await.expect("closed");
    for (number, expected) in ["", "one", "four one three two"].into_iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
        let server = server.clone();
        let proxy = tokio::spawn(async move {
            let (mut from, _) = listener.accept().await.expect("a client");
            let mut to = UnixStream::connect(server).await.expect("the server");
            tokio::select! {
                _ = io::copy_bidirectional(&mut from, &mut to) => {}
                _ = is_cut => reset(&from),
            }
        });
        let target = Target::Tcp { host: "127.0.0.1".to_owned(), port, tls: TlsMode::Disable };
        let login = Login {
            target,
            user: ADMIN.to_owned(),
            password: None,
            db: DB.to_owned(),
            timeout: Duration::from_secs(20),
        };
        let mut session = Session::open(&login).await.expect("a session through the proxy");
        let patient = pgdb_pg::migrate::run::Options { lock_timeout: Duration::from_secs(60), ..options() };
        let files = files();
        let listener = &mut |_: Event<'_>| {};
        let running = run(&mut session, &files, &patient, listener);
        let cutting = async {
            // The file that is at work waits at the gate.
            while bed.ask("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").await
                == "0"
            {
                tokio::task::yield_now().await;
            }
            cut.send(()).expect("the proxy listens");
        };
        let (report, ()) = tokio::join!(running, cutting);
        let report = report.expect("told");
        let failure = report.files.last().and_then(|file| file.failure.as_ref()).expect("a failure");
        assert!(failure.aftermath.contains("connection was lost"), "{failure}");
        proxy.await.expect("the proxy ended");
        // The server notices by itself, although the statement still waits.
        while bed.ask("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'").await != "1" {
            tokio::task::yield_now().await;
        }
        assert_eq!(bed.ask(TABLES).await, expected, "cut in file {}", number + 1);
        if number < 2 {
            // The gate lets this file through, and the next is the one that is cut.
            gate.batch("open the gate", "SELECT pg_advisory_unlock(4711)").await.expect("opened");
            let done = bed.run(&files[..=number]).await;
            assert_eq!(done.applied, 1);
            gate.batch("close the gate", "SELECT pg_advisory_lock(4711)").await.expect("closed");
        }
    }
    gate.batch("open the gate", "SELECT pg_advisory_unlock(4711)").await.expect("opened");
    bed.run(&files()).await;
    assert_eq!(bed.ask(TABLES).await, "five four one three two");
}

/// Ends a connection as a network that fails does: without a good-bye.
fn reset(socket: &TcpStream) {
    socket.set_zero_linger().expect("no good-bye");
}
