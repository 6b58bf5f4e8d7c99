//! `pgdb preview delete NUMBER`.

use super::Which;
use crate::commands::{Context, NOTHING};
use clap::Args;
use pgdb_api::previews::DeletedPreview;
use reqwest::Method;

/// Remove a pull request's database and its role.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
    /// Do not wait: print the operation.
    #[arg(long)]
    no_wait: bool,
}

impl Delete {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let number = self.which.number()?;
        let path = format!("/v1/preview-db/{number}{}", self.which.query());
        cx.confirm(&format!("Delete preview {number} and ALL ITS DATA?"))?;
        if self.no_wait {
            use crate::client::Answer;
            return match cx.client.start::<DeletedPreview>(Method::DELETE, &path, NOTHING, true).await? {
                Answer::Accepted(operation) => cx.printer.either(&operation, |printer| printer.line(&operation.id)),
                Answer::Done(done) => print(cx, &done),
            };
        }
        let done: DeletedPreview = cx.client.delete(&path).await?;
        print(cx, &done)
    }
}

fn print(cx: &Context<'_>, done: &DeletedPreview) -> anyhow::Result<()> {
    cx.printer.either(done, |printer| {
        if done.noop {
            printer.line(format!("nothing to delete: {}", done.db_name));
            return;
        }
        if done.deleted {
            printer.line(format!("deleted: {}", done.db_name));
        }
        if done.role_deleted {
            printer.line(format!("deleted: {}", done.app_user));
        }
        if let Some(reason) = &done.role_kept_reason {
            printer.line(format!("kept: {}", done.app_user));
            printer.warn(reason);
        }
    })
}
