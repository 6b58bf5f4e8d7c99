//! Files of ours inside of a container, sent through the engine's archive calls: so no secret stands in what
//! `docker inspect` shows, and nothing has to be mounted from the daemon's machine.

use crate::conf::{self, AdminAccess, Surroundings};
use crate::docker::container::First;
use crate::docker::image::Image;
use crate::docker::plan::PORT;
use crate::error::RuntimeError;
use crate::seed;
use crate::spec::{ADMIN_ROLE, PREPARED_DB, ServerSpec};
use secrecy::ExposeSecret;
use std::io;
use std::path::Path;

/// The folder of our files in a container.
pub(crate) const DIR: &str = "/etc/pgdb";
/// There until the data has been made as a whole.
pub(crate) const FRESH: &str = "/etc/pgdb/fresh";
/// There until the administrator has come into data that was there before.
pub(crate) const TAKEOVER: &str = "/etc/pgdb/takeover.sql";
/// What sets the administrator's password on a running server.
pub(crate) const ADMISSION: &str = "/etc/pgdb/admission.sql";
/// Where PostgreSQL's socket is in every image.
pub(crate) const SOCKET_DIR: &str = "/var/run/postgresql";

/// What runs before the image's own entrypoint.
const RUN: &str = "\
#!/bin/sh
# Made by pgdb. Runs before the image's own entrypoint.
set -e
data=\"${PGDATA:-/var/lib/postgresql/data}\"
# Runs a server for one session, which its input gives, in the place of the one that the arguments tell of; the image's
# entrypoint becomes the right user for it.
alone() {
    left=$# known=
    while [ \"$left\" -gt 0 ]; do
        word=\"$1\"
        shift
        left=$((left - 1))
        [ \"$known\" ] || set -- \"$@\" \"$word\"
        [ \"$word\" != postgres ] || known=1
    done
    \"$@\" --single -c config_file=/etc/pgdb/postgresql.conf -c exit_on_error=on -c log_min_error_statement=panic postgres
}
if [ -s \"$data/PG_VERSION\" ] && [ ! -e /etc/pgdb/password ]; then
    # Some entrypoints read it at every start, and use it only for data that they make.
    echo unused >/etc/pgdb/password
    chmod 600 /etc/pgdb/password
fi
if [ -e /etc/pgdb/fresh ] && [ -d \"$data\" ]; then
    # The data has never been whole: what an interrupted start has left would be taken for a database.
    find \"$data\" -mindepth 1 -delete
fi
if [ \"$(id -u)\" = 0 ]; then chown -R postgres /etc/pgdb; fi
if [ -e /etc/pgdb/takeover.sql ]; then
    # Whoever made the data, our administrator has to come in, and knows none of its passwords.
    if [ ! -s \"$data/PG_VERSION\" ]; then
        echo \"FATAL:  there is no data of PostgreSQL in the volume at $data\" >&2
        exit 1
    fi
    alone \"$@\" </etc/pgdb/takeover.sql >/dev/null
    rm /etc/pgdb/takeover.sql
fi
exec \"$@\"
";

/// The last script that the entrypoint runs in a new data directory.
const LAST: &str = "\
#!/bin/sh
# Made by pgdb: what every server holds before it is anybody's.
set -e
psql -X -q -v ON_ERROR_STOP=1 -U pgdb_admin -d postgres -f /etc/pgdb/seed.sql
# Nothing of it may be lost once it counts as whole.
sync -f \"$PGDATA\" 2>/dev/null || sync
rm /etc/pgdb/fresh
# Nor may this come back, on which the data would be emptied.
sync -f /etc/pgdb 2>/dev/null || sync
";

/// Configuration and certificate, for every start, and what the first start has to do besides.
pub(crate) fn all(spec: &ServerSpec, image: &Image, first: First) -> Result<Vec<u8>, RuntimeError> {
    let mut archive = Archive::new()?;
    configuration(&mut archive, spec, image)?;
    match first {
        First::Make => first_start(&mut archive, spec)?,
        First::TakeOver => takeover(&mut archive, spec)?,
        First::Nothing => {}
    }
    archive.end()
}

fn configuration(archive: &mut Archive, spec: &ServerSpec, image: &Image) -> Result<(), RuntimeError> {
    let dir = Path::new(DIR);
    let around = Surroundings {
        listen: "*",
        port: PORT,
        socket_dir: Path::new(SOCKET_DIR),
        log_dir: None,
        tls_dir: dir,
        reflink: false,
    };
    let main = format!(
        "# Made by pgdb, which replaces it. Put settings of your own into custom.conf in the data directory: they win.\n\
         include = 'pgdb.conf'\ninclude_if_exists = '{}/custom.conf'\n",
        image.data
    );
    archive.file("run.sh", 0o755, RUN)?;
    archive.file("postgresql.conf", 0o600, &main)?;
    archive.file(conf::OUR_FILE, 0o600, &conf::settings(spec, around))?;
    let access = conf::host_based_authentication(spec.tls.is_some(), AdminAccess::Network);
    archive.file("pg_hba.conf", 0o600, &access)?;
    archive.file("pg_ident.conf", 0o600, &conf::identities("root", "postgres"))?;
    if let Some(tls) = &spec.tls {
        archive.file("server.crt", 0o600, &tls.certificate_pem)?;
        archive.file("server.key", 0o600, tls.key_pem.expose_secret())?;
    }
    Ok(())
}

/// The administrator's verifier, which needs no quoting.
fn verifier(spec: &ServerSpec) -> Result<&str, RuntimeError> {
    let plain = |text: &&str| !text.contains(['\'', '\\', '\n']);
    let missing =
        || RuntimeError::Unsupported("a server in a container needs a password for its administrator".to_owned());
    spec.admin_verifier.as_deref().filter(plain).ok_or_else(missing)
}

/// What lets the administrator into data that was there before, with a server of a single session: on one line, for it takes
/// each for a statement.
fn takeover(archive: &mut Archive, spec: &ServerSpec) -> Result<(), RuntimeError> {
    let rights = format!("ROLE {ADMIN_ROLE} SUPERUSER LOGIN PASSWORD '{}'", verifier(spec)?);
    let exists = format!("EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{ADMIN_ROLE}')");
    let statement =
        format!("DO $pgdb$ BEGIN IF {exists} THEN ALTER {rights}; ELSE CREATE {rights}; END IF; END $pgdb$\n");
    archive.file("takeover.sql", 0o600, &statement)
}

/// What sets the administrator's password on a running server.
pub(crate) fn admission(spec: &ServerSpec) -> Result<Vec<u8>, RuntimeError> {
    let mut archive = Archive::new()?;
    let statement = format!("ALTER ROLE {ADMIN_ROLE} LOGIN PASSWORD '{}';\n", verifier(spec)?);
    archive.file("admission.sql", 0o600, &statement)?;
    archive.end()
}

/// What the first start of new data needs besides.
fn first_start(archive: &mut Archive, spec: &ServerSpec) -> Result<(), RuntimeError> {
    let verifier = verifier(spec)?;
    let mut sql = script(&seed::cluster(spec.major, seed::Server::Running));
    let inside = seed::database(spec.major);
    if !inside.is_empty() {
        sql.push_str(&format!("\\connect {PREPARED_DB}\n"));
        sql.push_str(&script(&inside));
    }
    // A verifier: PostgreSQL stores it as it is, and the password itself never gets into the container.
    archive.file("password", 0o600, verifier)?;
    archive.file("seed.sql", 0o600, &sql)?;
    archive.file("fresh", 0o600, "")?;
    archive.at("docker-entrypoint-initdb.d/zz-pgdb.sh", 0o755, LAST)
}

fn script(statements: &[String]) -> String {
    statements.iter().map(|statement| format!("{statement};\n")).collect()
}

/// A tar archive to be unpacked at the root of a container, as root.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Result<Self, RuntimeError> {
        let mut archive = Self(tar::Builder::new(Vec::new()));
        let mut header = header(0, 0o700);
        header.set_entry_type(tar::EntryType::Directory);
        archive.0.append_data(&mut header, "etc/pgdb/", io::empty()).map_err(RuntimeError::io("pack", DIR))?;
        Ok(archive)
    }

    fn file(&mut self, name: &str, mode: u32, text: &str) -> Result<(), RuntimeError> {
        self.at(&format!("etc/pgdb/{name}"), mode, text)
    }

    fn at(&mut self, path: &str, mode: u32, text: &str) -> Result<(), RuntimeError> {
        let mut header = header(text.len() as u64, mode);
        self.0.append_data(&mut header, path, text.as_bytes()).map_err(RuntimeError::io("pack", path))
    }

    fn end(self) -> Result<Vec<u8>, RuntimeError> {
        self.0.into_inner().map_err(RuntimeError::io("pack", DIR))
    }
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
