//! Installing PostgreSQL: from a folder, an archive, or the system's packages.

use super::engines::{ask_version, major_of};
use crate::RuntimeError;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Keeps Debian's package from making and starting a cluster of its own.
const CREATECLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// Installs a major from the system's packages.
pub(super) async fn from_packages(major: u16) -> Result<(), RuntimeError> {
    let by_hand = "or name an archive or folder with --from";
    if !Path::new("/usr/bin/apt-get").exists() {
        let message =
            format!("this system has no apt-get; install PostgreSQL {major} with its own package manager, {by_hand}");
        return Err(RuntimeError::Unsupported(message));
    }
    if !nix::unistd::geteuid().is_root() {
        let message =
            format!("only root can install packages; run `sudo apt-get install postgresql-{major}`, {by_hand}");
        return Err(RuntimeError::Unsupported(message));
    }
    let config = Path::new(CREATECLUSTER);
    if !config.exists() {
        if let Some(folder) = config.parent() {
            fs::create_dir_all(folder).map_err(RuntimeError::io("make the folder", folder))?;
        }
        fs::write(config, "create_main_cluster = false\n").map_err(RuntimeError::io("write", config))?;
    }
    let package = format!("postgresql-{major}");
    let install = ["install", "-y", "-qq", "--no-install-recommends", &package];
    if apt_get(&install).await.is_err() {
        // The lists may be old or missing.
        apt_get(&["update", "-qq"]).await?;
        apt_get(&install).await?;
    }
    Ok(())
}

async fn apt_get(args: &[&str]) -> Result<(), RuntimeError> {
    let mut command = Command::new("/usr/bin/apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    run(command, "apt-get").await
}

/// Installs a major from a folder or archive on this machine, whole or not at all, as `engines/MAJOR`.
pub(super) async fn from_path(major: u16, source: &Path, engines: &Path) -> Result<(), RuntimeError> {
    fs::create_dir_all(engines).map_err(RuntimeError::io("make the folder", engines))?;
    let making = engines.join(format!(".{major}.making"));
    if making.exists() {
        fs::remove_dir_all(&making).map_err(RuntimeError::io("remove", &making))?;
    }
    fs::create_dir(&making).map_err(RuntimeError::io("make the folder", &making))?;
    let placed = place(major, source, &making, &engines.join(major.to_string())).await;
    super::server::gone_is_fine(fs::remove_dir_all(&making)).map_err(RuntimeError::io("remove", &making))?;
    placed
}

async fn place(major: u16, source: &Path, making: &Path, target: &Path) -> Result<(), RuntimeError> {
    let found = fs::metadata(source).map_err(RuntimeError::io("read", source))?;
    let mut command = if found.is_dir() {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg("--").arg(source.join(".")).arg(making);
        copy
    } else {
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--no-same-owner", "--file"]).arg(source).arg("--directory").arg(making);
        unpack
    };
    command.stdin(Stdio::null());
    run(command, if found.is_dir() { "cp" } else { "tar" }).await?;
    let root = installation_in(making).ok_or_else(|| {
        RuntimeError::Unsupported(format!("{} holds no PostgreSQL: there is no bin/postgres in it", source.display()))
    })?;
    let version = ask_version(&root.join("bin/postgres")).await.unwrap_or_default();
    if major_of(&version) != Some(major) {
        let is = if version.is_empty() {
            "something that does not run here".to_owned()
        } else {
            format!("PostgreSQL {version}")
        };
        return Err(RuntimeError::Unsupported(format!("{} holds {is}, not PostgreSQL {major}", source.display())));
    }
    // The servers' user runs these programs.
    for folder in [&root, &root.join("bin")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(RuntimeError::io("open up", folder))?;
    }
    if target.exists() {
        fs::remove_dir_all(target).map_err(RuntimeError::io("remove", target))?;
    }
    fs::rename(&root, target).map_err(RuntimeError::io("move into place", target))
}

/// The folder with `bin/postgres`, at most two levels down: archives often hold one folder with everything in it.
fn installation_in(folder: &Path) -> Option<PathBuf> {
    let mut level = vec![folder.to_owned()];
    for _ in 0..3 {
        if let Some(found) = level.iter().find(|folder| folder.join("bin/postgres").is_file()) {
            return Some(found.clone());
        }
        level = level
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
    }
    None
}

async fn run(mut command: Command, program: &str) -> Result<(), RuntimeError> {
    let output = command.output().await.map_err(RuntimeError::io("run", program))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = text.lines().rev().take(5).collect();
    let stderr = end.into_iter().rev().collect::<Vec<_>>().join(" | ");
    Err(RuntimeError::ToolFailed { program: program.to_owned(), stderr })
}
