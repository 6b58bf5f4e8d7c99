//! What a migration runner cannot do without: a transaction and a ledger row per file, awaited one after the other.
//! Either as one writes it with tokio-postgres, four round trips a file, or with all of a file in one message, which is as
//! little as can be awaited.

use crate::Failed;
use std::collections::HashSet;
use tokio_postgres::NoTls;

/// Runs the files of a folder, in the order of their names, on the database that `DATABASE_URL` names.
pub async fn migrate(folder: &str, in_one_message: bool) -> Result<(), Failed> {
    let (mut client, connection) = tokio_postgres::connect(&std::env::var("DATABASE_URL")?, NoTls).await?;
    let carried = tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS floor_migrations \
             (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let rows = client.query("SELECT name FROM floor_migrations", &[]).await?;
    let applied: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let note = client.prepare("INSERT INTO floor_migrations (name) VALUES ($1)").await?;
    for name in names {
        let text = std::fs::read_to_string(format!("{folder}/{name}"))?;
        if applied.contains(&name) {
            continue;
        }
        if in_one_message {
            let row = format!("INSERT INTO floor_migrations (name) VALUES ('{name}')");
            client.batch_execute(&format!("BEGIN;{text};{row};COMMIT")).await?;
            continue;
        }
        let transaction = client.transaction().await?;
        transaction.batch_execute(&text).await?;
        transaction.execute(&note, &[&name]).await?;
        transaction.commit().await?;
    }
    drop(client);
    carried.await??;
    Ok(())
}
