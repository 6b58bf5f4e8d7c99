//! Copies that share their blocks, on file systems that can do that and on one that may not.

use crate::bed::{is_root, open, spec};
use pgdb_runtime::Runtime;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in a file, unmounted when dropped.
struct Mounted {
    folder: PathBuf,
    _image: tempfile::TempDir,
}

impl Mounted {
    fn new(mkfs: &[&str]) -> Self {
        let image = tempfile::Builder::new().prefix("pgdb-reflink-").tempdir().expect("a folder");
        let file = image.path().join("image");
        File::create(&file).and_then(|file| file.set_len(1 << 30)).expect("an image with no blocks yet");
        let folder = image.path().join("mounted");
        fs::create_dir(&folder).expect("made");
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&file));
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&folder));
        // The servers' user has to get through.
        run(Command::new("chmod").arg("755").arg(image.path()).arg(&folder));
        Self { folder, _image: image }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.folder).status().ok();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether files in a folder can share blocks, as the system's own program finds.
fn shares_blocks(folder: &Path) -> bool {
    let (one, other) = (folder.join("one"), folder.join("other"));
    fs::write(&one, [7; 8192]).expect("written");
    let copied = Command::new("cp").arg("--reflink=always").arg(&one).arg(&other).output().expect("cp runs");
    fs::remove_file(&one).expect("removed");
    fs::remove_file(&other).ok();
    copied.status.success()
}

/// Bytes that the file system has in use, after everything was written out.
fn used(folder: &Path) -> u64 {
    run(Command::new("sync").arg("-f").arg(folder));
    let told = run(Command::new("df").args(["--output=used", "-B1"]).arg(folder));
    told.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number of bytes")
}

/// Makes copies in a folder, runs one, and returns the bytes that a copy took.
async fn bytes_of_a_copy(folder: &Path, shares: bool) -> u64 {
    let runtime = open(&folder.join("pgdb")).await;
    let major = runtime.engines().await.expect("engines")[0].major;
    let (first, second) = (spec("first", major), spec("second", major));
    runtime.prepare(major).await.expect("prepared");
    runtime.create(&first).await.expect("created");
    let before = used(folder);
    runtime.create(&second).await.expect("created");
    let took = used(folder).saturating_sub(before);
    runtime.configure(&second).await.expect("configured");
    runtime.start(&second).await.expect("a copy starts");
    let settings = fs::read_to_string(folder.join("pgdb/instances/second/data/pgdb.conf")).expect("settings");
    if major >= 18 {
        let method = if shares { "clone" } else { "copy" };
        assert!(settings.contains(&format!("file_copy_method = '{method}'")), "{settings}");
    }
    for id in ["first", "second"] {
        runtime.discard(id).await.expect("discarded");
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_shares_its_blocks_where_the_file_system_can() {
    let own = tempfile::tempdir().expect("a folder");
    run(Command::new("chmod").arg("755").arg(own.path()));
    let shares = shares_blocks(own.path());
    let took = bytes_of_a_copy(own.path(), shares).await;
    println!("here: {took} bytes, shares blocks: {shares}");
    // Only root may mount; anybody else sees what the folder for temporary files can do.
    if !is_root() {
        return;
    }
    for mkfs in [&["mkfs.xfs", "-q", "-m", "reflink=1"][..], &["mkfs.btrfs", "-q"]] {
        let mounted = Mounted::new(mkfs);
        assert!(shares_blocks(&mounted.folder), "{} makes what shares blocks", mkfs[0]);
        let took = bytes_of_a_copy(&mounted.folder, true).await;
        println!("{}: {took} bytes", mkfs[0]);
        assert!(took < 4 << 20, "a copy took {took} bytes on {}: it shares nothing", mkfs[0]);
    }
}
