//! A database's schema as text that stays the same as long as the schema does, made by `pg_dump`.
//!
//! Left out are owners and rights, which differ from one installation to the next, our ledger and those of other tools,
//! and what `pg_dump` says of itself, its version above all.

use super::session::Login;
use crate::connect::{Target, TlsMode};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// Where Debian's packages put PostgreSQL's programs.
const SYSTEM: &str = "/usr/lib/postgresql";
/// Where our ledger is.
const LEDGER_SCHEMA: &str = "pgdb";
const PROGRAM: &str = "pg_dump";
/// Named where no authority counts: without it libpq takes one that may lie in the home folder of whoever calls us.
const NO_AUTHORITY: &str = "/dev/null/none";
const FLAGS: [&str; 7] = [
    "--schema-only",
    "--no-owner",
    "--no-privileges",
    "--no-subscriptions",
    "--no-security-labels",
    "--no-tablespaces",
    "--no-password",
];
/// Tables in which other tools keep what they have run: a database built anew has none.
const TOOLS: [&str; 5] =
    ["_sqlx_migrations", "refinery_schema_history", "flyway_schema_history", "schema_migrations", "pgmigrations"];

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// No program can read that server.
    #[error(
        "no pg_dump of version {wanted} or newer is here{}; install PostgreSQL's client programs, or name their folder \
         with PGDB_ENGINES_DIR",
        found.map(|major| format!(" (the newest is {major})")).unwrap_or_default()
    )]
    Missing {
        /// The server's major version.
        wanted: u16,
        /// The newest there is.
        found: Option<u16>,
    },
    /// It cannot be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificates of the authority could not be handed over.
    #[error("could not write the authority's certificates to a temporary file")]
    Authority {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It gave up.
    #[error("pg_dump failed: {0}")]
    Failed(String),
}

/// A `pg_dump` on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgDump {
    program: PathBuf,
    major: u16,
}

