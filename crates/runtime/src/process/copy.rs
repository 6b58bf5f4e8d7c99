//! Copying a prepared data directory: by reflink where the file system really can, else bytes, holes kept.

use crate::RuntimeError;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Threads that copy; more do not pay for a few dozen megabytes.
const THREADS: usize = 3;
const BLOCK: usize = 256 * 1024;

/// Copies the tree `from` to `to`, which must not exist, giving everything to `owner` when there is one.
pub(super) fn copy_tree(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<(), RuntimeError> {
    let mut files = Vec::new();
    make_folders(from, to, owner, &mut files)?;
    // The largest first, so that no thread ends long after the others.
    files.sort_unstable_by_key(|(size, _, _)| std::cmp::Reverse(*size));
    let reflink = can_reflink(to);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<(), RuntimeError> {
        let mut buffer = vec![0; BLOCK];
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((_, source, target)) = files.get(index) else { return Ok(()) };
            copy_file(source, target, owner, reflink, &mut buffer)?;
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            result = result.and(other.join().unwrap_or_else(|_| Err(panicked(to))));
        }
        result
    })
}

fn panicked(path: &Path) -> RuntimeError {
    RuntimeError::io("copy to", path)(std::io::Error::other("a copying thread panicked"))
}

fn make_folders(
    from: &Path,
    to: &Path,
    owner: Option<(u32, u32)>,
    files: &mut Vec<(u64, PathBuf, PathBuf)>,
) -> Result<(), RuntimeError> {
    fs::create_dir(to).map_err(RuntimeError::io("make the folder", to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).map_err(RuntimeError::io("protect", to))?;
    give(to, owner)?;
    for entry in fs::read_dir(from).map_err(RuntimeError::io("read the folder", from))? {
        let entry = entry.map_err(RuntimeError::io("read the folder", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata().map_err(RuntimeError::io("look at", &source))?;
        if found.is_dir() {
            make_folders(&source, &target, owner, files)?;
        } else if found.is_file() {
            files.push((found.blocks(), source, target));
        }
        // A prepared directory holds neither links nor sockets.
    }
    Ok(())
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<(), RuntimeError> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(RuntimeError::io("give away", path))
}

fn copy_file(
    source: &Path,
    target: &Path,
    owner: Option<(u32, u32)>,
    reflink: bool,
    buffer: &mut [u8],
) -> Result<(), RuntimeError> {
    let failed = || RuntimeError::io("copy to", target);
    let mut from = File::open(source).map_err(RuntimeError::io("read", source))?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(failed())?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&to, Some(uid), Some(gid)).map_err(failed())?;
    }
    if reflink && clone_file(&from, &to) {
        return Ok(());
    }
    let length = from.metadata().map_err(failed())?.len();
    copy_data(&mut from, &to, length, buffer).map_err(failed())
}

/// Copies what holds data and leaves holes as holes: a fresh WAL segment is mostly nothing.
fn copy_data(from: &mut File, to: &File, length: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut offset = 0;
    while offset < length {
        let read = from.read(buffer)?;
        if read == 0 {
            break;
        }
        let block = &buffer[..read];
        if !is_zero(block) {
            to.write_all_at(block, offset)?;
        }
        offset += read as u64;
    }
    to.set_len(length)
}

fn is_zero(block: &[u8]) -> bool {
    // Whole words first; the compiler turns it into vector instructions.
    let (words, rest) = block.as_chunks::<8>();
    words.iter().all(|word| *word == [0; 8]) && rest.iter().all(|byte| *byte == 0)
}

nix::ioctl_write_int!(ficlone, 0x94, 9);

#[expect(unsafe_code, reason = "the reflink call has no safe form in the libraries that we use")]
fn clone_file(from: &File, to: &File) -> bool {
    let source = u64::try_from(from.as_raw_fd()).unwrap_or(u64::MAX);
    // SAFETY: both descriptors are open for the length of the call, which takes no pointers.
    unsafe { ficlone(to.as_raw_fd(), source) }.is_ok()
}

/// Whether files in this folder can be cloned. Tried with a real file: some file systems only pretend.
pub(super) fn can_reflink(folder: &Path) -> bool {
    let (source, target) = (folder.join(".reflink-probe"), folder.join(".reflink-probe-clone"));
    let try_it = || -> std::io::Result<bool> {
        let mut from = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&source)?;
        from.write_all(&[1; 4096])?;
        from.seek(SeekFrom::Start(0))?;
        let to = OpenOptions::new().write(true).create(true).truncate(true).open(&target)?;
        Ok(clone_file(&from, &to))
    };
    let can = try_it().unwrap_or(false);
    let _ = fs::remove_file(&source);
    let _ = fs::remove_file(&target);
    can
}
