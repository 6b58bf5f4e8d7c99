//! `pgdb template delete NAME`.

use super::Which;
use crate::commands::{Context, NOTHING};
use clap::Args;
use pgdb_api::templates::DeletedTemplate;
use reqwest::Method;

/// Remove a template: its database and the one before, and how it is made. Refused while there are previews of it.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
}

impl Delete {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let name = &self.which.name;
        cx.confirm(&format!("Delete the template '{name}', and the one before it?"))?;
        let path = self.which.path("");
        let deleted = cx.perform(Method::DELETE, &path, NOTHING, async |ended| {
            let dropped = |step: &&pgdb_api::operations::Step| step.name == "drop_databases";
            let output = ended.steps.iter().find(dropped).and_then(|step| step.output.as_ref());
            let list = output.and_then(|output| output["dropped"].as_array());
            let gone = list.is_some_and(|list| list.iter().any(|db| db == name));
            Ok(DeletedTemplate { name: name.clone(), dropped: gone })
        });
        let deleted = deleted.await?;
        cx.printer.either(&deleted, |printer| {
            let kept = if deleted.dropped { "" } else { "; there was no database of its own to drop" };
            printer.line(format!("{name}: deleted{kept}"));
        })
    }
}
