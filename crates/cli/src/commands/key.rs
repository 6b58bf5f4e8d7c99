//! `pgdb key rotate`.

use super::Context;
use clap::Subcommand;
use pgdb_api::admin::KeyRotated;

/// The key that seals secrets.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Key {
    /// Make a new key and seal everything with it.
    Rotate,
}

impl Key {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let Self::Rotate = self;
        let rotated: KeyRotated = cx.client.post_empty("/v1/keys/rotate").await?;
        let line = format!("new key {}, {} secrets sealed anew", rotated.key_id, rotated.resealed);
        cx.printer.either(&rotated, |printer| printer.line(line))
    }
}
