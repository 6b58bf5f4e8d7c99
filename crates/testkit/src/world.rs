//! What may be left in the world, and what must not.

use crate::daemon::Daemon;
use crate::processes;
use regex::bytes::{Regex, RegexBuilder};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How large the search for secrets may become.
const SEARCH_BYTES: usize = 256 << 20;

/// Removing a large folder, or ending a server, may go on for a moment after the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Folders of a data directory whose entries belong to instances, by id.
const BY_INSTANCE: [&str; 2] = ["instances", "run"];
/// Folders of a data directory that are empty when nothing is at work.
const EMPTY: [&str; 3] = ["trash", "spool", "scratch"];
/// Files that hold a secret because that is what they are for.
const SECRET_FILES: [&str; 2] = ["master.key", "token"];
/// Folders of a server's data in which PostgreSQL keeps tables and logs of changes, never text of ours.
const TABLES: [&str; 4] = ["base", "global", "pg_wal", "pg_xact"];

/// What has to be there and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// Names of instances.
    pub instances: &'a [&'a str],
    /// Names of kept volumes.
    pub volumes: &'a [&'a str],
}

/// Panics unless the world holds exactly the instances of these names: their processes, folders, ports and rows, no
/// operation at work, and no secret anywhere it does not belong.
pub async fn assert_nothing_left(daemon: &Daemon, instances: &[&str]) {
    assert_only(daemon, Expected { instances, volumes: &[] }).await;
}

