//! The schema as a file.

use anyhow::Context as _;
use pgdb_pg::migrate::dump::PgDump;
use pgdb_pg::migrate::session::{Login, Session};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The `pg_dump` of this machine that fits the server.
pub(super) async fn pg_dump(session: &Session) -> anyhow::Result<PgDump> {
    let engines = std::env::var_os("PGDB_ENGINES_DIR").map(PathBuf::from);
    let path = std::env::var_os("PATH");
    Ok(PgDump::find(engines.as_deref(), path.as_deref(), session.client().major()).await?)
}

/// The same, once it is known that it gets in where `login` leads.
pub(super) async fn reaching(session: &Session, login: &Login) -> anyhow::Result<PgDump> {
    let dump = pg_dump(session).await?;
    dump.reach(login).await?;
    Ok(dump)
}

/// Writes the schema, aside and then renamed: a broken dump never has the name of a whole one.
pub(super) async fn write(dump: &PgDump, login: &Login, to: &Path) -> anyhow::Result<()> {
    let schema = dump.schema(login, &login.db).await?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".schema-").tempfile_in(folder)?;
        file.write_all(schema.as_bytes())?;
        // As any other source file, and not only for its owner.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.persist(to).map_err(|error| error.error)?;
        Ok(())
    };
    written().with_context(|| format!("could not write {}", to.display()))
}
