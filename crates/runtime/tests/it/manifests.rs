//! What `deploy/kubernetes` asks a cluster for.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Probe, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::PathBuf;

/// The first object of a kind in a file.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes").join(file);
    let text = fs::read_to_string(&path).expect("a manifest");
    let line = format!("kind: {kind}");
    let document = text.split("\n---\n").find(|document| document.lines().any(|other| other == line));
    serde_saphyr::from_str(document.expect(kind)).expect(kind)
}

fn manager() -> Container {
    let set: StatefulSet = object("postgres.yaml", "StatefulSet");
    let pod = set.spec.template.spec.expect("a pod");
    assert_eq!(pod.service_account_name.as_deref(), Some("postgres-manager"));
    assert_eq!(pod.automount_service_account_token, Some(false), "PostgreSQL itself needs no token");
    pod.containers.into_iter().find(|container| container.name == "postgres-manager").expect("the watcher")
}

#[test]
fn the_watcher_may_see_one_configmap_and_nothing_else() {
    let role: Role = object("rbac.yaml", "Role");
    let rules = role.rules.expect("rules");
    let [rule] = &rules[..] else { panic!("one rule, not {rules:?}") };
    assert_eq!(rule.verbs, ["list", "watch"]);
    assert_eq!(rule.resources.as_deref(), Some(&["configmaps".to_owned()][..]));
    let configmap: ConfigMap = object("configmap.yaml", "ConfigMap");
    assert_eq!(rule.resource_names, Some(vec![configmap.metadata.name.expect("a name")]));

    let binding: RoleBinding = object("rbac.yaml", "RoleBinding");
    let account: ServiceAccount = object("rbac.yaml", "ServiceAccount");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    assert_eq!(binding.subjects.and_then(|subjects| Some(subjects.first()?.name.clone())), account.metadata.name);
}

#[test]
fn the_probes_are_the_originals() {
    let manager = manager();
    let asked = |probe: &Option<Probe>| {
        let probe = probe.clone().expect("a probe");
        let get = probe.http_get.expect("a request");
        (get.path.expect("a path"), format!("{:?}", get.port), probe.period_seconds, probe.failure_threshold)
    };
    let port = "Int(1239)".to_owned();
    assert_eq!(asked(&manager.liveness_probe), ("/liveness".to_owned(), port.clone(), Some(10), None));
    assert_eq!(asked(&manager.readiness_probe), ("/readiness".to_owned(), port.clone(), Some(5), None));
    assert_eq!(asked(&manager.startup_probe), ("/liveness".to_owned(), port, Some(2), Some(60)));
}

#[test]
fn the_watcher_is_told_what_the_objects_are_called() {
    let env = manager().env.expect("variables");
    let value = |name: &str| env.iter().find(|one| one.name == name).and_then(|one| one.value.clone());
    assert_eq!(value("CONFIGMAP_NAME").as_deref(), Some("postgres-migrations"));
    assert_eq!(value("HEALTH_PORT").as_deref(), Some("1239"));
    let mounts = manager().volume_mounts.expect("mounts");
    assert!(mounts.iter().any(|mount| Some(&mount.mount_path) == value("CONFIGMAP_PATH").as_ref()));
    let secret: Secret = object("secret.yaml", "Secret");
    let url = env.iter().find(|one| one.name == "DATABASE_URL").and_then(|one| one.value_from.clone()).expect("a URL");
    let key = url.secret_key_ref.expect("out of a secret");
    assert_eq!(Some(key.name), secret.metadata.name);
    assert!(secret.string_data.expect("data").contains_key(&key.key));
}
