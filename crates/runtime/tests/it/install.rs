//! Engines that are installed from what a person names.

use crate::bed::{Bed, config};
use pgdb_runtime::Runtime;
use pgdb_runtime::process::ProcessRuntime;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_comes_from_a_directory_or_an_archive() {
    let bed = Bed::new().await;
    // Programs that say what a real one says; whole installations are large.
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("packed/pgsql");
    let bin = root.join("bin");
    std::fs::create_dir_all(&bin).expect("made");
    for name in ["postgres", "initdb"] {
        std::fs::write(bin.join(name), "#!/bin/sh\necho 'postgres (PostgreSQL) 13.99'\n").expect("written");
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o700)).expect("made to run");
    }
    let archive = dir.path().join("pg.tar.gz");
    let packed = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(dir.path()).arg("packed").status();
    assert!(packed.expect("tar runs").success());

    let error = bed.runtime.install(14, Some(&archive)).await.expect_err("another major").to_string();
    assert!(error.contains("is PostgreSQL 13.99, not 14"), "{error}");
    assert!(bed.runtime.install(12, Some(&archive)).await.is_err());
    assert!(bed.runtime.install(13, Some(dir.path().join("nothing").as_path())).await.is_err());
    std::fs::write(dir.path().join("broken.tar"), "not an archive").expect("written");
    assert!(bed.runtime.install(13, Some(&dir.path().join("broken.tar"))).await.is_err());

    for source in [&archive, &root, &archive] {
        let engine = bed.runtime.install(13, Some(source)).await.expect("installed");
        assert_eq!((engine.major, engine.version.as_str()), (13, "13.99"));
        assert_eq!(engine.bin_dir, bed.data_dir.canonicalize().expect("there").join("engines/13/bin"));
        let mode = std::fs::metadata(engine.bin_dir.join("postgres")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "the servers' user may run it");
    }
    let left: Vec<_> = std::fs::read_dir(bed.data_dir.join("engines")).expect("there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(bed.runtime.engines().await.expect("engines").iter().any(|engine| engine.major == 13));

    // Chosen folders win over the search path, and links are followed.
    let links = dir.path().join("links");
    std::fs::create_dir(&links).expect("made");
    std::os::unix::fs::symlink(bin.join("postgres"), links.join("postgres")).expect("linked");
    let mut config = config(&dir.path().join("other"));
    config.path = Some(links.into());
    let other = ProcessRuntime::new(config).await.expect("opened");
    let engines = other.engines().await.expect("engines");
    assert!(engines.iter().any(|engine| engine.major == 13 && engine.bin_dir == bin.canonicalize().expect("there")));
}
