//! Where migrations come from, and which of several places counts.
//!
//! The API is stronger than the mount, and the mount than the folder, whose content an init container copied once and
//! nobody renews. A stronger place takes over when it appears. A weaker one never does: what it holds may be old, and
//! old files would be run again over new ones. So what a place held last counts until there is something in it again.
//! A place that is there and cannot be read is not empty: weaker ones are not looked at, and that is told.

mod folder;
pub(super) mod writes;

use self::folder::Reading;
use self::writes::Writes;
use super::directory::Found;
use super::settings::{Origin, Settings};
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::{Key, is_candidate};
use pgdb_runtime::kubernetes::configmap::{ConfigMapWatch, Content, Entries};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the API may leave the first question unanswered before weaker places are looked at.
const API_PATIENCE: Duration = Duration::from_secs(5);

/// The places.
pub(super) struct Sources {
    api: Option<ConfigMapWatch>,
    configmap: String,
    mount: Option<PathBuf>,
    directory: Option<PathBuf>,
    /// Which files of plain folders are being written.
    writes: Arc<Writes>,
    since: Instant,
    /// The last that counted.
    last: Option<Snapshot>,
}

/// What a place holds.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) origin: Origin,
    /// The place, for people.
    pub(super) place: String,
    /// In the order of their keys, no key twice.
    pub(super) files: Vec<File>,
    /// Names that cannot be used and files that cannot be read, each with why. A migration that is not run must not go
    /// unseen.
    pub(super) refused: Vec<String>,
    /// Why this may not be the newest.
    pub(super) trouble: Option<String>,
}

/// Why nothing counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// No place holds anything.
    Nothing(String),
    /// The place that counts is being changed; it can be read in a moment.
    Busy(String),
}

/// What one place has to say.
enum Told {
    /// Files.
    Holds(Found),
    /// No migrations; where it was looked, and why there are none.
    Nothing(String),
    /// It is there and cannot be read.
    Broken(String),
    /// It is being changed.
    Busy(String),
    /// It will know more in a moment.
    Soon(String),
}

impl Sources {
    /// Begins to watch the ConfigMap, if there is an API to ask.
    pub(super) fn open(settings: &Settings) -> Self {
        let (namespace, name) = (&settings.namespace, &settings.configmap_name);
        let watch = |access| ConfigMapWatch::start(access, namespace.clone(), name.clone());
        Self {
            api: settings.access.clone().map(watch),
            configmap: format!("{namespace}/{name}"),
            mount: settings.mount.clone(),
            directory: settings.directory.clone(),
            writes: Arc::default(),
            since: Instant::now(),
            last: None,
        }
    }

    /// What has to be told of files that are written.
    pub(super) fn writes(&self) -> Arc<Writes> {
        Arc::clone(&self.writes)
    }

