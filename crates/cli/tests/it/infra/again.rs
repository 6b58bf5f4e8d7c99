//! What `pgdb infra bootstrap` and `scripts/install.sh` find on a server that is in use: settings, a volume, the original.

use super::bootstrap::Bed;
use pgdb_testkit::machine::Machine;
use std::net::{Ipv4Addr, TcpListener};

/// What the original was told, once in its unit and once in a file.
const ORIGINAL: &str = r#"
set -eu
printf 'PGDB_TOKEN="%s"\n' GIVEN >/etc/pgdbd.env
cat >/etc/systemd/system/pgdbd.service <<'UNIT'
[Service]
Environment="PGDB_LISTEN=127.0.0.1:PORT" PGDB_PUBLIC_HOST=db.example.org
EnvironmentFile=/etc/pgdbd.env
ExecStart=/bin/sleep infinity
UNIT
systemctl daemon-reload
systemctl start pgdbd.service
mkdir -p /var/lib/pgdb
echo '{"items":[]}' >/var/lib/pgdb/registry.json
"#;
const TOKEN: &str = "0123456789abcdefghijABCDEFGHIJ-original";

#[test]
fn the_original_keeps_its_token_its_settings_and_its_place() {
    let bed = Bed::on(Machine::with_volume());
    let port = bed.machine.http_port().to_string();
    bed.machine.output(&ORIGINAL.replace("GIVEN", TOKEN).replace("PORT", &port));
    let key = bed.machine.host_key();
    let flags = ["--engine", "none", "--host-key", &key];

    // Its data is not on the volume, and may be in use.
    let ran = bed.upgrade(&flags);
    assert!(ran.status == Some(1) && ran.stderr.contains("something in /var/lib/pgdb"), "{ran:?}");
    assert!(ran.stderr.contains("--no-volume") && ran.stderr.contains("systemctl stop"), "{ran:?}");
    assert_eq!(bed.machine.output("systemctl is-active pgdbd.service"), "active\n");
    assert_eq!(bed.machine.output("mount | grep -c /mnt/pgdb || true"), "0\n");

    let done = bed.upgrade(&[&flags[..], &["--no-volume", "--json"]].concat()).document("in its place");
    assert_eq!(done["token"], TOKEN);
    assert_eq!(done["url"], format!("http://127.0.0.1:{port}"));
    let settings = bed.machine.output("cat /etc/pgdb/pgdb.env");
    for line in [&format!("PGDB_LISTEN='127.0.0.1:{port}'"), "PGDB_PUBLIC_HOST='db.example.org'"] {
        assert!(settings.lines().any(|found| found == line), "{line}: {settings}");
    }
    assert_eq!(bed.ask(TOKEN, &["list", "--json"]).status, Some(0));
    assert_eq!(bed.machine.output("ls /etc/pgdb/pgdbd.service.before-pgdb"), "/etc/pgdb/pgdbd.service.before-pgdb\n");
}

/// Puts the installer there, to be run as somebody does on the server, with the program that is installed.
fn send_installer(bed: &Bed) {
    let files = [
        ("scripts/install.sh", include_str!("../../../../../scripts/install.sh")),
        ("systemd/pgdb.service", include_str!("../../../../../systemd/pgdb.service")),
    ];
    for (name, text) in files {
        bed.machine.output(&format!(
            "mkdir -p /opt/pgdb/$(dirname {name}) && cat >/opt/pgdb/{name} <<'THE_END'\n{text}THE_END\n"
        ));
    }
    bed.machine.output("cp /usr/local/bin/pgdb /opt/pgdb/pgdb");
}

fn main_pid(bed: &Bed) -> String {
    bed.machine.output("systemctl show --property MainPID --value pgdb.service")
}

#[test]
fn a_server_in_use_keeps_what_was_set_there_and_what_was_begun_is_ended() {
    let bed = Bed::on(Machine::with_volume());
    let key = bed.machine.host_key();
    let first = ["--host-key", &key, "--public-host", "127.0.0.1", "--json"];
    // A volume that somebody uses otherwise is not ours to take.
    bed.machine.output("mkdir /mnt/other && mount /dev/disk/by-id/scsi-0HC_Volume_4711 /mnt/other");
    let ran = bed.run(&first);
    assert!(ran.status == Some(1) && ran.stderr.contains("is mounted at /mnt/other"), "{ran:?}");
    bed.machine.output("umount /mnt/other");
    let token = bed.run(&first).document("the first run")["token"].as_str().expect("a token").to_owned();

    // Since then somebody has closed the port, and comes through a tunnel.
    let port = bed.machine.http_port();
    bed.machine.output(&format!("sed -i \"s/^PGDB_LISTEN=.*/PGDB_LISTEN='127.0.0.1:{port}'/\" /etc/pgdb/pgdb.env"));
    let settings = bed.machine.output("cat /etc/pgdb/pgdb.env");
    let tunnel = format!("http://localhost:{port}");
    bed.set_default(&tunnel);
    bed.upgrade(&["--json"]).document("again");
    assert_eq!(bed.machine.output("cat /etc/pgdb/pgdb.env"), settings);
    assert_eq!(bed.default(), tunnel);

    // A run that ends before the service is started again: the next one sees to it. What root's shell calls the server has
    // no say in who is asked.
    send_installer(&bed);
    let install = "PGDB_SERVER_URL=http://127.0.0.1:1 bash /opt/pgdb/scripts/install.sh";
    let before = main_pid(&bed);
    bed.machine.output(&format!("PGDB_LOG=debug {install} --binary /opt/pgdb/pgdb --no-start"));
    assert_eq!(main_pid(&bed), before);
    bed.machine.output(&format!("{install} --binary /opt/pgdb/pgdb"));
    let restarted = main_pid(&bed);
    assert_ne!(restarted, before);
    let said = bed.machine.output(&format!("{install} --binary /opt/pgdb/pgdb"));
    assert!(said.contains("everything was as it should be"), "{said}");
    assert_eq!(main_pid(&bed), restarted);

    // A port that is root's, and a certificate that this machine does not know.
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let low = (600..1024).find(free).expect("a free port");
    let tls = "openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=db.example.org -days 1 -keyout /etc/pgdb/api.key \
               -out /etc/pgdb/api.pem 2>/dev/null && chown pgdb /etc/pgdb/api.key && export PGDB_TLS_CERT=/etc/pgdb/api.pem \
               PGDB_TLS_KEY=/etc/pgdb/api.key";
    let said = bed.machine.output(&format!("{tls} PGDB_LISTEN=127.0.0.1:{low}; {install} --binary /opt/pgdb/pgdb"));
    assert!(said.contains("pgdb runs, and is ready"), "{said}");
    let url = bed.upgrade(&["--json"]).document("with TLS")["url"].clone();
    assert_eq!(url, format!("https://127.0.0.1:{low}"));

    // Away again, although its data is on a mount of its own.
    assert!(bed.machine.output("cat /etc/pgdb/pgdb.env").contains(&token));
    let said = bed.machine.output(&format!("{install} --uninstall --purge"));
    assert!(said.contains("pgdb is gone, and its data"), "{said}");
    assert_eq!(
        bed.machine.output("ls -A /var/lib/pgdb; ls -d /etc/pgdb 2>/dev/null; getent passwd pgdb || echo gone"),
        "gone\n"
    );
    assert_eq!(bed.machine.output("systemctl is-active pgdb.service || true"), "inactive\n");
}
