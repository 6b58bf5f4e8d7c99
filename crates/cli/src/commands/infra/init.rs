//! `pgdb infra init`.

use super::cloud::Cloud;
use super::{Context, explain, folder, interrupted, parse_name};
use crate::error::Usage;
use crate::settings::ConfigFile;
use clap::Args;
use pgdb_core::infra::cidr::Cidr;
use pgdb_core::infra::plan::{Access, Wanted};
use pgdb_core::infra::removal::Removal;
use pgdb_core::ports::PortRange;
use pgdb_infra::init::{Cleanup, Failed, Made, Preview, init, preview};
use serde::Serialize;

/// The alias that `init` and `bootstrap` give the server in the configuration.
pub(super) const ALIAS: &str = "default";

/// Make a server, a volume and a firewall at Hetzner, and make it the default server of this command.
#[derive(Debug, Args)]
#[command(
    after_help = "Run again with the same name it goes on where it ended, or says that all is there. If it fails, it removes what \
                        it made, or says what remains; what was there before stays.\n\n\
                        Afterwards: pgdb infra bootstrap --host ADDRESS"
)]
pub(crate) struct Init {
    /// What the server is called; the volume is NAME-data and the firewall NAME-firewall.
    #[arg(long, default_value = "pgdb")]
    name: String,
    /// Where.
    #[arg(long, default_value = "nbg1")]
    location: String,
    /// The kind of server.
    #[arg(long, value_name = "TYPE", default_value = "cpx21")]
    server_type: String,
    /// What is installed on it; a Debian or Ubuntu.
    #[arg(long, default_value = "ubuntu-24.04")]
    image: String,
    /// The volume's size in GB.
    #[arg(long, value_name = "GB", default_value_t = 40, value_parser = clap::value_parser!(u32).range(10..=10_240))]
    volume_size: u32,
    /// An SSH key of the project that may log in, by id or name; may be given several times.
    #[arg(long = "ssh-key-id", value_name = "KEY", value_delimiter = ',')]
    ssh_keys: Vec<String>,
    /// From where the server can be reached; may be given several times.
    #[arg(long = "allow-cidr", value_name = "CIDR", required = true, value_delimiter = ',')]
    allow: Vec<Cidr>,
    /// From where SSH can be reached, if not from the same addresses.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ssh_allow_cidr: Vec<Cidr>,
    /// The port of pgdb's API.
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pgdb_port: u16,
    /// Let the same addresses reach the databases too, at these ports (pgdb gives out 15432-19431).
    #[arg(long, value_name = "FIRST-LAST")]
    open_database_ports: Option<PortRange>,
    /// Print what would be done and what it costs, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cloud: Cloud,
}

/// The result, and the keys of `--json`.
#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    server_id: u64,
    volume_id: u64,
    firewall_id: u64,
    ip: &'a str,
    url: &'a str,
    changed: bool,
}

impl Init {
    pub(crate) async fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let wanted = self.wanted()?;
        for warning in wanted.access.warnings() {
            cx.printer.warn(warning);
        }
        let client = self.cloud.client()?;
        if self.dry_run {
            let would = preview(&client, &wanted).await.map_err(explain)?;
            return print_preview(cx, &wanted, &would);
        }
        // What cannot be written is better known before there is a server.
        let mut config = ConfigFile::load()?;
        let folder = folder()?;
        let report = |line: &str| cx.printer.note(line);
        let made = tokio::select! {
            made = init(&client, &wanted, &folder, &report) => made.map_err(|failed| tell(failed, &wanted))?,
            () = interrupted() => anyhow::bail!(
                "interrupted; run the same command again to go on, or `{}` to remove what there is", removing(&wanted)
            ),
        };
        for note in &made.notes {
            cx.printer.warn(note);
        }
        let url = format!("http://{}:{}", made.ip, self.pgdb_port);
        set_default(cx, &mut config, &url, made.new)?;
        print(cx, &wanted, &made, &url)
    }

    fn wanted(&self) -> anyhow::Result<Wanted> {
        let plain = |flag: &str, text: &str| {
            let fine =
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if fine { Ok(text.to_owned()) } else { Err(Usage(format!("'{text}' cannot be a value of {flag}"))) }
        };
        let ssh_from = if self.ssh_allow_cidr.is_empty() { &self.allow } else { &self.ssh_allow_cidr };
        Ok(Wanted {
            name: parse_name(&self.name)?,
            location: plain("--location", &self.location)?,
            server_type: plain("--server-type", &self.server_type)?,
            image: plain("--image", &self.image)?,
            volume_gb: self.volume_size,
            ssh_keys: self.ssh_keys.clone(),
            access: Access {
                api_from: self.allow.clone(),
                ssh_from: ssh_from.clone(),
                api_port: self.pgdb_port,
                databases: self.open_database_ports,
            },
        })
    }
}