    /// The folders to listen to.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.mount.iter().chain(&self.directory).cloned().collect()
    }

    /// Resolves when the API has told something new.
    pub(super) async fn api_changed(&mut self) {
        match &mut self.api {
            Some(api) => api.changed().await,
            None => std::future::pending().await,
        }
    }

    /// What counts now, or why nothing does.
    pub(super) async fn read(&mut self) -> Result<Snapshot, Unread> {
        let weakest = self.last.as_ref().map_or(Origin::Directory, |last| last.origin);
        let mut nothing = Vec::new();
        for origin in Origin::ALL.into_iter().filter(|origin| *origin <= weakest) {
            let Some((place, told)) = self.ask(origin).await else { continue };
            match told {
                Told::Holds(found) => {
                    // Also of a weaker place: there may be a ConfigMap that we are not let see.
                    let trouble = self.api.as_mut().and_then(|api| api.known().trouble);
                    let snapshot = Snapshot { origin, place, files: found.files, refused: found.left_out, trouble };
                    return Ok(self.last.insert(snapshot).clone());
                }
                Told::Broken(why) => {
                    let kept = self.last.clone().filter(|last| last.origin == origin);
                    let files = kept.map(|last| last.files).unwrap_or_default();
                    return Ok(Snapshot { origin, place, files, refused: vec![why], trouble: None });
                }
                Told::Busy(why) => return Err(Unread::Busy(why)),
                Told::Soon(why) if self.last.is_none() => return Err(Unread::Nothing(why)),
                Told::Soon(why) | Told::Nothing(why) => nothing.push(why),
            }
        }
        match &mut self.last {
            // What it held last. It has been emptied, removed, or cannot be read; the ledger forgets nothing either way.
            Some(last) => {
                last.trouble = Some(nothing.join("; "));
                Ok(last.clone())
            }
            None if nothing.is_empty() => Err(Unread::Nothing("there is no place to look for migrations".to_owned())),
            None => Err(Unread::Nothing(format!(
                "there are no migrations: {}; --dir (MIGRATIONS_DIR) names another folder, and DATABASE_URL \
                 another database",
                nothing.join("; ")
            ))),
        }
    }

    async fn ask(&mut self, origin: Origin) -> Option<(String, Told)> {
        match origin {
            Origin::Api => {
                let place = format!("ConfigMap {}", self.configmap);
                let told = self.ask_api(&place)?;
                Some((place, told))
            }
            Origin::Mount => Some(read_folder(self.mount.clone()?, self.writes()).await),
            Origin::Directory => Some(read_folder(self.directory.clone()?, self.writes()).await),
        }
    }

    fn ask_api(&mut self, place: &str) -> Option<Told> {
        let waited = self.since.elapsed() >= API_PATIENCE;
        let known = self.api.as_mut()?.known();
        Some(match (known.content, known.trouble) {
            (Content::Entries(entries), _) => holds(place, from_entries(&entries)),
            (_, Some(trouble)) => Told::Nothing(trouble),
            (Content::Absent, None) => Told::Nothing(format!("there is no {place}")),
            (Content::Unknown, None) if waited => Told::Nothing("the Kubernetes API does not answer".to_owned()),
            (Content::Unknown, None) => Told::Soon("the Kubernetes API has not answered yet".to_owned()),
        })
    }
}

impl Snapshot {
    /// Whether both hold the same.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        let what = |snapshot: &Self| -> Vec<(Key, Checksum)> {
            snapshot.files.iter().map(|file| (file.key.clone(), file.checksum)).collect()
        };
        self.origin == other.origin && self.refused == other.refused && what(self) == what(other)
    }
}

fn holds(place: &str, found: Found) -> Told {
    if found.files.is_empty() && found.left_out.is_empty() {
        return Told::Nothing(format!("there is no .sql file in {place}"));
    }
    Told::Holds(found)
}

/// The keys that look like migrations.
fn from_entries(entries: &Entries) -> Found {
    let mut found = Found::default();
    for (name, bytes) in entries.iter().filter(|(name, _)| is_candidate(name)) {
        match Key::flat(name) {
            Ok(key) => found.files.push(File::new(key, bytes.clone())),
            Err(invalid) => found.left_out.push(invalid.to_string()),
        }
    }
    // `001_a.sql` and `public_001_a.sql` are one migration.
    found.in_order(|key| format!("there are two keys for '{key}'"))
}

