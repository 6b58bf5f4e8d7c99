//! The text of a server's configuration files. Pure.

use crate::spec::{ADMIN_ROLE, ServerSpec};
use std::fmt::Write;
use std::path::Path;

/// The file with our settings; a newer pgdb rewrites it.
pub(crate) const OUR_FILE: &str = "pgdb.conf";
/// How logs of the server are named: their names' order is the order of time.
pub(crate) const LOG_PREFIX: &str = "postgresql-";

/// A role that is nowhere: a session is asked for in its name to see whether the server accepts any. It is asked for its
/// password, as if it were there, and nothing is logged when the session ends then.
pub(crate) const PROBE_ROLE: &str = "pgdb_probe";

/// `postgresql.conf`, which only points to others. What a person adds in `custom.conf` stands and wins.
pub(crate) const MAIN: &str = "\
# Made by pgdb, which replaces this file and pgdb.conf at each start. Put settings of your own into custom.conf
# beside it: they come last and win.
include = 'pgdb.conf'
include_if_exists = 'custom.conf'
";

/// `custom.conf` as a new server has it. Never written again.
pub(crate) const CUSTOM: &str =
    "# Settings of your own. They come after pgdb's and win; pgdb never changes this file.\n";

/// What the configuration needs to know besides the spec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// `listen_addresses`.
    pub(crate) listen: &'a str,
    /// The port that the server itself listens on.
    pub(crate) port: u16,
    pub(crate) socket_dir: &'a Path,
    /// Where the server keeps its log; nothing where what it says is kept by something else.
    pub(crate) log_dir: Option<&'a Path>,
    pub(crate) tls_dir: &'a Path,
    /// Whether the file system shares blocks between copies.
    pub(crate) reflink: bool,
}

/// How our administrator may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAccess {
    /// Through the private socket alone.
    Socket,
    /// Over the network as well, with a password: there is no socket that we could reach.
    Network,
}

/// `pgdb.conf`.
pub(crate) fn settings(spec: &ServerSpec, around: Surroundings<'_>) -> String {
    let sizes = &spec.settings;
    let mut text = String::from("# Made by pgdb; changes are lost at the next start. Use custom.conf.\n");
    let mut set = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quote(value));
    };
    let megabytes = |value: u64| format!("{value}MB");
    set("cluster_name", &cluster_name(&spec.name));
    set("listen_addresses", around.listen);
    set("port", &around.port.to_string());
    set("unix_socket_directories", &list_item(&around.socket_dir.display().to_string()));
    set("unix_socket_permissions", "0700");
    set("password_encryption", "scram-sha-256");

    set("max_connections", &sizes.max_connections.to_string());
    set("shared_buffers", &megabytes(sizes.shared_buffers_mb));
    set("huge_pages", "try");
    set("dynamic_shared_memory_type", "posix");
    set("effective_cache_size", &megabytes(sizes.effective_cache_size_mb));
    set("work_mem", &megabytes(sizes.work_mem_mb));
    set("maintenance_work_mem", &megabytes(sizes.maintenance_work_mem_mb));
    // Logical replication and extensions draw from the same pool as parallel queries.
    set("max_worker_processes", &sizes.workers.max(8).to_string());
    set("max_parallel_workers", &sizes.workers.to_string());
    set("wal_level", "replica");
    set("max_wal_size", &megabytes(sizes.max_wal_size_mb));
    if spec.major >= 18 {
        set("file_copy_method", if around.reflink { "clone" } else { "copy" });
    }

    set("log_destination", "stderr");
    set("logging_collector", if around.log_dir.is_some() { "on" } else { "off" });
    if let Some(dir) = around.log_dir {
        set("log_directory", &dir.display().to_string());
        set("log_filename", &format!("{LOG_PREFIX}%Y%m%d-%H%M%S.log"));
        set("log_file_mode", "0600");
        set("log_rotation_age", "1d");
        set("log_rotation_size", "10MB");
    }
    set("log_line_prefix", "%m [%p] %q%u@%d ");
    set("log_timezone", "Etc/UTC");

    set("timezone", "Etc/UTC");
    set("datestyle", "iso, mdy");
    set("default_text_search_config", "pg_catalog.english");
    // Reasons for failures are read from the log, so it must be in one language.
    set("lc_messages", "C");

    set("ssl", if spec.tls.is_some() { "on" } else { "off" });
    if spec.tls.is_some() {
        set("ssl_cert_file", &around.tls_dir.join("server.crt").display().to_string());
        set("ssl_key_file", &around.tls_dir.join("server.key").display().to_string());
    }
    text
}

/// `pg_hba.conf`: our administrator through the private socket, everybody else by password.
pub(crate) fn host_based_authentication(tls: bool, admin: AdminAccess) -> String {
    let host = if tls { "hostssl" } else { "host" };
    let refuse_admin = match admin {
        AdminAccess::Socket => format!("host all {ADMIN_ROLE} all reject\nhost replication {ADMIN_ROLE} all reject\n"),
        // Also in the clear where TLS is demanded, for no secret is ever sent.
        AdminAccess::Network => format!("host postgres {PROBE_ROLE} all scram-sha-256\n"),
    };
    format!(
        "\
# Made by pgdb, which replaces it at each start.
# TYPE DATABASE USER ADDRESS METHOD
local all {ADMIN_ROLE} peer map=pgdb
local replication {ADMIN_ROLE} peer map=pgdb
local all all scram-sha-256
local replication all scram-sha-256
{refuse_admin}{host} all all all scram-sha-256
{host} replication all all scram-sha-256
"
    )
}

