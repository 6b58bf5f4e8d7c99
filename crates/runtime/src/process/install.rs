//! Installing a PostgreSQL major: from a directory, an archive, or the system's packages.

use crate::error::RuntimeError;
use crate::process::engines::{Engines, MAJORS};
use crate::process::files::{blocking, ensure_dir, exists, remove_tree, sync_file_system, sync_parent};
use crate::process::layout::Layout;
use crate::spec::Engine;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

/// How deep in an archive `bin/postgres` may be.
const DEPTH: usize = 5;
/// Debian's settings for the cluster that its packages make.
const DEBIAN_CONF: &str = "/etc/postgresql-common/createcluster.conf";

/// Installs a major from `source`, or from the system's packages.
pub(crate) async fn install(
    layout: &Layout,
    engines: &Arc<Engines>,
    major: u16,
    source: Option<&Path>,
) -> Result<Engine, RuntimeError> {
    if !MAJORS.contains(&major) {
        let (first, last) = (MAJORS.start(), MAJORS.end());
        return Err(RuntimeError::Unsupported(format!("PostgreSQL {major} is not one of {first} to {last}")));
    }
    match source {
        Some(source) => from_files(layout, engines, major, source).await,
        None => from_packages(engines, major).await,
    }
}

async fn from_files(
    layout: &Layout,
    engines: &Arc<Engines>,
    major: u16,
    source: &Path,
) -> Result<Engine, RuntimeError> {
    let fresh = layout.engines.join(format!(".{major}.new"));
    let unpacked = fresh.join("unpacked");
    let (path, make) = (source.to_owned(), unpacked.clone());
    let new = fresh.clone();
    let is_dir = blocking(move || {
        let meta = fs::metadata(&path).map_err(RuntimeError::io("read", &path))?;
        remove_tree(&new)?;
        ensure_dir(&new, 0o700)?;
        ensure_dir(&make, 0o755)?;
        Ok(meta.is_dir())
    })
    .await?;
    let installed = async {
        if is_dir {
            // A trailing dot: what is in the directory, not the directory.
            let content = source.join(".");
            run("cp", &["-R", "--preserve=mode,links,timestamps", "--"].map(OsStr::new), &[&content, &unpacked])
                .await?;
        } else {
            run("tar", &["--no-same-owner", "-xf"].map(OsStr::new), &[source, Path::new("-C"), &unpacked]).await?;
        }
        // The servers' account must be able to read it, whoever packed it.
        run("chmod", &["-R", "a+rX,go-w", "--"].map(OsStr::new), &[&unpacked]).await?;
        let (layout, engines, source, root) = (layout.clone(), engines.clone(), source.to_owned(), unpacked.clone());
        blocking(move || adopt(&layout, &engines, major, &source, &root)).await
    }
    .await;
    blocking(move || remove_tree(&fresh)).await?;
    installed
}

/// Checks what was unpacked and moves it to its place.
fn adopt(
    layout: &Layout,
    engines: &Engines,
    major: u16,
    source: &Path,
    unpacked: &Path,
) -> Result<Engine, RuntimeError> {
    let refuse = |detail: String| Err(RuntimeError::Unsupported(format!("{} {detail}", source.display())));
    let Some(root) = find_root(unpacked, DEPTH) else {
        return refuse("holds no bin/postgres with an initdb beside it".to_owned());
    };
    match engines.look(&root.join("bin")) {
        Some(engine) if engine.major == major => {}
        Some(engine) => return refuse(format!("is PostgreSQL {}, not {major}", engine.version)),
        None => return refuse("holds a PostgreSQL whose `postgres -V` does not run here or is not known".to_owned()),
    }
    sync_file_system(&root)?;
    let target = layout.engines.join(major.to_string());
    if exists(&target)? {
        // Servers that run from it keep their open files; those that start next use the new one.
        let trash = layout.free_trash(&format!("engine-{major}"))?;
        fs::rename(&target, &trash).map_err(RuntimeError::io("move away", &target))?;
        fs::rename(&root, &target).map_err(RuntimeError::io("move", &root))?;
        remove_tree(&trash)?;
    } else {
        fs::rename(&root, &target).map_err(RuntimeError::io("move", &root))?;
    }
    sync_parent(&target)?;
    engines.look(&target.join("bin")).ok_or_else(|| RuntimeError::Unsupported("it vanished".to_owned()))
}

/// The folder whose `bin` has the programs; links are not followed on the way.
fn find_root(dir: &Path, depth: usize) -> Option<PathBuf> {
    if dir.join("bin/postgres").is_file() && dir.join("bin/initdb").is_file() {
        return Some(dir.to_owned());
    }
    if depth == 0 {
        return None;
    }
    let mut below: Vec<_> = fs::read_dir(dir).ok()?.flatten().collect();
    below.sort_by_key(fs::DirEntry::file_name);
    below.retain(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.into_iter().find_map(|entry| find_root(&entry.path(), depth - 1))
}

async fn from_packages(engines: &Arc<Engines>, major: u16) -> Result<Engine, RuntimeError> {
    let by_hand = format!(
        "name a directory or an archive that holds one (`pgdb engine install {major} --from PATH`), or install PostgreSQL {major} with the system's package manager"
    );
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(RuntimeError::Unsupported(format!(
            "packages can be installed only by root and with apt-get; {by_hand}"
        )));
    }
    blocking(prevent_default_cluster).await?;
    let package = format!("postgresql-{major}");
    let install = ["install", "-y", "--no-install-recommends", &package];
    let mut installed = apt_get(&install).await;
    if is_unknown(&installed) {
        // A fresh machine has no lists of packages yet.
        apt_get(&["update"]).await?;
        installed = apt_get(&install).await;
    }
    if is_unknown(&installed) {
        return Err(RuntimeError::Unsupported(format!("the system's packages have no PostgreSQL {major}; {by_hand}")));
    }
    installed?;
    let engines = engines.clone();
    blocking(move || engines.get(major)).await
}

fn is_unknown(installed: &Result<(), RuntimeError>) -> bool {
    matches!(installed, Err(RuntimeError::ToolFailed { stderr, .. }) if stderr.contains("Unable to locate package"))
}

async fn apt_get(args: &[&str]) -> Result<(), RuntimeError> {
    let mut command = tokio::process::Command::new("/usr/bin/apt-get");
    command
        // Somebody else's installation is waited for; settings that an administrator changed stay.
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    output("apt-get", command).await
}

/// Keeps Debian from making and starting a server of its own on port 5432. On a machine that has its file
/// already the administrator has had the choice, and it is left as it is.
fn prevent_default_cluster() -> Result<(), RuntimeError> {
    let path = Path::new(DEBIAN_CONF);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(RuntimeError::io("create", parent))?;
    }
    match fs::File::create_new(path) {
        Ok(mut file) => file
            .write_all(b"# Made by pgdb, which needs the programs only.\ncreate_main_cluster = false\n")
            .map_err(RuntimeError::io("write", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(RuntimeError::io("create", path)(error)),
    }
}

async fn run(program: &str, options: &[&OsStr], paths: &[&Path]) -> Result<(), RuntimeError> {
    let mut command = tokio::process::Command::new(program);
    command.args(options).args(paths).env("LC_ALL", "C");
    output(program, command).await
}

async fn output(program: &str, mut command: tokio::process::Command) -> Result<(), RuntimeError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(RuntimeError::io("run", program))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.contains("No space left on device") {
        return Err(RuntimeError::DiskFull { path: PathBuf::from(program) });
    }
    Err(RuntimeError::ToolFailed { program: program.to_owned(), stderr })
}
