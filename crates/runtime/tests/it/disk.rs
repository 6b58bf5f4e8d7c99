//! A full disk, on a small file system of our own.

use crate::bed::{Bed, is_root};
use pgdb_runtime::{Runtime, RuntimeError};
use std::fs;
use std::process::Command;

/// Set in the inner run of this test, which is its own user in a mount namespace of its own.
const INSIDE: &str = "PGDB_TEST_SMALL_DISK";

/// A small file system at `path`, unmounted when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(path: &std::path::Path) -> Self {
        fs::create_dir_all(path).expect("made");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=50m,mode=755", "tmpfs"]).arg(path));
        Self(path.to_owned())
    }

    fn grow(&self) {
        run(Command::new("mount").args(["-o", "remount,size=400m"]).arg(&self.0));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_nothing_half_made_is_left() {
    if !is_root() && std::env::var_os(INSIDE).is_none() {
        return again_inside();
    }
    let bed = Bed::at("disk/pgdb").await;
    let small = if is_root() {
        // Over the folders that the runtime has made, which are made again.
        let small = Small::mount(bed.data_dir.parent().expect("a parent"));
        Some((small, crate::bed::open(&bed.data_dir).await))
    } else {
        None
    };
    let runtime = small.as_ref().map_or(&bed.runtime, |(_, runtime)| runtime);
    let spec = bed.spec("full").await;
    runtime.prepare(spec.major).await.expect("prepared");
    let error = runtime.create(&spec).await.expect_err("full");
    assert!(matches!(error, RuntimeError::DiskFull { .. }), "{error}");
    assert!(!bed.instance(&spec).join("data").exists() && !bed.instance(&spec).join("data.partial").exists());

    if let Some((small, _)) = &small {
        small.grow();
        bed_up(runtime, &spec).await;
        runtime.stop(&spec).await.expect("stopped");
        // Full while it starts: it cannot write its pid file.
        let filler = bed.data_dir.join("filler");
        let mut file = fs::File::create(&filler).expect("created");
        std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("full");
        drop(file);
        let error = runtime.start(&spec).await.expect_err("full");
        assert!(matches!(error, RuntimeError::DiskFull { .. }), "{error}");
        fs::remove_file(&filler).expect("removed");
        runtime.start(&spec).await.expect("started");
        runtime.discard(&spec.id).await.expect("discarded");
    }
}

async fn bed_up(runtime: &impl Runtime, spec: &pgdb_runtime::spec::ServerSpec) {
    runtime.create(spec).await.expect("created");
    runtime.configure(spec).await.expect("configured");
    runtime.start(spec).await.expect("started");
}

/// Runs this test where we may mount: as root of a user namespace, then as our own user again in one below it,
/// for PostgreSQL refuses root. The small file system covers the temporary folder.
fn again_inside() {
    let (uid, gid) = (id("-u"), id("-g"));
    let this = std::env::current_exe().expect("this program");
    let script = format!(
        "mount -t tmpfs -o size=50m,mode=777 tmpfs /tmp && exec unshare --user --map-user={uid} --map-group={gid} \"$0\" --exact disk::a_full_disk_is_told_and_nothing_half_made_is_left"
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(this)
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn id(what: &str) -> String {
    let output = Command::new("id").arg(what).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
