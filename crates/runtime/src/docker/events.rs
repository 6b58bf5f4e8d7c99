//! Ends of containers as the engine tells them: one stream for all servers, however many wait.

use crate::docker::engine::Engine;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

/// Events that may wait for a slow listener; one that misses some looks for itself.
const WAITING: usize = 1024;
/// How long a stream that broke off is left alone before the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// What listeners hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The container of this id has ended or is gone.
    Ended(String),
    /// The stream broke off: something may have been missed.
    Lost,
}

/// The one stream, opened when somebody listens for the first time.
#[derive(Debug)]
pub(crate) struct Events {
    engine: Arc<Engine>,
    open: Mutex<Option<(broadcast::Sender<Heard>, AbortHandle)>>,
}

impl Events {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, open: Mutex::default() }
    }

    /// Begins to listen. What happens from now on is heard, or that something was missed.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Heard> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, task)) = open.as_ref()
            && !task.is_finished()
        {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(WAITING);
        let task = tokio::spawn(carry(Arc::clone(&self.engine), sender.clone()));
        *open = Some((sender, task.abort_handle()));
        receiver
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some((_, task)) = self.open.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// Passes on what the engine tells, for ever.
async fn carry(engine: Arc<Engine>, sender: broadcast::Sender<Heard>) {
    let filters = HashMap::from([("type", vec!["container"])]);
    loop {
        if let Ok(api) = engine.api().await {
            // From the beginning: nobody knows when the engine begins to tell, and what it tells once more does no harm.
            let options = EventsOptionsBuilder::default().since("1").filters(&filters).build();
            let mut events = Box::pin(api.events(Some(options)));
            while let Some(Ok(event)) = events.next().await {
                if let Some(id) = ended(event) {
                    // Nobody listens at the moment.
                    sender.send(Heard::Ended(id)).ok();
                }
            }
        }
        sender.send(Heard::Lost).ok();
        tokio::time::sleep(PAUSE).await;
    }
}

fn ended(event: EventMessage) -> Option<String> {
    matches!(event.action.as_deref(), Some("die" | "destroy" | "died" | "remove")).then_some(event.actor?.id?)
}
