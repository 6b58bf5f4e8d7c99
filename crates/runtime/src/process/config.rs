//! The configuration files of a server, as text. Pure.

use super::account::Account;
use crate::spec::{ADMIN_ROLE, ServerSpec};
use std::fmt::Write;
use std::path::Path;

/// Names of the certificate files beside the data.
pub(super) const CERTIFICATE: &str = "server.crt";
pub(super) const KEY: &str = "server.key";

/// Where a server's configuration points to.
pub(super) struct Places<'a> {
    pub(super) instance: &'a Path,
    pub(super) log: &'a Path,
    pub(super) socket: &'a Path,
    /// Whether new databases may be made by reflink.
    pub(super) reflink: bool,
}

/// `postgresql.conf`. What a person changes goes into `custom.conf`, which is read last and never written by us.
pub(super) fn postgresql_conf(spec: &ServerSpec, places: &Places<'_>) -> String {
    let settings = &spec.settings;
    let mut text =
        String::from("# Written by pgdb at every configure. Put changes into custom.conf beside this file.\n");
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} = {}", quote(value));
    };
    let mb = |value: u64| format!("{value}MB");
    set("listen_addresses", &spec.listen.to_string());
    set("port", &spec.port.to_string());
    set("unix_socket_directories", &places.socket.display().to_string());
    set("unix_socket_permissions", "0700");
    set("cluster_name", &spec.name);
    set("max_connections", &settings.max_connections.to_string());
    set("shared_buffers", &mb(settings.shared_buffers_mb));
    set("effective_cache_size", &mb(settings.effective_cache_size_mb));
    set("work_mem", &mb(settings.work_mem_mb));
    set("maintenance_work_mem", &mb(settings.maintenance_work_mem_mb));
    set("max_wal_size", &mb(settings.max_wal_size_mb));
    set("min_wal_size", &mb((settings.max_wal_size_mb / 4).max(64)));
    set("max_worker_processes", &settings.workers.max(8).to_string());
    set("max_parallel_workers", &settings.workers.to_string());
    set("wal_level", "replica");
    set("password_encryption", "scram-sha-256");
    set("dynamic_shared_memory_type", "posix");
    set("log_destination", "stderr");
    set("logging_collector", "on");
    set("log_directory", &places.log.display().to_string());
    set("log_filename", "postgresql-%Y%m%d-%H%M%S.log");
    set("log_file_mode", "0600");
    set("log_rotation_size", "10MB");
    set("log_rotation_age", "1d");
    set("log_line_prefix", "%m [%p] %q%u@%d ");
    set("log_timezone", "UTC");
    set("timezone", "UTC");
    set("lc_messages", "C");
    set("default_text_search_config", "pg_catalog.english");
    if places.reflink && spec.major >= 18 {
        set("file_copy_method", "clone");
    }
    if spec.tls.is_some() {
        set("ssl", "on");
        set("ssl_min_protocol_version", "TLSv1.2");
        set("ssl_cert_file", &places.instance.join(CERTIFICATE).display().to_string());
        set("ssl_key_file", &places.instance.join(KEY).display().to_string());
    }
    text.push_str("include_if_exists = 'custom.conf'\n");
    text
}

/// `pg_hba.conf`: our administrator through the private socket alone, everybody else with a SCRAM password.
pub(super) fn pg_hba_conf(spec: &ServerSpec) -> String {
    let host = if spec.tls.is_some() { "hostssl" } else { "host" };
    let mut text = String::from("# Written by pgdb at every configure.\n");
    let _ = writeln!(text, "local all {ADMIN_ROLE} peer map=pgdb");
    let _ = writeln!(text, "local all all scram-sha-256");
    let _ = writeln!(text, "host all {ADMIN_ROLE} all reject");
    let _ = writeln!(text, "{host} all all all scram-sha-256");
    let _ = writeln!(text, "{host} replication all all scram-sha-256");
    text
}

/// `pg_ident.conf`: which operating-system users are our administrator.
pub(super) fn pg_ident_conf(account: &Account) -> String {
    let mut text = String::from("# Written by pgdb at every configure.\n");
    let mut users = vec![&account.daemon, &account.name];
    users.dedup();
    for user in users {
        let _ = writeln!(text, "pgdb \"{}\" {ADMIN_ROLE}", user.replace('"', "\"\""));
    }
    text
}

fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgdb_core::instance::RequestedSettings;
    use pgdb_core::sizing::{Machine, plan_settings};
    use std::net::Ipv4Addr;

    fn spec() -> ServerSpec {
        ServerSpec {
            id: "in_1".to_owned(),
            name: "it's".to_owned(),
            volume: "pgdb-x".to_owned(),
            major: 18,
            listen: Ipv4Addr::LOCALHOST.into(),
            port: 15432,
            settings: plan_settings(Machine { memory_mb: 1024, cpus: 2 }, &RequestedSettings::default()),
            tls: None,
            system_identifier: 1,
        }
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        let (instance, log, socket) = (Path::new("/a\nport = 1"), Path::new("/it's"), Path::new("/s"));
        let text = postgresql_conf(&spec(), &Places { instance, log, socket, reflink: true });
        assert!(text.contains("log_directory = '/it''s'\n") && text.contains("file_copy_method = 'clone'\n"));
        assert_eq!(text.lines().filter(|line| line.starts_with("port =")).count(), 1);
        assert_eq!(quote("a\\b'c\nd"), "'a\\\\b''c d'");
    }

    #[test]
    fn with_tls_plain_connections_have_no_line() {
        let tls = crate::spec::TlsFiles { certificate_pem: String::new(), key_pem: "".into() };
        let text = pg_hba_conf(&ServerSpec { tls: Some(tls), ..spec() });
        assert!(text.lines().filter(|line| line.starts_with("host ")).all(|line| line.ends_with("reject")));
        assert!(text.contains("hostssl all all all scram-sha-256"));
    }
}