async fn read_folder(path: PathBuf, writes: Arc<Writes>) -> (String, Told) {
    let place = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || folder::read(&path, &writes)).await;
    let told = match read {
        Ok(Ok(Reading::Whole(found))) => holds(&place, found),
        Ok(Ok(Reading::Absent)) => Told::Nothing(format!("there is no folder {place}")),
        Ok(Ok(Reading::Busy(why))) => Told::Busy(why),
        Ok(Err(error)) => Told::Broken(format!("{error}: {}", error.source)),
        Err(_) => Told::Broken(format!("could not read {place}")),
    };
    (place, told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    fn sources(mount: &Path, directory: &Path) -> Sources {
        Sources {
            api: None,
            configmap: "tests/none".to_owned(),
            mount: Some(mount.to_owned()),
            directory: Some(directory.to_owned()),
            writes: Arc::default(),
            since: Instant::now(),
            last: None,
        }
    }

    /// Writes as if it were long ago.
    fn write(path: &Path) {
        fs::write(path, "").expect("written");
        let dated = fs::File::options().write(true).open(path).and_then(|file| file.set_modified(UNIX_EPOCH));
        dated.expect("dated");
    }

    async fn keys(sources: &mut Sources) -> Vec<String> {
        let snapshot = sources.read().await.expect("a source");
        snapshot.files.iter().map(|file| file.key.to_string()).collect()
    }

    #[tokio::test]
    async fn a_stronger_place_takes_over_and_a_weaker_never_does() {
        let root = tempfile::tempdir().expect("a folder");
        let (mount, tree) = (root.path().join("mount"), root.path().join("tree"));
        let mut sources = sources(&mount, &tree);
        let why = sources.read().await.expect_err("nothing there");
        assert!(matches!(&why, Unread::Nothing(why) if why.contains("mount") && why.contains("tree")), "{why:?}");

        fs::create_dir_all(tree.join("gcp")).expect("a folder");
        write(&tree.join("gcp/001_old.sql"));
        assert_eq!(keys(&mut sources).await, ["gcp/001_old.sql"]);

        // A volume that is mounted and empty is not a source yet.
        fs::create_dir(&mount).expect("a folder");
        assert_eq!(keys(&mut sources).await, ["gcp/001_old.sql"]);
        write(&mount.join("gcp_001_new.sql"));
        assert_eq!(keys(&mut sources).await, ["gcp/001_new.sql"]);

        fs::remove_dir_all(&mount).expect("removed");
        let kept = sources.read().await.expect("what it held last");
        assert_eq!(kept.origin, Origin::Mount);
        assert!(kept.trouble.is_some_and(|trouble| trouble.contains("mount")));
        assert_eq!(keys(&mut sources).await, ["gcp/001_new.sql"]);
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_read_is_told_and_no_weaker_one_is_used() {
        let root = tempfile::tempdir().expect("a folder");
        let (mount, tree) = (root.path().join("mount"), root.path().join("tree"));
        let mut sources = sources(&mount, &tree);
        fs::create_dir(&tree).expect("a folder");
        write(&tree.join("gcp_001_old.sql"));
        // There, and no folder.
        fs::write(&mount, "").expect("written");
        let broken = sources.read().await.expect("told");
        assert_eq!((broken.origin, broken.files.len()), (Origin::Mount, 0));
        assert!(broken.refused[0].starts_with(&format!("could not read {}", mount.display())), "{broken:?}");

        fs::remove_file(&mount).expect("removed");
        fs::create_dir(&mount).expect("a folder");
        write(&mount.join("gcp_001_new.sql"));
        std::os::unix::fs::symlink("nowhere", mount.join("gcp_002_link.sql")).expect("a link");
        write(&mount.join("gcp_003_more.sql"));
        let snapshot = sources.read().await.expect("told");
        assert_eq!(snapshot.files.len(), 2, "the others are there");
        assert!(snapshot.refused[0].contains("gcp_002_link.sql"), "{snapshot:?}");

        fs::remove_dir_all(&mount).expect("removed");
        fs::write(&mount, "").expect("written");
        let broken = sources.read().await.expect("told");
        assert_eq!((broken.files.len(), broken.refused.len()), (2, 1), "what it held last, and that it cannot be read");
    }

    #[test]
    fn keys_with_tricks_are_refused_and_none_is_lost() {
        let entries = [
            "gcp_001_good.sql",
            "gcp_../../etc/passwd.sql",
            "../gcp_002.sql",
            "gcp_/etc/003.sql",
            "gcp_004\u{0}.sql",
            "README.md",
            "gcp_005.down.sql",
        ];
        let entries: Entries = std::sync::Arc::new(entries.map(|key| (key.to_owned(), Vec::new())).into());
        let found = from_entries(&entries);
        let keys: Vec<&str> = found.files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!(keys, ["gcp/001_good.sql"]);
        // `../gcp_002.sql` begins with a dot, as hidden files do.
        assert_eq!(found.left_out.len(), 3, "{:?}", found.left_out);
    }
}