/// Points this command at a server. One that was known before was pointed at then, and somebody may have found a better
/// way to it since; and no token that goes to an encrypted address is sent in clear from now on.
pub(super) fn set_default(cx: &Context<'_>, config: &mut ConfigFile, url: &str, new: bool) -> anyhow::Result<()> {
    if let Some(before) = config.server(ALIAS).filter(|before| *before != url) {
        if !new || before.starts_with("https://") {
            cx.printer
                .note(format!("server.{ALIAS} stays {before}; for the other: pgdb config set server.{ALIAS} {url}"));
            return Ok(());
        }
        cx.printer.note(format!("server.{ALIAS} was {before}"));
    }
    cx.printer.note(format!("server.{ALIAS} is {url}"));
    config.set_server(ALIAS, url);
    config.set_default(ALIAS);
    config.save()
}

fn print(cx: &Context<'_>, wanted: &Wanted, made: &Made, url: &str) -> anyhow::Result<()> {
    let Made { server_id, volume_id, firewall_id, changed, ref ip, .. } = *made;
    let done = Done { name: wanted.name.as_str(), server_id, volume_id, firewall_id, ip, url, changed };
    cx.printer.either(&done, |printer| {
        printer.line(format!("name: {}", wanted.name));
        printer.line(format!("server_id: {server_id}"));
        printer.line(format!("volume_id: {volume_id}"));
        printer.line(format!("firewall_id: {firewall_id}"));
        printer.line(format!("ip: {ip}"));
        printer.line(format!("url: {url}"));
        if !changed {
            printer.note("everything was there already");
        }
        printer.note(format!("now install pgdb there: pgdb infra bootstrap --host {ip}"));
    })
}

fn print_preview(cx: &Context<'_>, wanted: &Wanted, would: &Preview) -> anyhow::Result<()> {
    let steps: Vec<String> = would.plan.steps.iter().map(|step| step.describe(wanted)).collect();
    let price = would.estimate.as_ref().map(|estimate| {
        serde_json::json!({
            "currency": estimate.currency, "monthly_net": estimate.total().to_string(),
            "parts": estimate.parts.iter().map(|(what, money)| (what, money.to_string())).collect::<std::collections::BTreeMap<_, _>>(),
        })
    });
    let kind = &would.server_type;
    let document = serde_json::json!({
        "name": wanted.name.as_str(), "dry_run": true, "steps": steps, "notes": would.plan.notes, "price": price,
    });
    cx.printer.either(&document, |printer| {
        for step in &steps {
            printer.line(step);
        }
        for note in &would.plan.notes {
            printer.note(note);
        }
        if steps.is_empty() {
            printer.note("everything is there already");
            return;
        }
        printer.line(format!(
            "{}: {} processors ({}), {} GB of memory, {} GB of disk",
            kind.name, kind.cores, kind.architecture, kind.memory, kind.disk
        ));
        match &would.estimate {
            Some(estimate) if !estimate.parts.is_empty() => printer.line(format!("price: {estimate}")),
            Some(_) => printer.line("price: nothing more than now"),
            None => printer.line("price: the price list does not say"),
        }
    })
}

/// Why it failed, and what is left of it.
fn tell(failed: Failed, wanted: &Wanted) -> anyhow::Error {
    let Failed { error, cleanup } = failed;
    let Some(rest) = left(&cleanup, wanted) else { return explain(error) };
    match error {
        pgdb_infra::error::Error::Usage(text) => Usage(format!("{text}. {rest}")).into(),
        other => anyhow::anyhow!("{other}. {rest}"),
    }
}

fn left(cleanup: &Cleanup, wanted: &Wanted) -> Option<String> {
    let words = |removals: &[Removal]| {
        let words = removals.iter().map(|one| format!("{} '{}' (id {})", one.kind.word(), one.name, one.id));
        words.collect::<Vec<_>>().join(", ")
    };
    let removing = removing(wanted);
    let older = (!cleanup.older.is_empty()).then(|| {
        format!(
            "An earlier command left this, which may be in use, costs money, and stays: {}. `pgdb infra destroy {}` removes it, a \
             volume only with --delete-volume",
            words(&cleanup.older),
            wanted.name
        )
    });
    let rest = left_of_this(cleanup, &removing, words);
    let all: Vec<String> = rest.into_iter().chain(older).collect();
    (!all.is_empty()).then(|| all.join(". "))
}

fn left_of_this(cleanup: &Cleanup, removing: &str, words: impl Fn(&[Removal]) -> String) -> Option<String> {
    if cleanup.unknown {
        return Some(format!(
            "What it had made may remain, and cost money, for the provider could not be asked: run the same command again to go \
             on, or `{removing}`"
        ));
    }
    if !cleanup.remains.is_empty() {
        return Some(format!(
            "This remains, and costs money: {}. Run the same command again to go on, or `{removing}`",
            words(&cleanup.remains)
        ));
    }
    (!cleanup.removed.is_empty()).then(|| format!("What it had made was removed again: {}", words(&cleanup.removed)))
}

fn removing(wanted: &Wanted) -> String {
    format!("pgdb infra destroy {} --delete-volume", wanted.name)
}
