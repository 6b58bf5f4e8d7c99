//! Host keys of servers of ours, in the format of OpenSSH.

use crate::error::Error;
use crate::place::replace;
use pgdb_core::infra::host_key::HostKey;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The file with them.
#[derive(Debug, Clone)]
pub struct KnownHosts {
    path: PathBuf,
}

impl KnownHosts {
    /// The file in the folder of all servers.
    pub fn of(all: &Path) -> Self {
        Self { path: all.join("known_hosts") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lines(&self) -> Result<Vec<String>, Error> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::file(format!("read {}", self.path.display()))(error)),
        }
    }

    /// Whether a host's key is known.
    pub fn knows(&self, host: &str, port: u16) -> Result<bool, Error> {
        let entry = entry(host, port);
        Ok(self.lines()?.iter().any(|line| of_entry(line, &entry)))
    }

    /// From now on this is the host's key and no other: addresses are given out again by the provider.
    pub fn pin(&self, host: &str, port: u16, key: &HostKey) -> Result<(), Error> {
        let _lock = self.lock()?;
        let (entry, mut lines) = (entry(host, port), self.lines()?);
        let line = format!("{entry} {}", key.line());
        if lines.contains(&line) {
            return Ok(());
        }
        lines.retain(|line| !of_entry(line, &entry));
        lines.push(line);
        self.write(&lines)
    }

    /// Forgets a host.
    pub fn forget(&self, host: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let (mut lines, there) = (self.lines()?, entry(host, 22));
        let before = lines.len();
        lines.retain(|line| !of_entry(line, &there));
        if lines.len() == before { Ok(()) } else { self.write(&lines) }
    }

    /// Commands for several servers share the file: one changes it at a time.
    fn lock(&self) -> Result<File, Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let lock = || {
            fs::create_dir_all(folder)?;
            let file = File::open(folder)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(Error::file(format!("use the folder {}", folder.display())))
    }

    fn write(&self, lines: &[String]) -> Result<(), Error> {
        replace(&self.path, &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
    }
}

fn entry(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

fn of_entry(line: &str, entry: &str) -> bool {
    line.split(' ').next() == Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_key_the_last_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = KnownHosts::of(folder.path());
        let key = |letter: char| {
            let text =
                format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJ{letter}");
            HostKey::parse(&text).expect("a key")
        };
        assert!(!hosts.knows("203.0.113.1", 22).expect("read"));
        hosts.pin("203.0.113.1", 22, &key('l')).expect("pinned");
        hosts.pin("203.0.113.1", 2222, &key('l')).expect("pinned");
        hosts.pin("203.0.113.1", 22, &key('h')).expect("pinned");
        let lines = hosts.lines().expect("read");
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1], format!("203.0.113.1 {}", key('h').line()));
        hosts.forget("203.0.113.1").expect("forgotten");
        assert!(!hosts.knows("203.0.113.1", 22).expect("read") && hosts.knows("203.0.113.1", 2222).expect("read"));
    }

    #[test]
    fn commands_at_the_same_time_lose_no_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = KnownHosts::of(folder.path());
        let key = HostKey::parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl");
        let key = key.expect("a key");
        std::thread::scope(|scope| {
            for command in 0..8 {
                let (hosts, key) = (&hosts, &key);
                scope.spawn(move || {
                    for server in 0..20 {
                        hosts.pin(&format!("203.0.{command}.{server}"), 22, key).expect("pinned");
                    }
                });
            }
        });
        assert_eq!(hosts.lines().expect("read").len(), 160);
    }
}