/// The same, with kept volumes.
pub async fn assert_only(daemon: &Daemon, expected: Expected<'_>) {
    let mut found = Vec::new();
    let clean = tokio::time::timeout(LIMIT, async {
        loop {
            found = findings(daemon, expected);
            found.extend(containers(daemon, expected).await);
            if found.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if clean.await.is_err() {
        panic!("the world is not as it should be:\n  {}", found.join("\n  "));
    }
}

/// Everything that is there and should not be, or the other way round.
pub fn findings(daemon: &Daemon, expected: Expected<'_>) -> Vec<String> {
    let rows = match Rows::read(&daemon.state_file()) {
        Ok(rows) => rows,
        Err(error) => return vec![format!("the state file cannot be read: {error}")],
    };
    let mut found = rows.findings(expected);
    let processes = rows.instances.iter().filter(|instance| !instance.contained);
    let ids: BTreeSet<&str> = processes.map(|instance| instance.id.as_str()).collect();
    // Data that was kept is where it was made.
    let kept = if daemon.engine().is_some() { Expected::default() } else { expected };
    found.extend(folders(daemon.data_dir(), &ids, kept));
    found.extend(servers(daemon.data_dir(), &ids));
    let given_out: BTreeSet<u16> = rows.instances.iter().map(|instance| instance.port).collect();
    for port in processes::listening_ports().into_keys().filter(|port| daemon.owns_port(*port)) {
        if !given_out.contains(&port) {
            found.push(format!("port {port} is listened on and belongs to no instance"));
        }
    }
    // A client program that outlived the daemon which had started it.
    for process in processes::all_given(daemon.data_dir()) {
        if !process.cwd.starts_with(daemon.data_dir()) && Some(process.pid) != daemon.running_pid() {
            found.push(format!("process {} ({}) was left behind", process.pid, process.cmdline));
        }
    }
    found.extend(secrets(daemon));
    found
}

/// The same of the engine that the databases run in: a container and a volume for each, and no secret in what it shows.
async fn containers(daemon: &Daemon, expected: Expected<'_>) -> Vec<String> {
    let (Some(engine), Ok(rows)) = (daemon.engine(), Rows::read(&daemon.state_file())) else { return Vec::new() };
    let (listed, volumes) = (engine.containers().await, engine.volumes().await);
    let text = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let names: BTreeSet<String> = listed.iter().map(|container| text(&container["Names"][0])).collect();
    let wanted: Vec<String> = expected.instances.iter().map(|name| format!("pgdb-{name}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut found: Vec<String> =
        difference("containers", names.iter().map(String::as_str).collect(), &wanted).into_iter().collect();
    let names: BTreeSet<String> = volumes.iter().map(|volume| text(&volume["Name"])).collect();
    let own = rows.instances.iter().map(|instance| instance.volume.as_str());
    let wanted: Vec<&str> = own.chain(expected.volumes.iter().copied()).collect();
    found.extend(difference("volumes", names.iter().map(String::as_str).collect(), &wanted));
    for container in &listed {
        let id = text(&container["Id"]);
        let shown = engine.try_ask(&format!("/containers/{id}/json")).await;
        let log = engine.try_ask(&format!("/containers/{id}/logs?stdout=true&stderr=true")).await;
        for (what, said) in [("what the engine shows of", shown), ("the log of", log)] {
            if daemon.secrets().iter().any(|secret| said.contains(secret.as_str())) {
                found.push(format!("a secret stands in {what} a container"));
            }
        }
    }
    found
}

/// The newest operation of a kind, if there is one.
pub fn latest_operation(daemon: &Daemon, kind: &str) -> Option<String> {
    let connection = Connection::open_with_flags(daemon.state_file(), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(Duration::from_secs(5)).ok()?;
    let sql = "SELECT id FROM operations WHERE kind = ?1 ORDER BY seq DESC LIMIT 1";
    connection.query_row(sql, [kind], |row| row.get(0)).ok()
}

/// An instance's row.
#[derive(Debug, Clone)]
pub struct InstanceRow {
    /// Our identifier.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Whether it runs in a container.
    pub contained: bool,
    /// Its volume.
    pub volume: String,
}

/// What the state file says.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Instances.
    pub instances: Vec<InstanceRow>,
    /// Kept volumes.
    pub volumes: Vec<String>,
    /// Operations that have not ended: kind, subject and state.
    pub active: Vec<String>,
}

impl Rows {
    /// Reads the state file without changing it.
    pub fn read(state_file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open_with_flags(state_file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let instances = connection
            .prepare("SELECT id, name, port, runtime = 'docker', volume FROM instances")?
            .query_map([], |row| {
                Ok(InstanceRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    port: row.get(2)?,
                    contained: row.get(3)?,
                    volume: row.get(4)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let texts = |sql: &str| -> rusqlite::Result<Vec<String>> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        Ok(Self {
            instances,
            volumes: texts("SELECT name FROM volumes")?,
            active: texts(
                "SELECT kind || ' of ' || subject || ' is ' || state FROM operations WHERE finished_at IS NULL",
            )?,
        })
    }

    fn findings(&self, expected: Expected<'_>) -> Vec<String> {
        let mut found: Vec<String> = self.active.iter().map(|operation| format!("{operation}, not ended")).collect();
        let names = self.instances.iter().map(|instance| instance.name.as_str());
        found.extend(difference("instance rows", names.collect(), expected.instances));
        let volumes = self.volumes.iter().map(String::as_str);
        found.extend(difference("volume rows", volumes.collect(), expected.volumes));
        found
    }
}

fn difference(what: &str, have: BTreeSet<&str>, want: &[&str]) -> Option<String> {
    let want: BTreeSet<&str> = want.iter().copied().collect();
    (have != want).then(|| format!("{what} are {have:?} and should be {want:?}"))
}

/// The folder of an instance's data, which holds `PG_VERSION`.
pub fn pgdata(daemon: &Daemon, name: &str) -> PathBuf {
    let rows = Rows::read(&daemon.state_file()).expect("read the state file");
    let row = rows.instances.iter().find(|row| row.name == name).expect("the instance has a row");
    let folder = daemon.data_dir().join("instances").join(&row.id);
    let data = [folder.clone(), folder.join("data"), folder.join("pgdata")];
    data.into_iter().find(|path| path.join("PG_VERSION").exists()).expect("the instance has data")
}

/// The process id of an instance's server, as its own pid file says.
pub fn postmaster_pid(daemon: &Daemon, name: &str) -> i32 {
    let text = fs::read_to_string(pgdata(daemon, name).join("postmaster.pid")).expect("the server has a pid file");
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("the pid file begins with a process id")
}

fn folders(data_dir: &Path, ids: &BTreeSet<&str>, expected: Expected<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let entries = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(data_dir.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for folder in BY_INSTANCE {
        for entry in entries(folder) {
            if !ids.iter().any(|id| entry == *id) {
                found.push(format!("{folder}/{entry} belongs to no instance"));
            }
        }
    }
    for id in ids {
        if !data_dir.join("instances").join(id).is_dir() {
            found.push(format!("instances/{id} is missing"));
        }
    }
    for folder in EMPTY {
        found.extend(entries(folder).into_iter().map(|entry| format!("{folder}/{entry} is left over")));
    }
    let volumes = entries("kept");
    found.extend(difference("kept folders", volumes.iter().map(String::as_str).collect(), expected.volumes));
    found
}

fn servers(data_dir: &Path, ids: &BTreeSet<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let mut servers: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for process in processes::postmasters_in(data_dir) {
        let owner = ids.iter().find(|id| process.cwd.components().any(|part| part.as_os_str() == **id));
        match owner {
            Some(id) => servers.entry(id).or_default().push(process.pid),
            None => {
                let (pid, cwd) = (process.pid, process.cwd.display());
                found.push(format!("process {pid} ({}) works in {cwd} and belongs to no instance", process.cmdline));
            }
        }
    }
    for (id, pids) in servers.into_iter().filter(|(_, pids)| pids.len() > 1) {
        found.push(format!("{id} has more than one server: {pids:?}"));
    }
    found
}

/// Where a secret is that was seen on the wire or lies in the master key's file.
fn secrets(daemon: &Daemon) -> Vec<String> {
    let mut secrets = daemon.secrets();
    for name in SECRET_FILES {
        let text = fs::read_to_string(daemon.data_dir().join(name)).unwrap_or_default();
        secrets.extend(text.lines().map(str::trim).filter(|line| line.len() >= 16).map(str::to_owned));
    }
    // One search for all: a crash test learns hundreds, and looks through everything after each case.
    let Some(any) = any_of(&secrets) else { return Vec::new() };
    let mut places: Vec<(String, Vec<u8>)> = vec![("the daemon's log".to_owned(), daemon.log().into_bytes())];
    for process in [processes::all_in(daemon.data_dir()), processes::all_given(daemon.data_dir())].concat() {
        places.push((format!("the arguments of process {}", process.pid), process.cmdline.into_bytes()));
    }
    let mut files = Vec::new();
    collect_files(daemon.data_dir(), &mut files);
    for file in files {
        // It may have been removed meanwhile.
        places.push((file.display().to_string(), fs::read(&file).unwrap_or_default()));
    }
    let mut found = Vec::new();
    for (place, bytes) in &places {
        // Where there are many, one line tells enough.
        if let Some(hit) = any.find(bytes) {
            let begin = bytes[..hit.start()].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let before = String::from_utf8_lossy(&bytes[begin..hit.start()]);
            let shown: String = before.chars().take(300).collect();
            found.push(format!("a secret stands in {place}, behind: {shown}"));
        }
    }
    found
}

/// Finds any of them; none where there are none.
fn any_of(secrets: &BTreeSet<String>) -> Option<Regex> {
    let texts: Vec<String> =
        secrets.iter().filter(|secret| !secret.is_empty()).map(|secret| regex::escape(secret)).collect();
    let any = RegexBuilder::new(&texts.join("|")).size_limit(SEARCH_BYTES).dfa_size_limit(SEARCH_BYTES).build();
    (!texts.is_empty()).then(|| any.expect("a search for secrets"))
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !TABLES.iter().any(|table| name == *table) {
            collect_files(&path, files);
        } else if kind.is_file() && !SECRET_FILES.iter().any(|secret| name == *secret) {
            files.push(path);
        }
    }
}
