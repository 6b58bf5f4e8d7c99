//! `pgdb start`, `pgdb stop` and `pgdb restart NAME`.

use super::{Context, NOTHING};
use clap::Args;
use pgdb_api::instances::StatusItem;
use reqwest::Method;

macro_rules! power {
    ($(#[$doc:meta])* $command:ident, $verb:literal) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        pub(crate) struct $command {
            /// Its name.
            name: String,
        }

        impl $command {
            pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
                act(cx, &self.name, $verb).await
            }
        }
    };
}

power! {
    /// Start a database that was stopped.
    Start, "start"
}
power! {
    /// Stop a database; it stays stopped until it is started.
    Stop, "stop"
}
power! {
    /// Stop a database, write its configuration anew, and start it.
    Restart, "restart"
}

async fn act(cx: &Context<'_>, name: &str, verb: &str) -> anyhow::Result<()> {
    let path = cx.path(name, &format!("/{verb}"))?;
    let item: StatusItem = cx.perform(Method::POST, &path, NOTHING, async |_| cx.item(name).await).await?;
    cx.printer.either(&item, |printer| printer.line(format!("{}: {}", item.name, item.state)))
}
