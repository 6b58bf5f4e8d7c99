//! OpenSSH's programs, run so that they ask nothing, trust no key that was not known before, and get no secret as an
//! argument.

use crate::Report;
use crate::error::Error;
use crate::known_hosts::KnownHosts;
use pgdb_core::infra::host_key::HostKey;
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// Where its sshd listens.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// A private key; without one OpenSSH's own choice.
    pub identity: Option<PathBuf>,
}

/// What a command on a server gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// OpenSSH's own failures, as opposed to those of the command that it ran.
const OF_SSH: i32 = 255;

impl Target {
    /// Refuses what OpenSSH would take for an option or for something else.
    pub fn check(&self) -> Result<(), Error> {
        let plain = |text: &str, more: &[u8]| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !plain(&self.host, b".-_:") {
            return Err(Error::Usage(format!("'{}' is not a host's name or address", self.host)));
        }
        if !plain(&self.user, b".-_") {
            return Err(Error::Usage(format!("'{}' is not a user's name", self.user)));
        }
        Ok(())
    }
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Ssh<'a> {
    pub(crate) target: &'a Target,
    options: Vec<String>,
}

impl<'a> Ssh<'a> {
    /// With the host key that is pinned, or else the ones that the user has accepted before.
    pub(crate) fn new(target: &'a Target, hosts: &KnownHosts) -> Result<Self, Error> {
        target.check()?;
        let mut options: Vec<String> = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "PasswordAuthentication=no",
            "ConnectTimeout=10",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=8",
            "LogLevel=ERROR",
            "RequestTTY=no",
        ]
        .map(str::to_owned)
        .to_vec();
        if hosts.knows(&target.host, target.port)? {
            options.push(format!("UserKnownHostsFile=\"{}\"", hosts.path().display()));
            options.push("GlobalKnownHostsFile=/dev/null".to_owned());
            options.push("HostKeyAlgorithms=ssh-ed25519".to_owned());
        }
        if let Some(identity) = &target.identity {
            options.push(format!("IdentityFile=\"{}\"", identity.display()));
            options.push("IdentitiesOnly=yes".to_owned());
        }
        Ok(Self { target, options })
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command on the server with this as its standard input. What it says on standard error is reported as it
    /// comes.
    pub(crate) async fn run(
        &self,
        command: &str,
        stdin: &SecretString,
        report: Option<Report<'_>>,
    ) -> Result<Answer, Error> {
        let mut ssh = self.program("ssh");
        ssh.arg("-p")
            .arg(self.target.port.to_string())
            .arg("-l")
            .arg(&self.target.user)
            .arg("--")
            .arg(&self.target.host);
        finish(ssh.arg(command).stdin(Stdio::piped()), Some(stdin), report).await
    }

    /// Copies files and folders into a folder on the server.
    pub(crate) async fn copy(&self, files: &[&Path], folder: &str) -> Result<Answer, Error> {
        let mut scp = self.program("scp");
        // A colon in an address would end the host's name.
        let host =
            if self.target.host.contains(':') { format!("[{}]", self.target.host) } else { self.target.host.clone() };
        scp.arg("-q").arg("-r").arg("-P").arg(self.target.port.to_string()).arg("--").args(files);
        scp.arg(format!("{}@{host}:{folder}/", self.target.user));
        finish(scp.stdin(Stdio::null()), None, None).await
    }
}

impl Answer {
    /// Whether the server is not there yet, as it is while it starts.
    pub(crate) fn not_yet(&self) -> bool {
        let starting = [
            "Connection refused",
            "timed out",
            "No route to host",
            "Connection reset",
            "Connection closed",
            "unreachable",
        ];
        self.status == Some(OF_SSH) && starting.iter().any(|text| self.stderr.contains(text))
    }

    /// The standard output, or why there is none.
    pub(crate) fn fine(self, target: &Target, doing: &str) -> Result<String, Error> {
        if self.status == Some(0) {
            return Ok(self.stdout);
        }
        let said = last_lines(&self.stderr);
        let Target { user, host, .. } = target;
        let advice = match self.status {
            Some(OF_SSH) if self.stderr.contains("Host key verification failed") => {
                "the host key is not the known one, or none is known: for a server made by `pgdb infra init` run that again \
                 with the same flags, which pins its key; else give the server's key with --host-key, as its console shows it"
            }
            Some(OF_SSH) if self.stderr.contains("Permission denied") => {
                "the server does not accept this key: name another with --identity, or load it into the agent"
            }
            _ => "",
        };
        let tail = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        Err(Error::Tool(format!("could not {doing} on {user}@{host}: {said}{tail}")))
    }
}

/// The end of what a program said, which is where the reason is.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(8)..];
    if last.is_empty() { "it ended without a word".to_owned() } else { last.join("\n  ") }
}

async fn finish(
    command: &mut Command,
    stdin: Option<&SecretString>,
    report: Option<Report<'_>>,
) -> Result<Answer, Error> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Tool(format!("there is no program '{name}' here; install OpenSSH's client"))
        }
        _ => Error::Tool(format!("could not run {name}: {error}")),
    })?;
    let (pipe, out, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let writing = async {
        if let (Some(mut pipe), Some(text)) = (pipe, stdin) {
            // A command that ends before it has read all says so by its status.
            let _ = pipe.write_all(text.expose_secret().as_bytes()).await;
        }
    };
    let reading = async {
        let mut bytes = Vec::new();
        if let Some(mut out) = out {
            out.read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let listening = async {
        let mut stderr = String::new();
        if let Some(said) = said {
            let mut lines = BufReader::new(said).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(report) = report {
                    report(&line);
                }
                stderr.push_str(&line);
                stderr.push('\n');
            }
        }
        Ok::<_, std::io::Error>(stderr)
    };
    let ((), stdout, stderr) = tokio::join!(writing, reading, listening);
    let explain = || Error::file(format!("hear from {name}"));
    let (stdout, stderr) = (stdout.map_err(explain())?, stderr.map_err(explain())?);
    let status = child.wait().await.map_err(explain())?;
    Ok(Answer { status: status.code(), stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr })
}

/// A new host key: the private part as OpenSSH writes it, and the public one.
pub(crate) async fn make_host_key() -> Result<(SecretString, HostKey), Error> {
    // Only its owner can look into it, and it goes away with its content.
    let folder = tempfile::tempdir().map_err(Error::file("make a folder for a host key"))?;
    let file = folder.path().join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let answer = finish(&mut command, None, None).await?;
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::file("read the new host key"));
    if answer.status != Some(0) {
        return Err(Error::Tool(format!("ssh-keygen made no key: {}", last_lines(&answer.stderr))));
    }
    let public = HostKey::parse(&read(&file.with_extension("pub"))?);
    let public = public.ok_or_else(|| Error::Tool("ssh-keygen made a key of another kind".to_owned()))?;
    Ok((read(&file)?.into(), public))
}
