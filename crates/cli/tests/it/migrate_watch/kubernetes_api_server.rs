//! `deploy/kubernetes` and the watcher against a real API server, with the rights that our manifests give.

use super::bed::{Bed, LIMIT};
use super::folders::{applied, says};
use pgdb_testkit::cluster::{Cluster, door::Door};
use pgdb_testkit::wait;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::os::unix::fs::symlink;
use std::{fs, path::Path};

/// What the manifests call things.
const NAMESPACE: &str = "secret-manager-controller-pact-broker";
const ACCOUNT: &str = "postgres-manager";
const NAME: &str = "postgres-migrations";

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kubernetes");

fn configmap() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}")
}

/// Does what the manifests' first line tells people to do.
fn deploy(cluster: &Cluster) {
    cluster.kubectl(&["apply", "-k", MANIFESTS, "--validate=true"], "").expect("applied");
}

/// Changes keys of the ConfigMap, and leaves the others.
async fn update(cluster: &Cluster, entries: &[(&str, &str)]) {
    let data: Map<String, Value> = entries.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    cluster.send(Method::PATCH, &configmap(), &json!({ "data": data })).await;
}

/// A bed whose watcher is told where the ConfigMap is.
async fn beside(kubeconfig: &Path) -> Bed {
    let mut bed = Bed::start().await;
    bed.set("KUBECONFIG", &kubeconfig.display().to_string());
    bed.set("NAMESPACE", NAMESPACE);
    bed.set("CONFIGMAP_NAME", NAME);
    bed
}

