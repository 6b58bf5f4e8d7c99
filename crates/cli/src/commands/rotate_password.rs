//! `pgdb rotate-password NAME`.

use super::{Context, deploy};
use clap::Args;
use pgdb_api::instances::Deployment;

/// Give a database's role a new password. Open sessions go on.
#[derive(Debug, Args)]
pub(crate) struct RotatePassword {
    /// Its name.
    name: String,
}

impl RotatePassword {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = cx.path(&self.name, "/rotate-password")?;
        cx.confirm(&format!("Give '{}' a new password? The present one stops working.", self.name))?;
        let deployment: Deployment = cx.client.post_empty(&path).await?;
        deploy::print(cx, &deployment)
    }
}
