//! `pgdb operations list|show|watch|cancel`.

use super::Context;
use crate::client::segment;
use crate::progress::{self, milliseconds};
use clap::{Args, Subcommand};
use pgdb_api::operations::{Operation, OperationsPage, OperationsQuery};

/// Operations: what is being done, and what was.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Operations {
    /// Operations, newest first.
    List(List),
    /// One operation with its steps.
    Show {
        /// Its id, `op_…`.
        id: String,
    },
    /// Follow an operation to its end.
    Watch {
        /// Its id, `op_…`.
        id: String,
    },
    /// Ask an operation to end early; what it did is taken back.
    Cancel {
        /// Its id, `op_…`.
        id: String,
    },
}

/// Operations, newest first.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only on this subject, such as instance/mydb.
    #[arg(long)]
    subject: Option<String>,
    /// Only of this kind, such as instance.deploy.
    #[arg(long)]
    kind: Option<String>,
    /// Only in this state.
    #[arg(long)]
    state: Option<String>,
    /// Only older than this one.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// How many.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    lines: u32,
}

impl Operations {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(cx).await,
            Self::Show { id } => {
                let operation: Operation = cx.client.get(&format!("/v1/operations/{}", segment(&id))).await?;
                print(cx, &operation)
            }
            Self::Watch { id } => {
                let operation = progress::follow(&cx.client, cx.printer, &id).await?;
                print(cx, &operation)
            }
            Self::Cancel { id } => {
                let operation: Operation =
                    cx.client.post_empty(&format!("/v1/operations/{}/cancel", segment(&id))).await?;
                print(cx, &operation)
            }
        }
    }
}

impl List {
    async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let query = OperationsQuery {
            subject: self.subject,
            kind: self.kind,
            state: self.state,
            before: self.before,
            limit: Some(self.lines),
        };
        let page: OperationsPage = cx.client.get_with("/v1/operations", &query).await?;
        cx.printer.either(&page, |printer| {
            let rows = page.items.iter().map(|one| {
                let at = one.created_at.strftime("%Y-%m-%d %H:%M:%S").to_string();
                vec![one.id.clone(), at, one.kind.clone(), one.subject.clone(), one.state.clone()]
            });
            printer.table(&["ID", "AT", "KIND", "SUBJECT", "STATE"], rows.collect());
        })
    }
}

fn print(cx: &Context<'_>, operation: &Operation) -> anyhow::Result<()> {
    cx.printer.either(operation, |printer| {
        printer.line(format!("{} {} of {}: {}", operation.id, operation.kind, operation.subject, operation.state));
        if let Some(error) = &operation.error {
            printer.line(format!("  {}: {}", error.code, error.message));
        }
        let rows = operation.steps.iter().map(|step| {
            let error = step.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            vec![
                step.name.clone(),
                step.state.clone(),
                step.attempt.to_string(),
                format!("{} ms", milliseconds(step)),
                error,
            ]
        });
        printer.table(&["STEP", "STATE", "ATTEMPT", "TOOK", "ERROR"], rows.collect());
    })
}
