//! Dumps: made of a source, looked at, and read into the new database by several workers.

use super::super::record::DefinitionRecord;
use super::super::source;
use super::making::Making;
use crate::instances::steps::load_failed;
use crate::instances::world::{pg, runtime_step};
use crate::operations::{StepContext, StepDone, StepError};
use pgdb_pg::swap;
use pgdb_runtime::RuntimeError;
use pgdb_runtime::spec::{Tool, ToolServer};
use secrecy::SecretString;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

/// The dump in its folder.
const DUMP: &str = "dump";
/// What is read of it, where that is not everything.
const LIST: &str = "list";
/// What a dump leaves out: owners and rights are the new template's own, and the rest is of the old server.
const PLAIN: [&str; 6] = [
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
];

impl Making<'_> {
    async fn scratch(&self) -> Result<PathBuf, StepError> {
        self.world.instances.clients.scratch(&self.names.scratch).await.map_err(runtime_step)
    }

    /// Takes over an uploaded dump.
    pub(super) async fn receive(&self, spool: &Path) -> Result<(), StepError> {
        let runtime = &self.world.instances.clients;
        let folder = self.scratch().await?;
        let target = folder.join(DUMP);
        // It may have been moved by a try that was killed before it could give it its name.
        let moved = spool.file_name().is_some_and(|name| folder.join(name).exists());
        if spool.exists() || moved {
            let lent = runtime.lend(spool, &self.names.scratch).await.map_err(runtime_step)?;
            let named = tokio::fs::rename(&lent, &target).await;
            named.map_err(|error| StepError::passing("internal", format!("the dump could not be moved: {error}")))?;
        }
        Ok(())
    }

    pub(super) async fn remove_scratch(&self) -> Result<(), StepError> {
        self.world.instances.clients.remove_scratch(&self.names.scratch).await.map_err(runtime_step)
    }

    /// Finds out, before anything is made, whether the source can be read and its extensions can be had here.
    pub(super) async fn preflight(&self, definition: &DefinitionRecord, dumped: bool) -> Result<StepDone, StepError> {
        let wanted = if dumped { self.listed_extensions().await? } else { self.source_extensions(definition).await? };
        let loader = self.world.loader(&self.server).await?;
        let session = self.world.session(&self.server).await?;
        self.require_clients(session.major()).await?;
        let available = pgdb_pg::extensions::available(&session).await.map_err(pg)?;
        session.release();
        let missing: Vec<&str> =
            wanted.iter().filter(|name| !available.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!(
                "the server that previews are made on lacks these extensions: {}; install them there",
                missing.join(", ")
            );
            return Err(StepError::lasting("template_extension_missing", message));
        }
        let untrusted: BTreeSet<&String> =
            wanted.iter().filter(|name| !loader.superuser && available.get(*name) == Some(&false)).collect();
        if !untrusted.is_empty() && definition.admin_url.is_none() {
            let names: Vec<&str> = untrusted.iter().map(|name| name.as_str()).collect();
            let message = format!(
                "only a superuser may install these extensions: {}; give the URL of one with --admin-url-file, or leave them \
                 out of the source",
                names.join(", ")
            );
            return Err(StepError::lasting("template_extension_untrusted", message));
        }
        Ok(StepDone::output(json!({ "extensions": wanted, "by_admin": untrusted })))
    }

    async fn source_extensions(&self, definition: &DefinitionRecord) -> Result<BTreeSet<String>, StepError> {
        let url = self.source(definition).await?;
        let client = source::session(&url, None).await?;
        let (major, found) = (client.major(), pgdb_pg::extensions::installed(&client).await.map_err(pg)?);
        client.close().await;
        self.require_clients(major).await?;
        Ok(found)
    }

    /// Client programs are never older than the server that they talk to.
    async fn require_clients(&self, major: u16) -> Result<(), StepError> {
        let engines = self.world.instances.clients.clients().await.map_err(runtime_step)?;
        let found: Vec<u16> = engines.iter().map(|engine| engine.major).collect();
        if found.iter().any(|there| *there >= major) {
            return Ok(());
        }
        Err(runtime_step(RuntimeError::ClientsMissing { major, found }))
    }

    async fn source(&self, definition: &DefinitionRecord) -> Result<pgdb_pg::url::ParsedUrl, StepError> {
        let missing = || StepError::lasting("template_source_missing", "the template has no source");
        source::opened(&self.source_url(definition).await?.ok_or_else(missing)?)
    }

    /// The table of contents of the dump.
    async fn contents(&self) -> Result<String, StepError> {
        let dump = self.scratch().await?.join(DUMP).display().to_string();
        let loader = self.world.loader(&self.server).await?;
        let args = ["--list".to_owned(), dump];
        let tool = Tool {
            program: "pg_restore",
            args: &args,
            user: &loader.role,
            password: None,
            db: "postgres",
            stdin: None,
        };
        let server = loader.tool_server();
        let mut running = self.world.instances.clients.client(server, tool).await.map_err(runtime_step)?;
        let mut text = String::new();
        let read = running.stdout.read_to_string(&mut text).await;
        running.finished.await.map_err(load_failed)?;
        read.map_err(|error| {
            StepError::passing("internal", format!("the dump's contents could not be read: {error}"))
        })?;
        Ok(text)
    }

    async fn listed_extensions(&self) -> Result<BTreeSet<String>, StepError> {
        Ok(self.contents().await?.lines().filter_map(extension_of).map(str::to_owned).collect())
    }

    /// Dumps the source.
    pub(super) async fn dump(&self, definition: &DefinitionRecord, cx: &StepContext) -> Result<StepDone, StepError> {
        // A folder that is there is of an interrupted try.
        self.remove_scratch().await?;
        let dump = self.scratch().await?.join(DUMP);
        let url = self.source(definition).await?;
        let client = source::session(&url, None).await?;
        let server = source::server(&url, client.major());
        client.close().await;
        let mut args: Vec<String> = PLAIN[..5].iter().map(|flag| (*flag).to_owned()).collect();
        args.extend([
            "--no-password".to_owned(),
            "--format=directory".to_owned(),
            format!("--jobs={}", definition.jobs),
        ]);
        args.extend(definition.exclude_table_data.iter().map(|pattern| format!("--exclude-table-data={pattern}")));
        args.extend(["--file".to_owned(), dump.display().to_string()]);
        let tool = Tool {
            program: "pg_dump",
            args: &args,
            user: &url.user,
            password: url.password.as_ref(),
            db: &url.db,
            stdin: None,
        };
        let runtime = &self.world.instances.clients;
        let running = runtime.client(ToolServer::Other(&server), tool).await.map_err(runtime_step)?;
        tokio::select! {
            ended = running.finished => ended.map_err(runtime_step)?,
            () = cx.cancelled.cancelled() => return Err(cancelled()),
        }
        Ok(StepDone::empty())
    }

    /// Reads the dump into a new database.
    pub(super) async fn load(&self, definition: &DefinitionRecord, cx: &StepContext) -> Result<StepDone, StepError> {
        self.fresh_staging().await?;
        let scratch = self.scratch().await?;
        let by_admin: Vec<String> =
            serde_json::from_value(cx.output::<serde_json::Value>("preflight")?["by_admin"].clone())
                .unwrap_or_default();
        let mut args: Vec<String> = PLAIN.iter().map(|flag| (*flag).to_owned()).collect();
        args.extend(["--no-password".to_owned(), "--exit-on-error".to_owned(), format!("--jobs={}", definition.jobs)]);
        if !by_admin.is_empty() {
            self.install(definition, &by_admin).await?;
            let kept = without_comments(&self.contents().await?, &by_admin);
            let list = scratch.join(LIST);
            let written = tokio::fs::write(&list, kept).await;
            written.map_err(|error| StepError::passing("internal", format!("could not write the list: {error}")))?;
            self.world.instances.clients.lend(&list, &self.names.scratch).await.map_err(runtime_step)?;
            args.push(format!("--use-list={}", list.display()));
        }
        args.push(format!("--dbname={}", self.names.staging));
        args.push(scratch.join(DUMP).display().to_string());
        let loader = self.world.loader(&self.server).await?;
        let tool = Tool {
            program: "pg_restore",
            args: &args,
            user: &loader.role,
            password: loader.password.as_ref(),
            db: &self.names.staging,
            stdin: None,
        };
        let server = loader.tool_server();
        let runtime = &self.world.instances.clients;
        let running = runtime.client(server, tool).await.map_err(runtime_step)?;
        tokio::select! {
            ended = running.finished => ended.map_err(load_failed)?,
            () = cx.cancelled.cancelled() => return Err(cancelled()),
        }
        let session = self.world.session(&self.server).await?;
        let bytes = swap::database_size(&session, &self.names.staging).await.map_err(pg)?;
        session.release();
        Ok(StepDone::output(json!({ "bytes": bytes })))
    }

    /// Lets the administrator install what the operator may not.
    async fn install(&self, definition: &DefinitionRecord, extensions: &[String]) -> Result<(), StepError> {
        let missing = || StepError::lasting("template_extension_untrusted", "the administrator's URL is gone");
        let url: SecretString = self.admin_url(definition).await?.ok_or_else(missing)?;
        let url = source::opened(&url)?;
        let client = source::session(&url, Some(&self.names.staging)).await?;
        for name in extensions {
            pgdb_pg::extensions::install(&client, name).await.map_err(pg)?;
        }
        client.close().await;
        Ok(())
    }
}

