//! `pgdb destroy NAME`.

use super::{Context, NOTHING};
use crate::error::Refused;
use clap::Args;
use pgdb_api::instances::{Holds, Ok as Done};
use reqwest::Method;
use serde::Deserialize;

/// How many previews or templates are called by their names; of more there is the number.
const NAMED: usize = 8;

/// Remove a database and its data.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal it asks first, and names the previews and templates that are on the same server: they go with \
                  it. While one of the previews is protected it is refused, as it is for a database that is protected itself."
)]
pub(crate) struct Destroy {
    /// Its name.
    name: String,
    /// Keep its data under its volume name, for `pgdb deploy --from-volume`.
    #[arg(long)]
    keep_data: bool,
}

impl Destroy {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let path = cx.path(&self.name, &format!("?keep_data={}", self.keep_data))?;
        if cx.asks() {
            let what = if self.keep_data { "and keep its data" } else { "and ALL ITS DATA" };
            let more = match self.holds(cx).await?.and_then(|holds| listed(&holds)) {
                Some(held) if self.keep_data => format!(", but no record of its {held}"),
                Some(held) => format!(", its {held} included"),
                None => String::new(),
            };
            cx.confirm(&format!("Destroy '{}' {what}{more}?", self.name))?;
        }
        let done: Done = cx
            .perform(Method::DELETE, &path, NOTHING, async |operation| {
                let outputs = || operation.steps.iter().filter_map(|step| step.output.as_ref());
                let kept = outputs().find_map(|output| output["volume"].as_str());
                let held = outputs().find_map(|output| Holds::deserialize(&output["held"]).ok());
                Ok(Done { ok: true, volume_name: kept.map(str::to_owned), held })
            })
            .await?;
        cx.printer.either(&done, |printer| {
            printer.line(format!("destroyed: {}", self.name));
            if let Some(held) = done.held.as_ref().and_then(listed) {
                printer.note(format!("{} with it: {held}", if self.keep_data { "forgotten" } else { "gone" }));
            }
            if let Some(volume) = &done.volume_name {
                printer.line(format!("kept: {volume}"));
            }
        })
    }

    /// What else is on it. A daemon that knows nothing of the kind, or does not tell this token, says so by a refusal.
    async fn holds(&self, cx: &Context<'_>) -> anyhow::Result<Option<Holds>> {
        match cx.item(&self.name).await {
            Ok(item) => Ok(item.holds),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.body.error != "database_not_found" => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Both kinds, in words.
fn listed(holds: &Holds) -> Option<String> {
    let parts = [named("preview", &holds.previews), named("template", &holds.templates)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// How many there are, and what the first of them are called.
fn named(kind: &str, names: &[String]) -> Option<String> {
    let (count, first) = (names.len(), names.get(..NAMED).unwrap_or(names).join(", "));
    match count {
        0 => None,
        1 => Some(format!("{kind} {first}")),
        2..=NAMED => Some(format!("{count} {kind}s ({first})")),
        _ => Some(format!("{count} {kind}s ({first}, …)")),
    }
}
