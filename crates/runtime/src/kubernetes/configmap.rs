//! One ConfigMap, watched.
//!
//! What counts is what the ConfigMap holds now, not the events that led there: whoever looks later than it changed
//! sees the newest, and an event that was missed is made up for by the list that follows each interruption.

use super::{Access, client};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::BTreeMap;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time;

/// The server ends a watch after this many seconds and is asked again.
const WATCH_SECONDS: u32 = 60;
/// A connection on which nothing comes for longer than a watch lasts is dead, though nobody has said so.
const SILENCE: Duration = Duration::from_secs(75);
/// The pause after the first failure; it doubles up to the longest. Short, for a permission that was just granted or
/// a server that is back is to be seen soon.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The keys of a ConfigMap with what they hold, `data` and `binaryData` alike.
pub type Entries = Arc<BTreeMap<String, Vec<u8>>>;

/// What the API server has told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Content {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There is no such ConfigMap.
    Absent,
    /// There is, and it holds this.
    Entries(Entries),
}

/// What is known of a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest that was told, however long ago.
    pub content: Content,
    /// Why nothing newer can be had at the moment, in a sentence without a full stop.
    pub trouble: Option<String>,
}

/// A watch that goes on until this is dropped.
#[derive(Debug)]
pub struct ConfigMapWatch {
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

impl ConfigMapWatch {
    /// Starts watching. Whatever goes wrong is told as [`Known::trouble`] and tried again.
    pub fn start(access: Access, namespace: String, name: String) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let task = tokio::spawn(async move {
            let mut observer = Observer { sender, namespace, name, pause: FIRST_PAUSE };
            loop {
                observer.observe(&access).await;
            }
        });
        Self { known, task }
    }

    /// What is known now. Also marks it as seen.
    pub fn known(&mut self) -> Known {
        self.known.borrow_and_update().clone()
    }

    /// Resolves when more is known than was seen.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            // The task ends with us and not before; if it panicked, what it knew stays as it is.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for ConfigMapWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Observer {
    sender: watch::Sender<Known>,
    namespace: String,
    name: String,
    pause: Duration,
}

impl Observer {
    /// Lists, then listens for changes, until something goes wrong.
    async fn observe(&mut self, access: &Access) {
        let client = match client(access, SILENCE).await {
            Ok(client) => client,
            Err(error) => return self.failed(explain(&error)).await,
        };
        let api: Api<ConfigMap> = Api::namespaced(client, &self.namespace);
        let only_ours =
            watcher::Config::default().timeout(WATCH_SECONDS).fields(&format!("metadata.name={}", self.name));
        let mut events = pin!(watcher(api, only_ours));
        // What a list has named so far.
        let mut listed = Content::Absent;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = Content::Absent,
                Ok(Event::InitApply(object)) if self.is_ours(&object) => listed = content(object),
                Ok(Event::InitDone) => self.told(std::mem::take(&mut listed)),
                Ok(Event::Apply(object)) if self.is_ours(&object) => self.told(content(object)),
                Ok(Event::Delete(object)) if self.is_ours(&object) => self.told(Content::Absent),
                Ok(_) => {}
                // Begun anew with a list and a client of its own: that tells when all is well again, and reads what has
                // been written anew of the credentials.
                Err(error) => return self.failed(self.describe(&error)).await,
            }
        }
    }

    /// The selector has left out all others; a server that does not know it would not.
    fn is_ours(&self, object: &ConfigMap) -> bool {
        object.metadata.name.as_deref() == Some(self.name.as_str())
    }

    fn told(&mut self, content: Content) {
        self.pause = FIRST_PAUSE;
        let new = Known { content, trouble: None };
        self.sender.send_if_modified(|known| {
            let changed = *known != new;
            *known = new;
            changed
        });
    }

    /// Tells of the trouble and pauses.
    async fn failed(&mut self, trouble: String) {
        tracing::debug!(namespace = self.namespace, name = self.name, trouble, "ConfigMap cannot be watched");
        self.sender.send_if_modified(|known| {
            let changed = known.trouble.as_ref() != Some(&trouble);
            known.trouble = Some(trouble);
            changed
        });
        time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn describe(&self, error: &watcher::Error) -> String {
        match status(error) {
            Some(status) if status.code == 403 => format!(
                "the Kubernetes API does not let us list and watch the ConfigMap {}/{} yet (RBAC): {}",
                self.namespace, self.name, status.message
            ),
            Some(status) => format!("the Kubernetes API answered {}: {}", status.code, status.message),
            None => explain(error),
        }
    }
}

fn content(object: ConfigMap) -> Content {
    let text = object.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    Content::Entries(Arc::new(text.chain(binary).collect()))
}

/// The API server's own words.
fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// An error with its sources, each said once: some of them repeat the next.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(current) = source {
        let more = current.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = current.source();
    }
    text
}
