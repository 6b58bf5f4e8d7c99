use crate::support::{ADMIN, Outcome, open, secrets};
use pgdb_server::config::listen::Listen;
use pgdb_server::http::serve::bind_all;
use pgdb_server::system::SystemClock;
use std::path::Path;
use std::sync::Arc;

async fn refusal(folder: &Path) -> String {
    let opened = open(folder, &secrets(ADMIN), Arc::new(SystemClock::default())).await;
    opened.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

#[tokio::test]
async fn a_state_file_that_cannot_be_used_is_explained() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    assert_eq!(refusal(folder.path()).await, "");

    let connection = rusqlite::Connection::open(&path)?;
    connection.pragma_update(None, "user_version", 999)?;
    let message = refusal(folder.path()).await;
    assert!(message.contains("newer pgdb") && message.contains("upgrade"), "{message}");
    drop(connection);

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.db");
    std::fs::write(&path, "this is no database, whatever its name says".repeat(100))?;
    let message = refusal(folder.path()).await;
    assert!(message.contains("damaged") && message.contains("state.db"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_state_file_that_another_program_locks_is_explained() -> Outcome {
    let folder = tempfile::tempdir()?;
    let connection = rusqlite::Connection::open(folder.path().join("state.db"))?;
    connection.execute_batch("CREATE TABLE x (y); BEGIN EXCLUSIVE; INSERT INTO x VALUES (1);")?;
    let message = refusal(folder.path()).await;
    assert!(message.contains("locked by another program"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_exposed_token_file_stops_the_start() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("token");
    std::fs::write(&path, ADMIN)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    let opened = open(folder.path(), &Default::default(), Arc::new(SystemClock::default())).await;
    let message = opened.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("chmod 600"), "{message}");
    Ok(())
}

#[test]
fn an_address_in_use_is_named() -> Outcome {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let message = bind_all(&[Listen::At(taken.local_addr()?)]).err().map(|error| format!("{error:#}"));
    let message = message.unwrap_or_default();
    assert!(message.contains(&taken.local_addr()?.to_string()) && message.contains("ss -ltnp"), "{message}");
    let both = bind_all(&[Listen::Everywhere(0)])?;
    assert_eq!(both.len(), 1);
    Ok(())
}
