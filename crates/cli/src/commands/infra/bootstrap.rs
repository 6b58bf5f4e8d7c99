//! `pgdb infra bootstrap`.
use super::Context;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub(crate) struct Bootstrap {}
impl Bootstrap {
    pub(crate) async fn run(self, _cx: &Context<'_>) -> anyhow::Result<()> {
        Ok(())
    }
}
