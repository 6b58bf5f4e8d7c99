//! Which crate may use which: the arrows of ARCHITECTURE.md.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use std::collections::BTreeMap;

/// What each crate may use of ours. Dev-dependencies are free, and so is `testkit`, which is one itself.
const ARROWS: [(&str, &[&str]); 7] = [
    ("pgdb-core", &[]),
    ("pgdb-pg", &["pgdb-core"]),
    ("pgdb-runtime", &["pgdb-core"]),
    ("pgdb-api", &["pgdb-core"]),
    ("pgdb-infra", &["pgdb-core"]),
    ("pgdb-server", &["pgdb-core", "pgdb-pg", "pgdb-runtime", "pgdb-api"]),
    ("pgdb", &["pgdb-core", "pgdb-pg", "pgdb-api", "pgdb-infra", "pgdb-server"]),
];

/// What only one crate may use: elsewhere its types would spread.
const KEPT_IN: [(&str, &str); 8] = [
    ("kube", "pgdb-runtime"),
    ("k8s-openapi", "pgdb-runtime"),
    ("bollard", "pgdb-runtime"),
    ("tokio-postgres", "pgdb-pg"),
    ("postgres-protocol", "pgdb-pg"),
    ("tokio-postgres-rustls", "pgdb-pg"),
    ("axum", "pgdb-server"),
    ("rusqlite", "pgdb-server"),
];

/// What the standard library does as well.
const SUPERSEDED: [&str; 2] = ["once_cell", "lazy_static"];

const TESTKIT: &str = "pgdb-testkit";

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// The direct dependencies of each crate of ours, dev-dependencies left out.
fn direct(metadata: &Metadata) -> BTreeMap<&str, Vec<&str>> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let used = package.dependencies.iter().filter(|used| used.kind != DependencyKind::Development);
            (package.name.as_str(), used.map(|used| used.name.as_str()).collect())
        })
        .collect()
}

#[test]
fn arrows_between_crates_go_one_way() {
    let metadata = metadata();
    let crates = direct(&metadata);
    for (name, used) in &crates {
        if *name == TESTKIT {
            continue;
        }
        let (_, allowed) =
            ARROWS.iter().find(|(from, _)| from == name).unwrap_or_else(|| panic!("{name} is not in ARROWS"));
        for other in used.iter().filter(|other| crates.contains_key(*other)) {
            assert!(allowed.contains(other), "{name} must not use {other}");
        }
    }
}

#[test]
fn what_belongs_to_one_crate_stays_in_it() {
    let metadata = metadata();
    for (name, used) in direct(&metadata) {
        for (dependency, home) in KEPT_IN {
            assert!(
                name == home || name == TESTKIT || !used.contains(&dependency),
                "{name} must not use {dependency}: it is kept in {home}"
            );
        }
        for dependency in SUPERSEDED {
            assert!(!used.contains(&dependency), "{name} must not use {dependency}: std has LazyLock and OnceLock");
        }
    }
}
