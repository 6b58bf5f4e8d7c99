//! Whether somebody is still writing a file.
//!
//! The system tells when a file that was opened for writing is closed, and when one is moved into its place: then it is
//! done. Until then it is not, however long the writer pauses. Where nothing was told (no notices, a network's file
//! system, a file from before we listened) a file is taken as done once it has not changed for a second.

use crate::system::SystemClock;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use pgdb_core::migration::key::is_candidate;
use pgdb_core::time::Clock;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file that nothing was told of is done when it has not changed for this long, in milliseconds.
const CALM_MS: i64 = 1000;
/// A file that was changed and not closed is done when nothing was heard of it for this long all the same: it can be
/// cut off without being opened, and a notice can be lost.
const FORGOTTEN_MS: u64 = 30_000;
/// From this many on, those that say no more than the files themselves are thrown away.
const MANY: usize = 1024;

/// How a file looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), bytes: file.len(), seconds: file.mtime(), nanoseconds: file.mtime_nsec() }
    }

    fn modified_ms(&self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(self.nanoseconds / 1_000_000)
    }
}

/// What was told of a file last.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// It was made or changed, at this time of the clock that never goes backwards.
    Open(u64),
    /// It was closed, or moved to its place, and looked like this.
    Done(Stamp),
}

/// What was told of files.
#[derive(Debug, Default)]
pub(in crate::migrations) struct Writes {
    told: Mutex<HashMap<PathBuf, Told>>,
    clock: SystemClock,
}

impl Writes {
    /// Takes in a notice of the system.
    pub(in crate::migrations) fn hear(&self, event: &Event) {
        let mut told = self.told();
        if event.need_rescan() {
            // Some were lost.
            told.clear();
        }
        let is_migration = |path: &&PathBuf| path.file_name().is_some_and(|name| is_candidate(&name.to_string_lossy()));
        for (place, path) in event.paths.iter().enumerate().filter(|(_, path)| is_migration(path)) {
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => done(&mut told, path),
                EventKind::Modify(ModifyKind::Name(RenameMode::To)) => done(&mut told, path),
                EventKind::Modify(ModifyKind::Name(RenameMode::Both)) if place == 1 => done(&mut told, path),
                EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => drop(told.remove(path)),
                EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
                    told.insert(path.clone(), Told::Open(self.clock.monotonic_ms()));
                }
                // A link is made and never closed.
                EventKind::Create(_)
                    if fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.nlink() == 1) =>
                {
                    told.insert(path.clone(), Told::Open(self.clock.monotonic_ms()));
                }
                _ => {}
            }
        }
        if told.len() > MANY {
            let now = self.clock.now().as_millisecond();
            told.retain(|_, told| {
                matches!(told, Told::Done(stamp) if !is_old(stamp, now)) || matches!(told, Told::Open(_))
            });
        }
    }

    /// Whether nobody writes a file any more, which looks like this.
    pub(super) fn are_over(&self, path: &Path, looks: &Stamp) -> bool {
        match self.told().get(path) {
            Some(Told::Done(stamp)) if stamp == looks => true,
            Some(Told::Open(since)) => self.clock.monotonic_ms().saturating_sub(*since) >= FORGOTTEN_MS,
            _ => is_old(looks, self.clock.now().as_millisecond()),
        }
    }

    fn told(&self) -> MutexGuard<'_, HashMap<PathBuf, Told>> {
        // Nothing that holds it can panic.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn done(told: &mut HashMap<PathBuf, Told>, path: &Path) {
    match fs::metadata(path) {
        Ok(file) => drop(told.insert(path.to_owned(), Told::Done(Stamp::of(&file)))),
        Err(_) => drop(told.remove(path)),
    }
}

/// Whether the last change was long enough ago. One that lies ahead says nothing; then its time is not that of our clock.
fn is_old(stamp: &Stamp, now_ms: i64) -> bool {
    now_ms.saturating_sub(stamp.modified_ms()).abs() >= CALM_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, Flag};
    use std::io::Write;

    fn stamp(path: &Path) -> Stamp {
        Stamp::of(&fs::metadata(path).expect("there"))
    }

    fn event(kind: EventKind, path: &Path) -> Event {
        Event::new(kind).add_path(path.to_owned())
    }

    #[test]
    fn a_file_is_done_when_it_is_closed_or_moved_to_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.sql");
        let writes = Writes::default();
        let mut file = fs::File::create(&path).expect("made");
        writes.hear(&event(EventKind::Create(CreateKind::File), &path));
        assert!(!writes.are_over(&path, &stamp(&path)), "made and open");
        // However long ago that was.
        file.set_modified(std::time::UNIX_EPOCH).expect("dated");
        assert!(!writes.are_over(&path, &stamp(&path)), "open still");
        writes.hear(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)), &path));
        assert!(writes.are_over(&path, &stamp(&path)), "closed");
        file.write_all(b"SELECT 1;").expect("written");
        assert!(!writes.are_over(&path, &stamp(&path)), "written again, and nothing told yet");
        writes.hear(&event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), &path));
        assert!(!writes.are_over(&path, &stamp(&path)), "open again");
        writes.hear(&event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), &path));
        assert!(writes.are_over(&path, &stamp(&path)), "moved to its place");
        writes.hear(&event(EventKind::Other, &path).set_flag(Flag::Rescan));
        assert!(!writes.are_over(&path, &stamp(&path)), "what was told may be wrong");
    }

    #[test]
    fn what_nobody_told_of_is_done_after_a_second() {
        let stamp = |seconds| Stamp { inode: 1, bytes: 1, seconds, nanoseconds: 500_000_000 };
        assert!(!is_old(&stamp(100), 101_000) && !is_old(&stamp(100), 100_000));
        assert!(is_old(&stamp(100), 101_500));
        assert!(is_old(&stamp(500), 101_000), "a clock that is ahead");
    }

    #[test]
    fn a_link_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("old.txt"), folder.path().join("1.sql"));
        fs::write(&path, "SELECT 1;").expect("written");
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::UNIX_EPOCH))
            .expect("dated");
        fs::hard_link(&path, &link).expect("a link");
        let writes = Writes::default();
        writes.hear(&event(EventKind::Create(CreateKind::File), &link));
        assert!(writes.are_over(&link, &stamp(&link)));
    }
}
