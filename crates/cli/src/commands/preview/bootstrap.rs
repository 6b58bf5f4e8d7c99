//! `pgdb preview bootstrap`.

use crate::commands::Context;
use crate::commands::template::url;
use crate::error::Usage;
use clap::Args;
use pgdb_api::previews::{BootstrapRequest, BootstrapResponse};
use std::path::PathBuf;

/// Make or mend, with an administrator's rights, what previews need on the server that the daemon was told of.
#[derive(Debug, Args)]
#[command(
    after_help = "The daemon's PGUSER becomes the operator, with PGPASSWORD; the dev role, the rights and the template are made or mended.\n\
                  Run again it changes nothing. `pgdb doctor` says what is missing, with the SQL, for those who would rather do it themselves."
)]
pub(crate) struct Bootstrap {
    /// File with the URL of an administrator; - for standard input (also: PGDB_ADMIN_URL).
    #[arg(long, value_name = "FILE")]
    admin_url_file: Option<PathBuf>,
}

impl Bootstrap {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let admin_url = url(self.admin_url_file.as_deref(), "PGDB_ADMIN_URL")?;
        let missing = || Usage("give the administrator's URL with --admin-url-file or PGDB_ADMIN_URL".to_owned());
        let request = BootstrapRequest { admin_url: admin_url.ok_or_else(missing)? };
        let done: BootstrapResponse = cx.client.post("/v1/previews/bootstrap", &request).await?;
        cx.printer.either(&done, |printer| {
            for line in &done.changed {
                printer.line(line);
            }
            if done.changed.is_empty() {
                printer.note("everything is as it has to be");
            }
        })
    }
}
