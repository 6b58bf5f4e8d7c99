//! Small file-system steps that several parts need, each safe to repeat.

use crate::error::RuntimeError;
use crate::process::account::Account;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Refuses to follow a symbolic link in the last component: servers can write in some of these folders, and
/// the daemon may be root.
pub(crate) const NO_FOLLOW: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// Runs file work off the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(RuntimeError::Unsupported("the daemon is shutting down".to_owned())),
    }
}

/// Makes a folder unless it is there. A new one has exactly `mode`, whatever the umask says.
pub(crate) fn ensure_dir(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(RuntimeError::io("set the mode of", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(RuntimeError::io("create", path)(error)),
    }
}

/// Makes a private folder that belongs to the servers' account.
pub(crate) fn ensure_owned_dir(path: &Path, account: &Account) -> Result<(), RuntimeError> {
    ensure_dir(path, 0o700)?;
    let meta = fs::symlink_metadata(path).map_err(RuntimeError::io("look at", path))?;
    if !meta.is_dir() {
        return Err(RuntimeError::NotOurs { path: path.to_owned(), detail: "it is not a directory".to_owned() });
    }
    if meta.uid() != account.uid { account.own(path) } else { Ok(()) }
}

/// Replaces a file as a whole, private to the servers' account. Does nothing when it already says this.
///
/// `durable` is false only while the data around the file has not been made durable either.
pub(crate) fn write_atomic(path: &Path, content: &[u8], account: &Account, durable: bool) -> Result<(), RuntimeError> {
    if let Some(current) = read_if_there(path)?
        && current == content
    {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".pgdb-new");
    let temporary = path.with_file_name(name);
    remove_file(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(NO_FOLLOW)
        .open(&temporary)
        .map_err(RuntimeError::io("create", &temporary))?;
    file.write_all(content).map_err(RuntimeError::io("write", &temporary))?;
    account.own_file(&file, &temporary)?;
    if durable {
        file.sync_all().map_err(RuntimeError::io("sync", &temporary))?;
    }
    fs::rename(&temporary, path).map_err(RuntimeError::io("rename", &temporary))?;
    if durable {
        sync_parent(path)?;
    }
    Ok(())
}

/// A file's content, or nothing when there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, RuntimeError> {
    let mut file = match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(RuntimeError::io("open", path)(error)),
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(RuntimeError::io("read", path))?;
    Ok(Some(content))
}

/// Text of a small file, or nothing when there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, RuntimeError> {
    Ok(read_if_there(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The major that a data directory is of, or nothing when there is no directory.
pub(crate) fn data_major(data: &Path) -> Result<Option<u16>, RuntimeError> {
    if !exists(data)? {
        return Ok(None);
    }
    let not_ours = |detail: &str| RuntimeError::NotOurs { path: data.to_owned(), detail: detail.to_owned() };
    let text = read_text(&data.join("PG_VERSION"))?
        .ok_or_else(|| not_ours("it has no PG_VERSION, so it is not a PostgreSQL data directory"))?;
    text.trim().parse().map(Some).map_err(|_| not_ours("its PG_VERSION is not a major version"))
}

/// Whether anything is at the path, a broken link too.
pub(crate) fn exists(path: &Path) -> Result<bool, RuntimeError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if absent(&error) => Ok(false),
        Err(error) => Err(RuntimeError::io("look at", path)(error)),
    }
}

/// Removes a file unless it is gone.
pub(crate) fn remove_file(path: &Path) -> Result<(), RuntimeError> {
    match fs::remove_file(path) {
        Err(error) if !absent(&error) => Err(RuntimeError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, unless it is gone. Somebody else removing it at the same time is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), RuntimeError> {
    for _ in 0..3 {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if absent(&error) && !exists(path)? => return Ok(()),
            Err(error) if absent(&error) || error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(RuntimeError::io("remove", path)(error)),
        }
    }
    fs::remove_dir_all(path).map_err(RuntimeError::io("remove", path))
}

/// Makes a rename in this file's folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), RuntimeError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(RuntimeError::io("sync", parent))
}

/// Makes everything on the file system of `path` durable; for a thousand small files far cheaper than one by one.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), RuntimeError> {
    let dir = File::open(path).map_err(RuntimeError::io("open", path))?;
    rustix::fs::syncfs(&dir).map_err(|error| RuntimeError::io("sync the file system of", path)(error.into()))
}

/// Names in a folder, in byte order; none when there is no such folder.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, RuntimeError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(RuntimeError::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RuntimeError::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Whether an error says that there is no such file.
pub(crate) fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
