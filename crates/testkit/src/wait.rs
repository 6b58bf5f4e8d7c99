//! Waiting for something to become true, instead of sleeping for as long as it may take.

use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until there is an answer. Panics with what was waited for when there is none in time.
pub async fn until<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(limit, looking).await {
        Ok(found) => found,
        Err(_) => panic!("gave up after {limit:?} waiting for {what}"),
    }
}
