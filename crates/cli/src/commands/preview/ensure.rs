//! `pgdb preview ensure NUMBER`.

use super::{Which, query};
use crate::commands::Context;
use crate::error::Usage;
use clap::Args;
use pgdb_api::previews::{EnsurePreview, EnsuredPreview, PreviewsResponse};
use reqwest::Method;
use serde::Serialize;
use std::collections::BTreeMap;

/// See to it that a pull request has its database.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pgdb preview ensure 123\n  pgdb preview ensure 123 --ttl 14d --label branch=feature\n  \
                  pgdb preview ensure 123 --json | jq -r .DATABASE_URL"
)]
pub(crate) struct Ensure {
    #[command(flatten)]
    which: Which,
    /// How long it lives from now on: 12h, 14d, or never.
    #[arg(long, value_name = "DURATION", value_parser = super::ttl)]
    ttl: Option<String>,
    /// A note, NAME=VALUE; can be given more than once.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
}

/// What scripts read: the contract's fields, and the URL.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    db_name: &'a str,
    created: bool,
    app_user: &'a str,
    app_password: &'a str,
    #[serde(rename = "DATABASE_URL")]
    database_url: &'a str,
}

impl Ensure {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let number = self.which.number()?;
        let body = EnsurePreview {
            pr_number: number.get().into(),
            ttl: self.ttl,
            labels: labels(&self.labels)?,
            template_db: None,
            owner: None,
        };
        let path = format!("/v1/preview-db/ensure{}", self.which.query());
        // With its operation ended, the same request is answered with the result.
        let again = async |_: &pgdb_api::operations::Operation| cx.client.post(&path, &body).await;
        let ensured: EnsuredPreview = cx.perform(Method::POST, &path, Some(&body), again).await?;
        let item = self.which.item(cx).await?;
        if let Some(on) = item.on.as_ref().filter(|_| ensured.created && self.which.on.is_none() && !cx.printer.json) {
            // It is made, whatever is said of it.
            let there: Result<PreviewsResponse, _> = cx.client.get(&format!("/v1/previews{}", query(Some(on)))).await;
            if there.is_ok_and(|there| there.items.len() == 1) {
                let whose = "the server that the daemon deploys for previews, as it was told of none";
                cx.printer.note(format!("it is the first on the instance '{on}', {whose}; `pgdb status` shows it"));
            }
        }
        let printed = Printed {
            db_name: &ensured.db_name,
            created: ensured.created,
            app_user: &ensured.app_user,
            app_password: &ensured.app_password,
            database_url: &item.database_url,
        };
        cx.printer.either(&printed, |printer| {
            printer.line(format!("db: {}", printed.db_name));
            printer.line(format!("user: {}", printed.app_user));
            printer.line(format!("password: {}", printed.app_password));
            printer.line(format!("created: {}", printed.created));
            printer.line(format!("DATABASE_URL: {}", printed.database_url));
        })
    }
}

fn labels(given: &[String]) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let mut labels = BTreeMap::new();
    for label in given {
        let (name, value) =
            label.split_once('=').ok_or_else(|| Usage(format!("'{label}' is no label; write NAME=VALUE")))?;
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok((!labels.is_empty()).then_some(labels))
}
