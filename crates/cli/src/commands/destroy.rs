//! `pgdb destroy NAME`.

use super::{Context, NOTHING};
use clap::Args;
use pgdb_api::instances::Ok as Done;
use reqwest::Method;

/// Remove a database and its data.
#[derive(Debug, Args)]
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
        let what = if self.keep_data { "and keep its data" } else { "and ALL ITS DATA" };
        cx.confirm(&format!("Destroy '{}' {what}?", self.name))?;
        let done: Done = cx
            .perform(Method::DELETE, &path, NOTHING, async |operation| {
                let kept = operation.steps.iter().find_map(|step| step.output.as_ref()?["volume"].as_str());
                Ok(Done { ok: true, volume_name: kept.map(str::to_owned) })
            })
            .await?;
        cx.printer.either(&done, |printer| {
            printer.line(format!("destroyed: {}", self.name));
            if let Some(volume) = &done.volume_name {
                printer.line(format!("kept: {volume}"));
            }
        })
    }
}
