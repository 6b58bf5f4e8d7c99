//! `pgdb migrate run`.

use super::Context;
use super::connection::ConnectionArgs;
use super::source::SourceArgs;
use clap::Args;
use pgdb_pg::migrate::run::{Options, run};
use pgdb_pg::migrate::session::Session;

/// Run what has not been run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    source: SourceArgs,
}

impl Run {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let files = self.source.read(cx)?;
        let mut session = Session::open(&self.connection.login(cx).await?).await?;
        let report = run(&mut session, &files, &Options::new(env!("CARGO_PKG_VERSION")), &mut |_| {}).await?;
        session.close().await;
        cx.printer.either(&report, |printer| printer.line("done"))
    }
}
