//! `pgdb template show NAME`.

use super::Which;
use crate::commands::Context;
use clap::Args;
use std::collections::BTreeMap;

/// Everything about one template.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
}

impl Show {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let item = self.which.item(cx).await?;
        cx.printer.either(&item, |printer| {
            let yes = |yes: bool| if yes { "yes" } else { "no" };
            printer.line(format!("name: {}", item.name));
            if let Some(on) = &item.on {
                printer.line(format!("on: {on}"));
            }
            printer.line(format!("exists: {}", yes(item.exists)));
            printer.line(format!("previous kept: {}", yes(item.has_previous)));
            printer.line(format!("locked: {}", yes(item.locked)));
            for (name, value) in [
                ("size", item.size_bytes.map(|bytes| format!("{} MB", bytes / 1_000_000))),
                ("copied by", item.strategy.clone()),
                ("a copy takes", (!item.copy_ms.is_empty()).then(|| copies(&item.copy_ms))),
                ("generation", item.generation.map(|number| number.to_string())),
                ("prepared", item.prepared_at.map(|at| at.to_string())),
                ("refreshed", item.refreshed_at.map(|at| at.to_string())),
                ("source", item.source.clone()),
            ] {
                if let Some(value) = value {
                    printer.line(format!("{name}: {value}"));
                }
            }
            printer.line(format!("masked: {}", yes(item.masked)));
            printer.line(format!("checks: {}", item.checks.len()));
            printer.line(format!("jobs: {}", item.jobs));
        })
    }
}

/// What copies took, each way.
fn copies(copy_ms: &BTreeMap<String, Option<f64>>) -> String {
    let each = copy_ms.iter().map(|(strategy, took)| match took {
        Some(ms) => format!("{strategy} {ms:.0} ms"),
        None => format!("{strategy} not here"),
    });
    each.collect::<Vec<_>>().join(", ")
}
