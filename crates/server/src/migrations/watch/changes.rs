//! Noticing that a folder has changed.
//!
//! What the system tells about changes is taken as a hint to look, and nothing more: on mounted volumes it says little
//! that can be relied on. Looking is comparing all content, see [`super`].

use crate::migrations::sources::writes::Writes;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{self, Instant};

/// Files are read once nothing has been heard for this long, for one seldom comes alone…
const QUIET: Duration = Duration::from_millis(50);
/// …but no later than this after the first change, however busily somebody writes.
const BUSY: Duration = Duration::from_millis(500);
/// How often to look whether a folder has come, gone, or become another.
const GLANCE: Duration = Duration::from_millis(500);

/// Listens to folders, also such as are not there yet.
pub(super) struct Changes {
    heard: Arc<Notify>,
    /// Nothing when the system lets us have no more of its notifications.
    watcher: Option<RecommendedWatcher>,
    folders: Vec<Folder>,
    glanced: Instant,
}

struct Folder {
    path: PathBuf,
    /// Device and number of the folder that is listened to.
    armed: Option<(u64, u64)>,
    complained: bool,
}

impl Changes {
    /// What is told of files goes to `writes` as well.
    pub(super) fn of(folders: Vec<PathBuf>, writes: Arc<Writes>) -> Self {
        let heard = Arc::new(Notify::new());
        let tell = Arc::clone(&heard);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let is_news = match event {
                Ok(event) => {
                    writes.hear(&event);
                    event.need_rescan() || is_change(event.kind)
                }
                // It may have swallowed a change.
                Err(_) => true,
            };
            if is_news {
                tell.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "the system gives no notice of changes; folders are read twice a second instead");
        });
        let folders = folders.into_iter().map(|path| Folder { path, armed: None, complained: false }).collect();
        let mut changes = Self { heard, watcher: watcher.ok(), folders, glanced: Instant::now() };
        changes.glance();
        changes
    }

    /// Resolves when something may have changed, and is quiet again. May be dropped at any time: what was heard and not
    /// told is told at the next call.
    pub(super) async fn next(&mut self) {
        loop {
            if time::timeout_at(self.glanced + GLANCE, self.heard.notified()).await.is_ok() {
                break;
            }
            self.glanced = Instant::now();
            if self.glance() {
                return;
            }
        }
        let latest = Instant::now() + BUSY;
        while time::timeout(QUIET, self.heard.notified()).await.is_ok() && Instant::now() < latest {}
    }

    /// Listens to folders that have come or become others. True when one has, or when one has to be read to know.
    fn glance(&mut self) -> bool {
        let mut changed = false;
        for folder in &mut self.folders {
            let now = fs::metadata(&folder.path).ok().map(|folder| (folder.dev(), folder.ino()));
            let Some(watcher) = &mut self.watcher else {
                changed |= now.is_some();
                continue;
            };
            if now == folder.armed {
                continue;
            }
            changed = true;
            // Of a folder that is gone the system has forgotten it by itself.
            let _ = watcher.unwatch(&folder.path);
            folder.armed = None;
            let Some(now) = now else { continue };
            match watcher.watch(&folder.path, RecursiveMode::Recursive) {
                Ok(()) => folder.armed = Some(now),
                // Not armed, it counts as changed at each glance: read twice a second.
                Err(error) if !folder.complained => {
                    folder.complained = true;
                    tracing::warn!(%error, folder = %folder.path.display(), "no notice of changes; it is read twice a second");
                }
                Err(_) => {}
            }
        }
        changed
    }
}

/// Whether something was written; our own reading is told too.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{ModifyKind, RemoveKind};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    async fn hears(changes: &mut Changes) {
        time::timeout(Duration::from_secs(20), changes.next()).await.expect("a change is heard");
    }

    /// What may still come of changes made before.
    async fn settled(changes: &mut Changes) {
        while time::timeout(GLANCE, changes.next()).await.is_ok() {}
    }

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, "").expect("written");
    }

    #[tokio::test]
    async fn a_folder_that_comes_and_one_that_is_replaced_are_heard() {
        let root = tempfile::tempdir().expect("a folder");
        let current = root.path().join("current");
        let mut changes = Changes::of(vec![current.clone()], Arc::default());
        settled(&mut changes).await;
        for generation in ["first", "second"] {
            let folder = root.path().join(generation);
            write(&folder.join("gcp/001.sql"));
            symlink(&folder, root.path().join("next")).expect("a link");
            fs::rename(root.path().join("next"), &current).expect("swapped");
            hears(&mut changes).await;
            settled(&mut changes).await;
            // In a folder that is there, and in one that is not yet.
            for name in ["gcp/001.sql", "aws/001.sql"] {
                write(&folder.join(name));
                hears(&mut changes).await;
                settled(&mut changes).await;
            }
        }
    }

    #[tokio::test]
    async fn without_notices_a_folder_is_to_be_read_each_time() {
        let root = tempfile::tempdir().expect("a folder");
        let mut changes = Changes::of(vec![root.path().to_owned()], Arc::default());
        settled(&mut changes).await;
        changes.watcher = None;
        hears(&mut changes).await;
        hears(&mut changes).await;
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Modify(ModifyKind::Any),
            EventKind::Remove(RemoveKind::Any),
            EventKind::Other,
        ] {
            assert!(is_change(kind), "{kind:?}");
        }
    }
}
