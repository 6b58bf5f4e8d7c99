//! Watching a ConfigMap, against a stand-in that speaks the API's protocol.

use pgdb_runtime::kubernetes::Access;
use pgdb_runtime::kubernetes::configmap::{ConfigMapWatch, Content, Known};
use pgdb_testkit::kube::{KubeApi, NAME, NAMESPACE};
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

struct Bed {
    api: KubeApi,
    watch: ConfigMapWatch,
    _folder: TempDir,
}

/// A watch of the stand-in; `before` sets the scene.
fn watching(before: impl FnOnce(&KubeApi)) -> Bed {
    let api = KubeApi::start();
    before(&api);
    let folder = tempfile::tempdir().expect("a folder");
    let access = Access::Kubeconfig(Some(api.kubeconfig(folder.path())));
    let watch = ConfigMapWatch::start(access, NAMESPACE.to_owned(), NAME.to_owned());
    Bed { api, watch, _folder: folder }
}

impl Bed {
    /// Waits until what is known is as it should be.
    async fn until(&mut self, what: &str, good: impl Fn(&Known) -> bool) -> Known {
        let mut last = self.watch.known();
        let looking = async {
            while !good(&last) {
                self.watch.changed().await;
                last = self.watch.known();
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        assert!(found.is_ok(), "{what}: not so after {PATIENCE:?}; known is {last:?}");
        last
    }

    async fn until_holds(&mut self, key: &str, text: &str) {
        let what = format!("{key} holds {text}");
        let known = self.until(&what, |known| holds(known, key, text) && known.trouble.is_none()).await;
        assert!(holds(&known, key, text));
    }
}

fn holds(known: &Known, key: &str, text: &str) -> bool {
    matches!(&known.content, Content::Entries(entries) if entries.get(key).is_some_and(|bytes| bytes == text.as_bytes()))
}

#[tokio::test]
async fn made_changed_removed_and_made_again() {
    let mut bed = watching(|_| {});
    bed.until("no ConfigMap", |known| known.content == Content::Absent).await;
    bed.api.apply(&[("gcp_001_a.sql", "SELECT 1")]);
    bed.until_holds("gcp_001_a.sql", "SELECT 1").await;
    bed.api.apply(&[("gcp_001_a.sql", "SELECT 2")]);
    bed.until_holds("gcp_001_a.sql", "SELECT 2").await;
    bed.api.delete();
    bed.until("removed", |known| known.content == Content::Absent).await;
    bed.api.apply(&[("gcp_001_a.sql", "SELECT 3")]);
    bed.until_holds("gcp_001_a.sql", "SELECT 3").await;
}

#[tokio::test]
async fn only_the_one_configmap_is_asked_for() {
    let mut bed = watching(|api| api.apply(&[("a_1.sql", "")]));
    bed.until_holds("a_1.sql", "").await;
    bed.api.apply(&[("a_1.sql", "SELECT 1")]);
    bed.until_holds("a_1.sql", "SELECT 1").await;
    let requests = bed.api.requests();
    // RBAC can name the one ConfigMap only if each list and watch does.
    let named = format!("fieldSelector=metadata.name%3D{NAME}");
    assert!(requests.iter().all(|request| request.contains(&named)), "{requests:?}");
    assert!(requests.iter().any(|request| request.contains("watch=true")), "{requests:?}");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_no_end() {
    let mut bed = watching(|api| api.apply(&[("a_1.sql", "SELECT 1")]));
    bed.until_holds("a_1.sql", "SELECT 1").await;
    for round in 2..5 {
        bed.api.compact();
        let text = format!("SELECT {round}");
        bed.api.apply(&[("a_1.sql", &text)]);
        bed.until_holds("a_1.sql", &text).await;
    }
    // Each time it was told so, and has listed again.
    let lists = bed.api.requests().iter().filter(|request| !request.contains("watch=true")).count();
    assert_eq!(lists, 4, "{:?}", bed.api.requests());
}

#[tokio::test]
async fn a_permission_that_comes_later_or_goes_is_waited_for() {
    let mut bed = watching(|api| {
        api.apply(&[("a_1.sql", "SELECT 1")]);
        api.forbid(true);
    });
    let known = bed.until("forbidden", |known| known.trouble.is_some()).await;
    assert_eq!(known.content, Content::Unknown);
    let trouble = known.trouble.expect("a trouble");
    assert!(trouble.contains("RBAC") && trouble.contains(NAME), "{trouble}");
    bed.api.forbid(false);
    bed.until_holds("a_1.sql", "SELECT 1").await;

    // Taken away again: what was known stays known.
    bed.api.forbid(true);
    let known = bed.until("forbidden again", |known| known.trouble.is_some()).await;
    assert!(holds(&known, "a_1.sql", "SELECT 1"), "{known:?}");
    bed.api.apply(&[("a_1.sql", "SELECT 2")]);
    bed.api.forbid(false);
    bed.until_holds("a_1.sql", "SELECT 2").await;
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut bed = watching(|api| api.apply(&[("a_1.sql", "SELECT 1")]));
    bed.until_holds("a_1.sql", "SELECT 1").await;
    bed.api.stop().await;
    let known = bed.until("the server is away", |known| known.trouble.is_some()).await;
    assert!(holds(&known, "a_1.sql", "SELECT 1"), "{known:?}");
    bed.api.apply(&[("a_1.sql", "SELECT 2")]);
    bed.api.resume();
    bed.until_holds("a_1.sql", "SELECT 2").await;
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_yet_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = KubeApi::start();
    api.apply(&[("a_1.sql", "SELECT 1")]);
    let access = Access::Kubeconfig(Some(folder.path().join("kubeconfig")));
    let watch = ConfigMapWatch::start(access, NAMESPACE.to_owned(), NAME.to_owned());
    let mut bed = Bed { api, watch, _folder: tempfile::tempdir().expect("a folder") };
    let known = bed.until("no kubeconfig", |known| known.trouble.is_some()).await;
    assert!(known.trouble.expect("a trouble").contains("kubeconfig"));
    bed.api.kubeconfig(folder.path());
    bed.until_holds("a_1.sql", "SELECT 1").await;
}
