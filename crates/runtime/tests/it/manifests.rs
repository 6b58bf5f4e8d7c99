//! What `deploy/kubernetes` asks a cluster for.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Probe, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes")
}

/// The objects of a file.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).expect("a manifest");
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

/// What the files of the kustomization are called.
fn resources() -> Vec<String> {
    let kustomization = documents("kustomization.yaml").remove(0);
    let resources = kustomization["resources"].as_array().expect("resources").iter();
    resources.map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// The first object of a kind in a file.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let document = documents(file).into_iter().find(|document| document["kind"] == kind);
    serde_json::from_value(document.expect(kind)).expect(kind)
}

/// What Kubernetes' own definition keeps of an object; fields that it does not know are gone.
fn known<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
    let object: T = serde_json::from_value(document.clone()).expect("an object of its kind");
    serde_json::to_value(object).expect("JSON")
}

/// The places of the fields that are in the one and not, or not alike, in the other.
fn lost(place: &str, given: &Value, kept: &Value, places: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                lost(&format!("{place}.{name}"), value, kept.get(name).unwrap_or(&Value::Null), places);
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (number, (value, kept)) in given.iter().zip(kept).enumerate() {
                lost(&format!("{place}[{number}]"), value, kept, places);
            }
        }
        _ if given == kept => {}
        _ => places.push(place.to_owned()),
    }
}

#[test]
fn no_field_is_misspelt() {
    let mut places = Vec::new();
    let mut kinds = Vec::new();
    for file in resources() {
        for document in documents(&file) {
            let kind = document["kind"].as_str().expect("a kind").to_owned();
            let kept = match (document["apiVersion"].as_str().expect("a version"), kind.as_str()) {
                ("v1", "Namespace") => known::<Namespace>(&document),
                ("v1", "ServiceAccount") => known::<ServiceAccount>(&document),
                ("v1", "Secret") => known::<Secret>(&document),
                ("v1", "ConfigMap") => known::<ConfigMap>(&document),
                ("v1", "Service") => known::<Service>(&document),
                ("apps/v1", "StatefulSet") => known::<StatefulSet>(&document),
                ("rbac.authorization.k8s.io/v1", "Role") => known::<Role>(&document),
                ("rbac.authorization.k8s.io/v1", "RoleBinding") => known::<RoleBinding>(&document),
                other => panic!("{file}: {other:?} is new here"),
            };
            lost(&format!("{file}: {kind}"), &document, &kept, &mut places);
            kinds.push(kind);
        }
    }
    assert_eq!(places, Vec::<String>::new(), "Kubernetes does not know these fields");
    assert_eq!(kinds.len(), 8, "{kinds:?}");

    // The check sees what it is for.
    let mut document = documents("postgres.yaml").remove(0);
    document["spec"]["ports"][0]["targetport"] = Value::from("postgres");
    lost("Service", &document, &known::<Service>(&document), &mut places);
    assert_eq!(places, ["Service.spec.ports[0].targetport"]);
}

#[test]
fn every_file_is_in_the_kustomization() {
    let listed = resources();
    let files = fs::read_dir(folder()).expect("a folder").map(|file| file.expect("a file").file_name());
    let mut files: BTreeSet<String> = files.map(|name| name.into_string().expect("a name")).collect();
    assert!(files.remove("kustomization.yaml"));
    assert_eq!(files, listed.iter().cloned().collect());
    assert_eq!(files.len(), listed.len(), "none twice");
}

#[test]
fn the_watcher_is_started_whatever_the_image_starts() {
    let manager = manager();
    // Arguments alone would be given to the entrypoint of the image, and ours is not `pgdb`.
    let command = ["pgdb", "migrate", "watch"].map(str::to_owned).to_vec();
    assert_eq!((manager.command, manager.args), (Some(command), None));
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