impl PgDump {
    /// The oldest that can read a server of major version `server`: those below `engines` (a folder a major), the
    /// system's, and those on the search path are looked at.
    pub async fn find(engines: Option<&Path>, path: Option<&OsStr>, server: u16) -> Result<Self, DumpError> {
        let below = |folder: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().join("bin")).collect()
        };
        let mut folders: Vec<PathBuf> = engines.map(below).unwrap_or_default();
        folders.extend(below(Path::new(SYSTEM)));
        folders.extend(path.into_iter().flat_map(std::env::split_paths));
        let mut found: Vec<Self> = Vec::new();
        for program in folders.into_iter().map(|folder| folder.join(PROGRAM)).filter(|program| program.is_file()) {
            if let Some(major) = version(&program).await {
                found.push(Self { program, major });
            }
        }
        let newest = found.iter().map(|one| one.major).max();
        let fit = found.into_iter().filter(|one| one.major >= server).min_by_key(|one| one.major);
        fit.ok_or(DumpError::Missing { wanted: server, found: newest })
    }

    /// Looks whether the program gets in where `login` leads: before a long run, not after it.
    pub async fn reach(&self, login: &Login) -> Result<(), DumpError> {
        // Nothing is dumped, and so nothing is locked.
        self.output(login, &login.db, &["--exclude-schema=*".to_owned()]).await.map(drop)
    }

    /// The schema of a database of the server that `login` names.
    pub async fn schema(&self, login: &Login, db: &str) -> Result<String, DumpError> {
        let mut args = vec![format!("--exclude-schema={LEDGER_SCHEMA}")];
        args.extend(TOOLS.map(|table| format!("--exclude-table=*.{table}")));
        Ok(tidy(&self.output(login, db, &args).await?))
    }

    /// What it writes, logged in as our own sessions are: encrypted or not, and with the same trust.
    async fn output(&self, login: &Login, db: &str, args: &[String]) -> Result<String, DumpError> {
        let mut command = command(&self.program);
        command.args(FLAGS).args(args);
        let (host, port, tls) = match &login.target {
            Target::Socket { dir, port } => (dir.as_os_str(), port, &TlsMode::Disable),
            Target::Tcp { host, port, tls } => (OsStr::new(host), port, tls),
        };
        // Kept until the program has ended. Only we can read it.
        let authority = authority(tls).map_err(|source| DumpError::Authority { source })?;
        let rootcert = authority.as_ref().map_or(Path::new(NO_AUTHORITY), NamedTempFile::path);
        command
            .env("PGHOST", host)
            .env("PGPORT", port.to_string())
            .env("PGUSER", &login.user)
            .env("PGDATABASE", db)
            .env("PGSSLMODE", tls.sslmode())
            .env("PGSSLROOTCERT", rootcert)
            .env("PGGSSENCMODE", "disable")
            .env("PGCONNECT_TIMEOUT", "10")
            .env("PGPASSFILE", "/dev/null")
            .env("PGSERVICEFILE", "/dev/null");
        if let Some(password) = &login.password {
            // Readable only by the same user and root; an argument would be readable by everybody.
            command.env("PGPASSWORD", password.expose_secret());
        }
        let output =
            command.output().await.map_err(|source| DumpError::Run { program: self.program.clone(), source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
            return Err(DumpError::Failed(if said.is_empty() { output.status.to_string() } else { said }));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The certificates that count, as a file.
fn authority(tls: &TlsMode) -> io::Result<Option<NamedTempFile>> {
    let (TlsMode::VerifyCa(pem) | TlsMode::VerifyFull(pem)) = tls else { return Ok(None) };
    let mut file = tempfile::Builder::new().prefix("pgdb-authority-").suffix(".pem").tempfile()?;
    file.write_all(pem.as_bytes())?;
    Ok(Some(file))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null()).kill_on_drop(true);
    // A relocated installation has its libraries beside its programs.
    let libraries = program.parent().and_then(Path::parent).map(|root| root.join("lib"));
    if let Some(libraries) =
        libraries.filter(|lib| lib.is_dir() && !lib.starts_with("/usr") && lib != Path::new("/lib"))
    {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

async fn version(program: &Path) -> Option<u16> {
    let output = command(program).arg("--version").output().await.ok().filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let digits = said.strip_prefix("pg_dump (PostgreSQL) ")?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What one object of a dump is: its kind, its schema (empty for what is in none) and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectName {
    /// `TABLE`, `FUNCTION`, `FK CONSTRAINT`…
    pub kind: String,
    /// Its schema, or nothing.
    pub schema: String,
    /// Its name; of what belongs to a table, after the table's.
    pub name: String,
}

/// The dump without what says nothing about the schema: before the first object, and at the end.
///
/// What is inside an object is never touched, for it may be a function's body.
fn tidy(dump: &str) -> String {
    let (head, objects) = match dump.find("\n--\n-- Name: ") {
        Some(at) => dump.split_at(at),
        None => ("", dump),
    };
    let mut tidied = String::with_capacity(dump.len());
    for line in head.lines().filter(|line| line.starts_with("SET ") || line.starts_with("SELECT ")) {
        // Newer programs write it, and older servers do not know it.
        if !line.starts_with("SET transaction_timeout") {
            let _ = writeln!(tidied, "{line}");
        }
    }
    let end = objects.rfind("\n--\n-- PostgreSQL database dump complete\n").unwrap_or(objects.len());
    tidied.push_str(objects[..end].trim_end());
    tidied.push('\n');
    tidied
}

/// The objects of a dump, each with its statements.
pub(super) fn objects(dump: &str) -> Vec<(ObjectName, String)> {
    let mut found: Vec<(ObjectName, String)> = Vec::new();
    for line in dump.lines() {
        match (header(line), found.last_mut()) {
            (Some(name), _) => found.push((name, String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    for (_, text) in &mut found {
        // The frames of this object's header and of the next one's.
        let inner = text.trim_start_matches("--\n").trim();
        let mut inner = inner.strip_suffix("\n--").unwrap_or(inner).trim_end();
        // Settings for the next object, whichever that is.
        while let Some((before, _)) = inner.rsplit_once('\n').filter(|(_, line)| line.starts_with("SET default_")) {
            inner = before.trim_end();
        }
        *text = inner.to_owned();
    }
    found
}

/// `-- Name: orders; Type: TABLE; Schema: shop; Owner: -`.
fn header(line: &str) -> Option<ObjectName> {
    let (rest, _) = line.strip_prefix("-- Name: ")?.rsplit_once("; Owner: ")?;
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (name, kind) = rest.rsplit_once("; Type: ")?;
    let schema = if schema == "-" { "" } else { schema };
    Some(ObjectName { kind: kind.to_owned(), schema: schema.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version 16.2\n\
        -- Dumped by pg_dump version 17.1\n\nSET statement_timeout = 0;\nSET transaction_timeout = 0;\n\
        SELECT pg_catalog.set_config('search_path', '', false);\n\n--\n-- Name: shop; Type: SCHEMA; Schema: -; Owner: -\n--\n\n\
        CREATE SCHEMA shop;\n\n\nSET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n--\n-- Name: f(); Type: FUNCTION; Schema: shop; Owner: -\n--\n\n\
        CREATE FUNCTION shop.f() RETURNS void\n    AS $$\n\n\n-- Dumped by hand\n$$;\n\n\n--\n\
        -- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    #[test]
    fn what_changes_without_the_schema_is_left_out() {
        let tidied = tidy(DUMP);
        let begin =
            "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n--\n-- Name: shop;";
        assert!(tidied.starts_with(begin), "{tidied}");
        assert!(tidied.ends_with("    AS $$\n\n\n-- Dumped by hand\n$$;\n"), "{tidied}");
        assert!(!tidied.contains("restrict") && !tidied.contains("transaction_timeout"), "{tidied}");
        assert_eq!(tidy(""), "\n");
    }

    #[test]
    fn objects_are_told_apart_by_their_headers() {
        let found = objects(&tidy(DUMP));
        let name = |kind: &str, schema: &str, name: &str| ObjectName {
            kind: kind.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(found[0], (name("SCHEMA", "", "shop"), "CREATE SCHEMA shop;".to_owned()));
        assert_eq!(found[1].0, name("FUNCTION", "shop", "f()"));
        assert!(found[1].1.contains("\n\n\n-- Dumped by hand\n$$;"), "{found:?}");
        assert_eq!(found.len(), 2);
    }
}