fn cancelled() -> StepError {
    StepError::lasting("cancelled", "the refresh was cancelled")
}

/// The extension that a line of a table of contents makes: `5; 3079 16385 EXTENSION - pgcrypto`.
fn extension_of(line: &str) -> Option<&str> {
    let (_, name) = line.split_once(" EXTENSION - ").filter(|(before, _)| !before.contains("COMMENT"))?;
    name.split_whitespace().next()
}

/// The table of contents without the comments on extensions that are somebody else's.
fn without_comments(contents: &str, extensions: &[String]) -> String {
    let foreign = |line: &&str| {
        line.split_once(" COMMENT - EXTENSION ")
            .is_some_and(|(_, name)| extensions.iter().any(|one| name.split_whitespace().next() == Some(one)))
    };
    contents.lines().filter(|line| !foreign(line)).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENTS: &str = ";\n; Archive created at 2026-01-01\n3; 3079 16385 EXTENSION - pgcrypto \n\
        4310; 0 0 COMMENT - EXTENSION pgcrypto \n215; 1259 16390 TABLE public t shop\n2; 3079 16400 EXTENSION - file_fdw \n\
        4311; 0 0 COMMENT - EXTENSION file_fdw \n";

    #[test]
    fn extensions_are_found_and_foreign_comments_left_out() {
        let found: Vec<&str> = CONTENTS.lines().filter_map(extension_of).collect();
        assert_eq!(found, ["pgcrypto", "file_fdw"]);
        let kept = without_comments(CONTENTS, &["file_fdw".to_owned()]);
        assert!(
            kept.contains("COMMENT - EXTENSION pgcrypto") && !kept.contains("COMMENT - EXTENSION file_fdw"),
            "{kept}"
        );
        assert_eq!(kept.lines().count(), CONTENTS.lines().count() - 1);
    }
}