/// `pg_ident.conf`: which users of the operating system are our administrator.
pub(crate) fn identities(daemon: &str, server: &str) -> String {
    let mut text =
        String::from("# Made by pgdb, which replaces it at each start.\n# MAPNAME SYSTEM-USERNAME PG-USERNAME\n");
    let mut users = vec![daemon, server];
    users.dedup();
    for user in users {
        let _ = writeln!(text, "pgdb \"{}\" {ADMIN_ROLE}", user.replace('"', "\"\""));
    }
    text
}

/// A value in single quotes. PostgreSQL reads backslash escapes in them.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// One item of a setting that is a list of names, which splits at commas and folds case unless quoted.
fn list_item(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// The name in process titles: at most 63 bytes of plain ASCII.
fn cluster_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TlsFiles;
    use pgdb_core::sizing::ServerSettings;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn spec() -> ServerSpec {
        ServerSpec {
            id: "i1".to_owned(),
            name: "orders".to_owned(),
            volume: "pgdb-orders".to_owned(),
            major: 15,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 5433,
            settings: ServerSettings {
                max_connections: 50,
                shared_buffers_mb: 64,
                effective_cache_size_mb: 192,
                work_mem_mb: 4,
                maintenance_work_mem_mb: 16,
                max_wal_size_mb: 256,
                workers: 2,
            },
            tls: None,
            system_identifier: 1,
            size_gb: None,
            memory_mb: None,
            admin_verifier: None,
            container: None,
        }
    }

    fn text(spec: &ServerSpec, dir: &str, reflink: bool) -> String {
        let dir = Path::new(dir);
        let listen = spec.listen.to_string();
        let around = Surroundings {
            listen: &listen,
            port: spec.port,
            socket_dir: dir,
            log_dir: Some(dir),
            tls_dir: dir,
            reflink,
        };
        settings(spec, around)
    }

    #[test]
    fn settings_say_what_the_spec_says() {
        let text = text(&spec(), "/d", true);
        for line in [
            "cluster_name = 'orders'",
            "listen_addresses = '127.0.0.1'",
            "port = '5433'",
            "unix_socket_directories = '\"/d\"'",
            "max_connections = '50'",
            "shared_buffers = '64MB'",
            "max_wal_size = '256MB'",
            "max_worker_processes = '8'",
            "ssl = 'off'",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("file_copy_method") && !text.contains("ssl_key_file"));
    }

    #[test]
    fn majors_and_tls_add_theirs() {
        let mut spec = spec();
        spec.major = 18;
        spec.listen = IpAddr::V6(Ipv6Addr::LOCALHOST);
        spec.tls = Some(TlsFiles { certificate_pem: "CERT".to_owned(), key_pem: "KEY".to_owned().into() });
        let with = text(&spec, "/d", true);
        assert!(with.contains("file_copy_method = 'clone'\n") && with.contains("listen_addresses = '::1'\n"));
        assert!(with.contains("ssl = 'on'\n") && with.contains("ssl_key_file = '/d/server.key'\n"));
        assert!(!with.contains("KEY"));
        assert!(text(&spec, "/d", false).contains("file_copy_method = 'copy'\n"));
    }

    #[test]
    fn odd_paths_cannot_add_a_line() {
        let text = text(&spec(), "/it's, \"x\"\\\nport = 1", false);
        assert!(text.contains("log_directory = '/it''s, \"x\"\\\\\\nport = 1'\n"), "{text}");
        assert!(text.contains("unix_socket_directories = '\"/it''s, \"\"x\"\"\\\\\\nport = 1\"'\n"), "{text}");
        assert!(!text.lines().any(|line| line == "port = 1"));
    }

    #[test]
    fn the_administrator_has_no_way_in_over_the_network() {
        for tls in [false, true] {
            let text = host_based_authentication(tls, AdminAccess::Socket);
            let position = |line: &str| text.lines().position(|found| found == line);
            let host = if tls { "hostssl" } else { "host" };
            let reject = position("host all pgdb_admin all reject").expect("rejects");
            let others = position(&format!("{host} all all all scram-sha-256")).expect("allows others");
            assert!(reject < others);
            assert_eq!(text.contains("\nhost all all"), !tls, "plain connections only without TLS");
            assert!(!text.contains("trust"));
        }
    }

    #[test]
    fn where_the_administrator_has_no_socket_it_comes_by_password_like_everybody() {
        let text = host_based_authentication(true, AdminAccess::Network);
        assert!(!text.contains("reject") && !text.contains("trust"), "{text}");
        let plain: Vec<&str> = text.lines().filter(|line| line.starts_with("host ")).collect();
        assert_eq!(plain, ["host postgres pgdb_probe all scram-sha-256"], "no plain connections with TLS");
    }

    #[test]
    fn without_a_log_folder_the_server_writes_none() {
        let dir = Path::new("/run");
        let around =
            Surroundings { listen: "*", port: 5432, socket_dir: dir, log_dir: None, tls_dir: dir, reflink: false };
        let text = settings(&spec(), around);
        assert!(text.contains("logging_collector = 'off'\n") && text.contains("listen_addresses = '*'\n"), "{text}");
        assert!(text.contains("port = '5432'\n") && !text.contains("log_directory"), "{text}");
    }

    #[test]
    fn the_daemon_and_the_server_are_the_administrator() {
        assert!(identities("root", "postgres").ends_with("pgdb \"root\" pgdb_admin\npgdb \"postgres\" pgdb_admin\n"));
        assert_eq!(identities("me", "me").matches("pgdb_admin").count(), 1);
    }
}
