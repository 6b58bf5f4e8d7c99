//! `pgdb migrate baseline --from TOOL`.

use super::Context;
use clap::Args;
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::import::{Applied, Candidate, Matching, Problem, Tool, find_table, match_files, read, write};
use pgdb_pg::migrate::session::Session;
use serde::Serialize;
use std::collections::BTreeMap;

/// What to take over.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Take over what another tool's table says was applied: sqlx, refinery, flyway, dbmate or golang-migrate.
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    pub(super) from: Option<Tool>,
    /// The other tool's table, if it is not called as usual: TABLE or SCHEMA.TABLE.
    #[arg(long, value_name = "TABLE", requires = "from", conflicts_with = "to")]
    table: Option<String>,
    /// Leave out versions that there is no file of any more.
    #[arg(long, requires = "from", conflicts_with = "to")]
    allow_missing: bool,
    /// Take files as they are now that have changed since they were applied.
    #[arg(long, requires = "from", conflicts_with = "to")]
    allow_changed: bool,
    /// Only say what would be taken as run.
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn tool(name: &str) -> Result<Tool, String> {
    Tool::parse(name).ok_or_else(|| format!("known are {}", Tool::ALL.map(Tool::name).join(", ")))
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Imported<'a> {
    from: &'a str,
    table: String,
    applied: &'a [Applied],
    pending: &'a [String],
    warnings: &'a [String],
    problems: Vec<String>,
    written: usize,
}

impl ImportArgs {
    /// Takes over from `tool`.
    pub(super) async fn run(
        &self,
        cx: &Context<'_>,
        tool: Tool,
        session: &Session,
        files: &[File],
    ) -> anyhow::Result<()> {
        let dry_run = self.dry_run;
        let table = find_table(session.client(), tool, self.table.as_deref()).await?;
        let history = read(session.client(), tool, &table).await?;
        let mut matching = match_files(tool, &history, &candidates(files)?);
        self.forgive(&mut matching);
        let stop = !matching.problems.is_empty();
        let written = if stop || dry_run {
            0
        } else {
            let checksums: BTreeMap<&str, Checksum> =
                files.iter().map(|file| (file.key.as_str(), file.checksum)).collect();
            let with = |one: &Applied| Some((one.clone(), *checksums.get(one.key.as_str())?));
            let rows: Vec<(Applied, Checksum)> = matching.applied.iter().filter_map(with).collect();
            write(session, tool, &rows).await?
        };
        let imported = Imported {
            from: tool.name(),
            table: format!("{}.{}", table.0, table.1),
            applied: &matching.applied,
            pending: &matching.pending,
            warnings: &matching.warnings,
            problems: matching.problems.iter().map(ToString::to_string).collect(),
            written,
        };
        cx.printer.either(&imported, |printer| {
            let was = if dry_run || stop { "would be taken over" } else { "taken over" };
            matching.applied.iter().for_each(|one| printer.line(format!("{}: {was}", one.key)));
            matching.pending.iter().for_each(|key| printer.line(format!("{key}: pending")));
        })?;
        matching.warnings.iter().for_each(|warning| cx.printer.warn(warning));
        anyhow::ensure!(!stop, "nothing was written:\n  {}", imported.problems.join("\n  "));
        if !dry_run {
            cx.printer.note(format!("{written} rows written; {} is left as it is", imported.table));
        }
        Ok(())
    }

    /// Takes out the problems that the flags allow.
    fn forgive(&self, matching: &mut Matching) {
        let (missing, changed) = (self.allow_missing, self.allow_changed);
        let problems = std::mem::take(&mut matching.problems);
        for problem in problems {
            match problem {
                Problem::NoFile { version } if missing => {
                    matching.warnings.push(format!("version {version} is left out: there is no file of it"));
                }
                Problem::Changed { applied, version } if changed => {
                    matching.warnings.push(format!("{} has changed since version {version} was applied", applied.key));
                    matching.pending.retain(|key| *key != applied.key);
                    matching.applied.push(applied);
                }
                other => matching.problems.push(other),
            }
        }
        matching.applied.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// The files with their text; one without cannot be compared.
fn candidates(files: &[File]) -> anyhow::Result<Vec<Candidate<'_>>> {
    let candidates = files.iter().map(|file| match &file.content {
        Ok(content) => Ok(Candidate { key: file.key.as_str(), text: &content.sql }),
        Err(why) => Err(anyhow::anyhow!("{}: {why}", file.key)),
    });
    candidates.collect()
}