/// The first pod, as Kubernetes would make it.
fn pod_of_the_set(cluster: &Cluster) -> Value {
    let get = ["--namespace", NAMESPACE, "get", "statefulset", "postgres", "--output=json"];
    let set: Value = serde_json::from_str(&cluster.kubectl(&get, "").expect("the set")).expect("JSON");
    let mut spec = set["spec"]["template"]["spec"].clone();
    let claim = set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"].as_str().expect("a claim");
    let volume = json!({"name": claim, "persistentVolumeClaim": {"claimName": format!("{claim}-postgres-0")}});
    spec["volumes"].as_array_mut().expect("volumes").push(volume);
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let metadata = json!({"name": "postgres-0", "namespace": NAMESPACE, "labels": labels});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

#[tokio::test]
async fn takes_our_manifests_and_the_role_allows_no_more_than_it_says() {
    let cluster = Cluster::start().await;
    let all = cluster.kubectl(&["kustomize", MANIFESTS], "").expect("built");
    // What a dry run makes is not kept, and the rest is made in the namespace.
    cluster.kubectl(&["apply", "-f", &format!("{MANIFESTS}/namespace.yaml")], "").expect("a namespace");
    let dry = ["apply", "--validate=true", "--dry-run=server"];
    let said = cluster.kubectl(&[&dry[..], &["-k", MANIFESTS]].concat(), "").expect("a dry run");
    assert_eq!(said.lines().count(), 8, "{said}");
    let missing = cluster.kubectl(&["--namespace", NAMESPACE, "get", "statefulset", "postgres"], "");
    assert!(missing.is_err_and(|error| error.contains("NotFound")));

    // Fields that nobody knows would be refused, and values that cannot be.
    let from_input = [&dry[..], &["-f", "-"]].concat();
    for (right, wrong, complaint) in [
        ("targetPort: postgres", "targetport: postgres", "unknown field"),
        ("path: /readiness", "pth: /readiness", "unknown field"),
        ("port: 5432\n", "port: 543200\n", "Invalid value"),
    ] {
        let manifests = all.replace(right, wrong);
        assert_ne!(all, manifests, "{right} is not there");
        let error = cluster.kubectl(&from_input, &manifests).expect_err(wrong);
        assert!(error.contains(complaint), "{wrong}: {error}");
    }

    deploy(&cluster);
    let objects = "statefulset/postgres,service/postgres,secret/postgres-credentials,configmap/postgres-migrations,\
                   serviceaccount/postgres-manager,role/postgres-manager,rolebinding/postgres-manager";
    let get = [&["--namespace", NAMESPACE, "get", "--output=name"], &objects.split(',').collect::<Vec<_>>()[..]];
    assert_eq!(cluster.kubectl(&get.concat(), "").expect("all are there").lines().count(), 7);
    let again = cluster.kubectl(&["apply", "-k", MANIFESTS], "").expect("again");
    assert!(again.lines().all(|line| line.ends_with(" unchanged") || line.ends_with(" configured")), "{again}");

    // A set's pod is not looked at before one is made of it, which here nobody does.
    let pod = pod_of_the_set(&cluster);
    let made = cluster.kubectl(&from_input, &pod.to_string()).expect("a pod");
    assert!(made.contains("pod/postgres-0 created"), "{made}");
    let mut wrong = pod;
    wrong["spec"]["containers"][1]["volumeMounts"][0]["name"] = json!("nowhere");
    let error = cluster.kubectl(&from_input, &wrong.to_string()).expect_err("no such volume");
    assert!(error.contains("volumeMounts[0].name: Not found"), "{error}");

    let token = cluster.token(NAMESPACE, ACCOUNT).await;
    let may = |verb: &str, what: &str| {
        cluster.kubectl_as(&token, &["--namespace", NAMESPACE, "auth", "can-i", verb, what, "--quiet"], "").is_ok()
    };
    for verb in ["list", "watch"] {
        assert!(may(verb, "configmaps/postgres-migrations"), "{verb}");
        assert!(!may(verb, "configmaps"), "{verb} all");
        assert!(!may(verb, "configmaps/another"), "{verb} another");
        assert!(!may(verb, "secrets"), "{verb} secrets");
    }
    for verb in ["get", "update", "patch", "delete"] {
        assert!(!may(verb, "configmaps/postgres-migrations"), "{verb}");
    }
}

#[tokio::test]
async fn is_followed_through_rights_updates_and_a_restart() {
    const UPDATES: u32 = 50;
    let mut cluster = Cluster::start().await;
    deploy(&cluster);
    let unbind = ["--namespace", NAMESPACE, "delete", "rolebinding", "postgres-manager"];
    cluster.kubectl(&unbind, "").expect("no rights yet");
    let token = cluster.token(NAMESPACE, ACCOUNT).await;
    let mut bed = beside(&cluster.kubeconfig(&token)).await;
    bed.watch();
    let body = bed.not_ready("(RBAC)").await;
    assert!(body["reason"].as_str().is_some_and(|reason| reason.contains(ACCOUNT)), "{body}");
    deploy(&cluster);
    let ready = bed.ready().await;
    assert_eq!(ready["source"], format!("ConfigMap {NAMESPACE}/{NAME}"), "{ready}");
    assert_eq!(bed.sql("SELECT count(*)::text FROM gcp.secrets").await, "0", "the example's table is there");
    assert!(ready["source_trouble"].is_null(), "{ready}");

    // Each changes one file and brings one more.
    for number in 1..=UPDATES {
        let counter = says("counter", &number.to_string());
        let table = format!("CREATE TABLE t{number} (a int);");
        update(&cluster, &[("public_000_counter.sql", &counter), (&format!("public_{number:03}.sql"), &table)]).await;
    }
    bed.until_sql("SELECT text FROM counter", &UPDATES.to_string()).await;
    let ready = bed.ready().await;
    assert_eq!(ready["applied"].as_u64(), Some(u64::from(UPDATES) + 3), "{ready}");
    assert_eq!(bed.sql("SELECT count(*)::text FROM pg_tables WHERE tablename ~ '^t\\d+$'").await, UPDATES.to_string());

    // What was known still counts while nobody can be asked, and says so.
    cluster.kill();
    let look = || async { bed.probe("/readiness").await.filter(|(_, body)| body["source_trouble"].is_string()) };
    let (status, body) = wait::until(LIMIT, "the trouble to be told", look).await;
    assert_eq!(status, 200, "{body}");
    cluster.resume().await;
    update(&cluster, &[("public_000_counter.sql", &says("counter", "after the restart"))]).await;
    bed.until_sql("SELECT text FROM counter", "after the restart").await;
    let ready = bed.ready().await;
    assert!(ready["source_trouble"].is_null(), "{ready}");
    assert_eq!(bed.sql(&applied("public/001.sql")).await, "1", "nothing ran twice");
}

#[tokio::test]
async fn may_have_forgotten_the_version_that_we_know() {
    // What the server itself remembers would outlive what etcd forgets.
    let cluster = Cluster::start_with(&["--watch-cache=false"]).await;
    deploy(&cluster);
    let token = cluster.token(NAMESPACE, ACCOUNT).await;
    let door = Door::open(&cluster, &token).await;
    let mut bed = beside(&door.kubeconfig).await;
    bed.watch();
    bed.ready().await;
    assert_eq!(door.heard("\"code\":410"), 0);
    // Others go on, the ConfigMap stays as it is, and what was in between is forgotten.
    for number in 0..3 {
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        cluster.send(Method::PATCH, &namespace, &json!({"metadata": {"labels": {"number": number.to_string()}}})).await;
    }
    cluster.compact().await;
    let look = || async { (door.heard("\"code\":410") > 0).then_some(()) };
    wait::until(LIMIT, "a watch to be refused with 410", look).await;
    update(&cluster, &[("public_001_a.sql", &says("a", "after 410"))]).await;
    bed.until_sql("SELECT text FROM a", "after 410").await;
    let ready = bed.ready().await;
    assert!(ready["source_trouble"].is_null(), "{ready}");
}

/// Needs root, for the service account's files have one place only.
#[tokio::test]
async fn is_found_in_a_pod() {
    const MOUNT: &str = r#"
        set -eu
        mount -t tmpfs tmpfs /run
        mkdir -p /run/secrets/kubernetes.io
        ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
        shift
        exec "$@""#;
    let cluster = Cluster::start().await;
    deploy(&cluster);
    let account = cluster.folder().join("account");
    fs::create_dir(&account).expect("a folder");
    fs::write(account.join("token"), cluster.token(NAMESPACE, ACCOUNT).await).expect("written");
    fs::write(account.join("namespace"), NAMESPACE).expect("written");
    symlink(cluster.authority(), account.join("ca.crt")).expect("a link");

    let mut bed = Bed::start().await;
    let (host, port) = cluster.address();
    bed.set("KUBERNETES_SERVICE_HOST", &host);
    bed.set("KUBERNETES_SERVICE_PORT", &port.to_string());
    bed.set("NAMESPACE", NAMESPACE);
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh"];
    bed.run_under(&[&unshare[..], &[&account.display().to_string()]].concat());
    bed.watch();
    let ready = bed.ready().await;
    assert_eq!(ready["source"], format!("ConfigMap {NAMESPACE}/{NAME}"), "{ready}");
    update(&cluster, &[("public_001_a.sql", &says("a", "in a pod"))]).await;
    bed.until_sql("SELECT text FROM a", "in a pod").await;
}
