//! `engine.install`, from a folder. The installation is a stand-in that can say its version and nothing else: what is
//! tested is that it is there whole or not at all.

use super::driver::Scenario;
use pgdb_testkit::api::Body;
use pgdb_testkit::daemon::Daemon;
use pgdb_testkit::world::assert_nothing_left;
use reqwest::Method;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub(super) struct Install;

/// A major that no package brings any more, so that only the stand-in can be it.
const MAJOR: u16 = 13;
const PROGRAMS: [&str; 7] = ["postgres", "initdb", "pg_ctl", "pg_dump", "pg_restore", "psql", "pg_controldata"];
/// Files beside the programs, so that copying takes long enough to be interrupted.
const SHARED_FILES: usize = 400;

pub(super) struct Source {
    folder: PathBuf,
}

impl Source {
    fn files(&self) -> usize {
        count_files(&self.folder)
    }
}

/// Where the daemon keeps what it installs.
fn engines_dir(daemon: &Daemon) -> PathBuf {
    daemon.data_dir().join("engines")
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

impl Scenario for Install {
    const KIND: &'static str = "engine.install";
    const FORWARD_ONLY: bool = true;
    type Subject = Source;

    async fn setup(&self, daemon: &Daemon, name: &str) -> Source {
        let folder = daemon.folder().join("sources").join(name);
        let (bin, share) = (folder.join("bin"), folder.join("share"));
        fs::create_dir_all(&bin).expect("make a folder");
        fs::create_dir_all(&share).expect("make a folder");
        for program in PROGRAMS {
            let script = format!("#!/bin/sh\necho '{program} (PostgreSQL) {MAJOR}.99'\n");
            fs::write(bin.join(program), script).expect("write a stand-in");
            fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).expect("make it a program");
        }
        for number in 0..SHARED_FILES {
            fs::write(share.join(number.to_string()), vec![b'x'; 20_000]).expect("write a file");
        }
        Source { folder }
    }

    fn request(&self, subject: &Source) -> (Method, String, Body) {
        let body = json!({ "source": subject.folder });
        (Method::POST, format!("/v1/engines/{MAJOR}/install?wait=false"), Body::Json(body))
    }

    async fn check_done(&self, daemon: &Daemon, subject: &Source) {
        let engines = daemon.get("/v1/engines").await.expect(200);
        let items = engines["items"].as_array().expect("items");
        let installed = items.iter().find(|engine| engine["major"] == MAJOR).expect("the major is listed");
        assert_eq!(installed["version"], format!("{MAJOR}.99"));
        let bin_dir = Path::new(installed["bin_dir"].as_str().expect("a folder"));
        assert!(bin_dir.starts_with(engines_dir(daemon)), "{} is somewhere else", bin_dir.display());
        let installation = bin_dir.parent().expect("the installation's folder");
        assert_eq!(count_files(installation), subject.files(), "the installation is not whole");
        let entries = fs::read_dir(engines_dir(daemon)).expect("list the engines' folder").count();
        assert_eq!(entries, 1, "there is more in the engines' folder than the installation");
        assert_nothing_left(daemon, &[]).await;
    }

    async fn check_taken_back(&self, _: &Daemon, subject: &Source) {
        panic!("the installation from {} was taken back, which it never is", subject.folder.display());
    }

    async fn clean_up(&self, daemon: &Daemon, subject: Source) {
        fs::remove_dir_all(engines_dir(daemon)).expect("remove the installation");
        fs::create_dir(engines_dir(daemon)).expect("leave an empty folder");
        fs::remove_dir_all(&subject.folder).expect("remove the source");
        let engines = daemon.get("/v1/engines").await.expect(200);
        let majors: Vec<_> = engines["items"].as_array().expect("items").iter().map(|item| &item["major"]).collect();
        assert!(!majors.contains(&&json!(MAJOR)), "{majors:?}");
    }
}
