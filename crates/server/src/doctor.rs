//! What is wrong with this machine or with our state, each with what to do about it. Only looks.

use crate::instances::{World, record};
use crate::previews::PreviewService;
use crate::problem::Problem;
use pgdb_api::admin::{DoctorReport, Finding};
use pgdb_core::instance::InstanceState;
use std::collections::BTreeSet;
use std::path::Path;

/// Less free space than this is worth a warning.
const LOW_SPACE_BYTES: u64 = 2_000_000_000;

/// Looks at everything.
pub async fn report(world: &World, previews: &PreviewService, data_dir: &Path) -> Result<DoctorReport, Problem> {
    let mut findings = vec![engines(world).await, disk(data_dir)];
    let instances = world.store.read(record::all).await?;
    findings.extend(instances.iter().filter(|instance| instance.state == InstanceState::Degraded).map(|instance| {
        let reason = instance.reason.as_deref().unwrap_or("no reason is known");
        let fix = format!("see `pgdb logs {0}`, then `pgdb restart {0}`", instance.name);
        problem("instances", format!("'{}' is degraded: {reason}", instance.name), fix)
    }));
    findings.extend(instances.iter().filter(|instance| instance.over_quota()).map(|instance| {
        let message =
            format!("'{}' takes more disk than the {} GB it was given", instance.name, instance.size_gb.unwrap_or(0));
        warning("quota", message, "remove data, or deploy a larger one and restore a dump into it".to_owned())
    }));
    findings.extend(orphans(world, instances.iter().map(|instance| instance.id.clone()).collect()).await);
    for volume in world.store.read(record::volumes).await? {
        findings.push(Finding {
            level: "ok".to_owned(),
            check: "kept data".to_owned(),
            message: format!("data is kept under the volume name '{volume}'"),
            fix: Some(format!("`pgdb deploy --from-volume {volume}` takes it into use again")),
        });
    }
    findings.extend(operator(previews).await);
    findings.extend(clients(world, previews).await);
    if !findings.iter().any(|finding| finding.check == "instances") {
        let plural = if instances.len() == 1 { "" } else { "s" };
        findings.push(fine("instances", format!("{} instance{plural}, none degraded", instances.len())));
    }
    findings.sort_by_key(|finding| match finding.level.as_str() {
        "problem" => 0,
        "warning" => 1,
        _ => 2,
    });
    Ok(DoctorReport { findings })
}

async fn engines(world: &World) -> Finding {
    let fix = "run `pgdb engine install 15`, or set PGDB_ENGINES_DIR to where PostgreSQL is".to_owned();
    let engines = match world.runtime(world.config.default_runtime) {
        Ok(runtime) => runtime.engines().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.message),
    };
    match engines {
        Ok(engines) if engines.is_empty() => problem("engines", "no PostgreSQL is installed here".to_owned(), fix),
        Ok(engines) => {
            let found: Vec<&str> = engines.iter().map(|engine| engine.version.as_str()).collect();
            fine("engines", format!("PostgreSQL found: {}", found.join(", ")))
        }
        Err(error) => problem("engines", error, fix),
    }
}

fn disk(data_dir: &Path) -> Finding {
    match nix::sys::statvfs::statvfs(data_dir) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let message = format!("{:.1} GB are free for {}", free as f64 / 1e9, data_dir.display());
            if free < LOW_SPACE_BYTES {
                warning("disk", message, "free some space, or move PGDB_DATA_DIR to a larger file system".to_owned())
            } else {
                fine("disk", message)
            }
        }
        Err(error) => problem("disk", format!("{} cannot be looked at: {error}", data_dir.display()), String::new()),
    }
}

/// What the operator of previews may not do on the server that we were told of.
async fn operator(previews: &PreviewService) -> Vec<Finding> {
    match previews.missing_rights().await {
        None => vec![],
        Some(Ok(missing)) if missing.is_empty() => {
            vec![fine("previews", "the operator may do everything that previews need".to_owned())]
        }
        Some(Ok(missing)) => missing
            .into_iter()
            .map(|right| {
                let fix = right.sql.map_or_else(
                    || "`pgdb preview bootstrap` makes an empty one, `pgdb template create` fills it".to_owned(),
                    |sql| format!("as a superuser: {sql};  (or: `pgdb preview bootstrap`)"),
                );
                problem("previews", right.what, fix)
            })
            .collect(),
        Some(Err(error)) => {
            let fix = "see to it that the operator can log in: PGHOST, PGPORT, PGUSER, PGPASSWORD".to_owned();
            vec![problem("previews", error.message, fix)]
        }
    }
}

/// Whether the template can be refreshed: that takes client programs of the server's major, or a later one.
async fn clients(world: &World, previews: &PreviewService) -> Option<Finding> {
    let major = previews.server_major().await?;
    let engines = world.clients.clients().await.ok()?;
    if engines.iter().any(|engine| engine.major >= major) {
        return None;
    }
    let message = format!("no template can be refreshed: there are no client programs of PostgreSQL {major} here");
    Some(warning("previews", message, format!("run `pgdb engine install {major}`, or set PGDB_ENGINES_DIR")))
}

/// Data or processes that no record knows. They are reported, never removed: they may be somebody's last copy.
async fn orphans(world: &World, known: BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for runtime in world.runtimes.values() {
        let Ok(ids) = runtime.inventory().await else { continue };
        findings.extend(ids.into_iter().filter(|id| !known.contains(id)).map(|id| {
            let message = format!("the {} runtime holds data of '{id}', which no record knows", runtime.kind());
            let fix = "take it over with `pgdb registry import` and a backup of the registry, or remove it".to_owned();
            warning("orphans", message, fix)
        }));
    }
    findings
}

fn fine(check: &str, message: String) -> Finding {
    Finding { level: "ok".to_owned(), check: check.to_owned(), message, fix: None }
}

fn warning(check: &str, message: String, fix: String) -> Finding {
    Finding { level: "warning".to_owned(), check: check.to_owned(), message, fix: Some(fix) }
}

fn problem(check: &str, message: String, fix: String) -> Finding {
    Finding { level: "problem".to_owned(), check: check.to_owned(), message, fix: Some(fix) }
}
