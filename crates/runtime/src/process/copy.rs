//! Copies a prepared data directory: the hot path of every deploy.
//!
//! By reflink where the file system really shares blocks, else by plain reads and writes on a few threads, for
//! the time goes into the thousand-odd creations rather than the bytes. Holes stay holes.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::files::NO_FOLLOW;
use rustix::fs::SeekFrom;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// More threads than this only get in each other's way in the file system.
const THREADS_MAX: usize = 4;
/// Larger than most of PostgreSQL's files, so that one read takes a file whole.
const BUFFER_BYTES: usize = 256 * 1024;

/// What to copy, as paths below the root.
#[derive(Debug, Default)]
struct Tree {
    /// In an order in which each folder's parent comes first.
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// Copies the folder `from` to `to`, which must not exist, for `account`. Not made durable.
///
/// `reflink` says whether to try sharing blocks (see [`can_reflink`]).
pub(crate) fn copy_tree(from: &Path, to: &Path, account: &Account, reflink: bool) -> Result<(), RuntimeError> {
    let tree = list(from)?;
    make_dir(to, account)?;
    for dir in &tree.dirs {
        make_dir(&to.join(dir), account)?;
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let Some(file) = tree.files.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = copy_file(&from.join(file), &to.join(file), account, reflink, &mut buffer) {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut failure) = failure.lock() {
                    failure.get_or_insert(error);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, THREADS_MAX);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the file system of `dir` shares blocks between copies of `sample`. Tried for real: some accept the
/// wish and copy, and one driver serves file systems with and without the ability.
pub(crate) fn can_reflink(sample: &Path, dir: &Path, name: &str) -> bool {
    let probe = dir.join(name);
    let shared = File::open(sample).and_then(|source| {
        let target = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(NO_FOLLOW)
            .open(&probe)?;
        rustix::fs::ioctl_ficlone(&target, &source).map_err(io::Error::from)
    });
    // The probe's fate changes nothing about the answer.
    fs::remove_file(&probe).ok();
    shared.is_ok()
}

fn list(root: &Path) -> Result<Tree, RuntimeError> {
    let mut tree = Tree::default();
    let mut files: Vec<(usize, PathBuf)> = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let path = root.join(&dir);
        let mut turn = 0;
        for entry in fs::read_dir(&path).map_err(RuntimeError::io("list", &path))? {
            let entry = entry.map_err(RuntimeError::io("list", &path))?;
            let kind = entry.file_type().map_err(RuntimeError::io("look at", entry.path()))?;
            let relative = dir.join(entry.file_name());
            if kind.is_dir() {
                tree.dirs.push(relative.clone());
                open.push(relative);
            } else if kind.is_file() {
                files.push((turn, relative));
                turn += 1;
            } else {
                return Err(RuntimeError::NotOurs {
                    path: entry.path(),
                    detail: "a prepared directory holds only files and directories".to_owned(),
                });
            }
        }
    }
    // A file of each folder in turn: a folder takes one new entry at a time, and threads would wait for each other.
    files.sort_by_key(|(turn, _)| *turn);
    tree.files = files.into_iter().map(|(_, file)| file).collect();
    Ok(tree)
}

fn make_dir(path: &Path, account: &Account) -> Result<(), RuntimeError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path).map_err(RuntimeError::io("create", path))?;
    account.own(path)
}

fn copy_file(from: &Path, to: &Path, account: &Account, reflink: bool, buffer: &mut [u8]) -> Result<(), RuntimeError> {
    let mut source =
        OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(from).map_err(RuntimeError::io("open", from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(NO_FOLLOW)
        .open(to)
        .map_err(RuntimeError::io("create", to))?;
    account.own_file(&target, to)?;
    if reflink && rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    // Only large files are asked for holes: a look at each would cost more than it saves.
    let first = fill(&mut source, buffer).map_err(RuntimeError::io("read", from))?;
    if first < buffer.len() {
        return target.write_all(&buffer[..first]).map_err(RuntimeError::io("copy to", to));
    }
    let meta = source.metadata().map_err(RuntimeError::io("look at", from))?;
    if meta.blocks() * 512 < meta.len() {
        return copy_sparse(&mut source, &mut target, meta.len(), buffer).map_err(RuntimeError::io("copy to", to));
    }
    target.write_all(buffer).map_err(RuntimeError::io("copy to", to))?;
    loop {
        let read = fill(&mut source, buffer).map_err(RuntimeError::io("read", from))?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read]).map_err(RuntimeError::io("copy to", to))?;
    }
}

/// Copies the stretches that have data, and leaves the rest out.
fn copy_sparse(source: &mut File, target: &mut File, len: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(&*source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*source, SeekFrom::Hole(start))?;
        rustix::fs::seek(&*source, SeekFrom::Start(start))?;
        rustix::fs::seek(&*target, SeekFrom::Start(start))?;
        let mut left = end - start;
        while left > 0 {
            let chunk = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = fill(source, &mut buffer[..chunk])?;
            if read == 0 {
                break;
            }
            target.write_all(&buffer[..read])?;
            left -= read as u64;
        }
        at = end;
    }
    target.set_len(len)
}

/// Reads until the buffer is full or the file ends.
fn fill(source: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Turns the zeros at the end of a file into a hole. A fresh log segment is 16 MiB of which little is used.
pub(crate) fn cut_zero_tail(path: &Path) -> Result<(), RuntimeError> {
    let content = fs::read(path).map_err(RuntimeError::io("read", path))?;
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let file =
        OpenOptions::new().write(true).custom_flags(NO_FOLLOW).open(path).map_err(RuntimeError::io("open", path))?;
    file.set_len(used as u64)
        .and_then(|()| file.set_len(content.len() as u64))
        .map_err(RuntimeError::io("shorten", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_keeps_its_holes() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).expect("made");
        fs::write(from.join("a/empty"), b"").expect("written");
        fs::write(from.join("a/b/large"), vec![7; 3 * BUFFER_BYTES + 5]).expect("written");
        let mut segment = vec![1_u8; 10_000];
        segment.resize(16 << 20, 0);
        fs::write(from.join("segment"), &segment).expect("written");
        cut_zero_tail(&from.join("segment")).expect("cut");
        let account = Account::resolve("nobody").expect("an account");
        copy_tree(&from, &to, &account, false).expect("copied");
        assert_eq!(fs::read(to.join("a/empty")).expect("read"), b"");
        assert_eq!(fs::read(to.join("a/b/large")).expect("read"), vec![7; 3 * BUFFER_BYTES + 5]);
        assert_eq!(fs::read(to.join("segment")).expect("read"), segment);
        assert!(fs::metadata(to.join("segment")).expect("there").blocks() * 512 < 1 << 20, "its tail takes no space");
        assert_eq!(fs::metadata(to.join("segment")).expect("there").mode() & 0o777, 0o600);
        assert!(copy_tree(&from, &to, &account, false).is_err(), "never into something that exists");
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("linked");
        assert!(matches!(
            copy_tree(&from, &dir.path().join("other"), &account, false),
            Err(RuntimeError::NotOurs { .. })
        ));
    }
}
