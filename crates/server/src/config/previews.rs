//! What previews were told: which server, which names, how many and for how long.
//!
//! The variables of the original daemon keep their names and defaults. Every name is checked here, before anything is
//! built from it.

use super::ConfigError;
use pgdb_core::duration::parse_seconds;
use pgdb_core::name::InstanceName;
use pgdb_core::preview::PreviewSettings;
use pgdb_pg::TlsMode;
use pgdb_pg::sslmode::{Encryption, encryption};
use serde::Deserialize;
use std::path::PathBuf;

/// Everything about previews that can be set. `[previews]` of the configuration file has the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreviewOptions {
    /// `PGHOST`: the server that previews are made on; a path is the folder of its socket.
    pub host: Option<String>,
    /// `PGPORT`.
    pub port: Option<u16>,
    /// `PGUSER`: the operator.
    pub user: Option<String>,
    /// `PGDATABASE`: where the operator connects to.
    pub database: Option<String>,
    /// `PGSSLMODE`.
    pub sslmode: Option<String>,
    /// `PGSSLROOTCERT`: PEM file of the authority, for `verify-ca` and `verify-full`.
    pub sslrootcert: Option<PathBuf>,
    /// `DB_TEMPLATE_NAME`.
    pub template: Option<String>,
    /// `DB_PREVIEW_PREFIX`.
    pub prefix: Option<String>,
    /// `DB_PREVIEW_OWNER`.
    pub owner: Option<String>,
    /// `DB_PREVIEW_APP_USER_PREFIX`.
    pub app_prefix: Option<String>,
    /// `DB_PREVIEW_DEV_ROLE`.
    pub dev_role: Option<String>,
    /// `DB_PROTECTED_NAMES`: databases that are never touched, separated by commas.
    pub protected_names: Option<String>,
    /// `PGDB_PREVIEW_ON`: an instance of this daemon that previews are made on.
    pub on: Option<String>,
    /// `PGDB_PREVIEW_TTL`: how long a preview lives that says nothing itself, such as `14d`; for ever when left out.
    pub ttl: Option<String>,
    /// `PGDB_PREVIEW_MAX`: how many previews a template may have.
    pub max: Option<u32>,
    /// `PGDB_PREVIEW_POOL_MAX`: how many clones are kept ready per template; 0 for none.
    pub pool_max: Option<u32>,
    /// `PGDB_PREVIEW_POOL_MIN`: how many are kept ready even when nothing is asked for.
    pub pool_min: Option<u32>,
    /// `PGDB_PREVIEW_CLONES`: how many clones are made at the same time.
    pub clones: Option<u32>,
    /// `PGDB_PREVIEW_SWEEP_MAX`: how many expired previews are deleted per look.
    pub sweep_max: Option<u32>,
    /// `PGDB_PREVIEW_ORPHANS`: `report`, `adopt` or `remove`.
    pub orphans: Option<String>,
    /// `PGDB_GITHUB_REPOSITORIES`: whose pull requests the webhook takes, `owner/name` or `owner/name=template` separated
    /// by commas; all when empty.
    pub github_repositories: Option<String>,
}

/// What the options come to.
#[derive(Debug, Clone)]
pub struct PreviewConfig {
    /// Where previews are made.
    pub target: TargetConfig,
    /// Template, prefixes, roles and protected names.
    pub settings: PreviewSettings,
    /// How long a preview lives that says nothing itself, in seconds.
    pub ttl_seconds: Option<u64>,
    /// How many previews a template may have.
    pub max: u32,
    /// How many clones are kept ready per template.
    pub pool_max: u32,
    /// How many of them even when nothing is asked for.
    pub pool_min: u32,
    /// How many clones are made at the same time.
    pub clones: u32,
    /// How many expired previews are deleted per look.
    pub sweep_max: u32,
    /// What becomes of databases that no record knows.
    pub orphans: OrphanPolicy,
    /// Whose pull requests the webhook takes; all when empty.
    pub github_repositories: Vec<GithubRepository>,
}

/// A repository whose pull requests get previews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubRepository {
    /// Such as `owner/name`.
    pub full_name: String,
    /// The template of its previews; the configured one when left out.
    pub template: Option<String>,
}

/// Where previews are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetConfig {
    /// A server that we were told of.
    External(ExternalServer),
    /// An instance of this daemon, by name.
    Instance(String),
}

/// A server that we were told of. Its operator's password is in the environment alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalServer {
    /// Host name, address, or the folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The operator.
    pub user: String,
    /// Where the operator connects to.
    pub database: String,
    /// Whether and how to encrypt.
    pub tls: TlsMode,
    /// The authority's file, where its certificates count.
    pub sslrootcert: Option<PathBuf>,
}

/// What becomes of databases with our prefix that no record knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanPolicy {
    /// They are shown, and that is all.
    Report,
    /// They get a record, as if they had been asked for.
    Adopt,
    /// They are dropped.
    Remove,
}

impl OrphanPolicy {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Adopt => "adopt",
            Self::Remove => "remove",
        }
    }
}

/// The instance that is made where nobody names a server.
const OWN_INSTANCE: &str = "previews";
const DEFAULT_MAX: u32 = 200;
const DEFAULT_POOL_MAX: u32 = 8;
const DEFAULT_CLONES: u32 = 2;
const DEFAULT_SWEEP_MAX: u32 = 10;

impl PreviewOptions {
    /// What is given here, and for the rest what `file` says.
    #[must_use]
    pub(super) fn or(self, file: Self) -> Self {
        // Whoever names a server in the environment does not mean the instance that the file names, and the other
        // way round.
        let located = self.host.is_some() || self.on.is_some();
        let (host, on) = if located { (self.host, self.on) } else { (file.host, file.on) };
        Self {
            host,
            port: self.port.or(file.port),
            user: self.user.or(file.user),
            database: self.database.or(file.database),
            sslmode: self.sslmode.or(file.sslmode),
            sslrootcert: self.sslrootcert.or(file.sslrootcert),
            template: self.template.or(file.template),
            prefix: self.prefix.or(file.prefix),
            owner: self.owner.or(file.owner),
            app_prefix: self.app_prefix.or(file.app_prefix),
            dev_role: self.dev_role.or(file.dev_role),
            protected_names: self.protected_names.or(file.protected_names),
            on,
            ttl: self.ttl.or(file.ttl),
            max: self.max.or(file.max),
            pool_max: self.pool_max.or(file.pool_max),
            pool_min: self.pool_min.or(file.pool_min),
            clones: self.clones.or(file.clones),
            sweep_max: self.sweep_max.or(file.sweep_max),
            orphans: self.orphans.or(file.orphans),
            github_repositories: self.github_repositories.or(file.github_repositories),
        }
    }

    /// Fills in defaults and checks everything.
    pub(super) fn resolve(self) -> Result<PreviewConfig, ConfigError> {
        let settings = PreviewSettings::parse(
            self.template.as_deref().unwrap_or("template_medusa"),
            self.prefix.as_deref().unwrap_or("medusa_pr_"),
            self.owner.as_deref().unwrap_or("zane_operator"),
            self.app_prefix.as_deref().unwrap_or("medusa_pr_app_"),
            self.dev_role.as_deref().unwrap_or("medusa_dev"),
            self.protected_names.as_deref().unwrap_or_default(),
        )
        .map_err(|error| ConfigError::Value { name: error.variable(), why: error.to_string() })?;
        let orphans = match self.orphans.as_deref() {
            None | Some("report") => OrphanPolicy::Report,
            Some("adopt") => OrphanPolicy::Adopt,
            Some("remove") => OrphanPolicy::Remove,
            Some(other) => {
                return Err(value("PGDB_PREVIEW_ORPHANS", format!("'{other}' is none of report, adopt and remove")));
            }
        };
        let ttl_seconds = self
            .ttl
            .as_deref()
            .map(|text| parse_seconds(text).map_err(|why| value("PGDB_PREVIEW_TTL", format!("'{text}': {why}"))))
            .transpose()?;
        let number = |name, given: Option<u32>, default, least| match given.unwrap_or(default) {
            given if given < least => Err(value(name, format!("{given} is less than {least}"))),
            given => Ok(given),
        };
        let github_repositories = repositories(self.github_repositories.as_deref().unwrap_or_default(), &settings)?;
        let pool_max = self.pool_max.unwrap_or(DEFAULT_POOL_MAX);
        let pool_min = self.pool_min.unwrap_or(0);
        if pool_min > pool_max {
            return Err(value("PGDB_PREVIEW_POOL_MIN", format!("{pool_min} is more than the most, {pool_max}")));
        }
        Ok(PreviewConfig {
            max: number("PGDB_PREVIEW_MAX", self.max, DEFAULT_MAX, 1)?,
            pool_max,
            pool_min,
            clones: number("PGDB_PREVIEW_CLONES", self.clones, DEFAULT_CLONES, 1)?,
            sweep_max: number("PGDB_PREVIEW_SWEEP_MAX", self.sweep_max, DEFAULT_SWEEP_MAX, 1)?,
            target: self.target()?,
            github_repositories,
            settings,
            ttl_seconds,
            orphans,
        })
    }

    fn target(self) -> Result<TargetConfig, ConfigError> {
        let host = match (self.host, self.on) {
            (Some(_), Some(_)) => {
                return Err(value("PGDB_PREVIEW_ON", "PGHOST names a server as well; set one of the two".to_owned()));
            }
            (None, on) => {
                let name = on.unwrap_or_else(|| OWN_INSTANCE.to_owned());
                let name = InstanceName::parse(&name).map_err(|why| value("PGDB_PREVIEW_ON", why.to_string()))?;
                return Ok(TargetConfig::Instance(name.as_str().to_owned()));
            }
            (Some(host), None) => host,
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(value("PGHOST", format!("'{}' is not the name or address of one host", host.escape_debug())));
        }
        let user = self.user.filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| value("PGUSER", "PGHOST is set, and the operator's role is not".to_owned()))?;
        let Encryption { mode: tls, rootcert: sslrootcert } =
            encryption(self.sslmode.as_deref().unwrap_or("disable"), self.sslrootcert.as_deref()).map_err(|error| {
                value(if error.is_mode() { "PGSSLMODE" } else { "PGSSLROOTCERT" }, error.to_string())
            })?;
        let database = self.database.unwrap_or_else(|| "postgres".to_owned());
        for (name, text) in [("PGUSER", &user), ("PGDATABASE", &database)] {
            if text.is_empty() || text.len() > 63 || text.contains('\0') {
                return Err(value(name, "a name has 1 to 63 bytes".to_owned()));
            }
        }
        let port = self.port.unwrap_or(5432);
        Ok(TargetConfig::External(ExternalServer { host, port, user, database, tls, sslrootcert }))
    }
}

/// Repositories, separated by commas.
fn repositories(list: &str, settings: &PreviewSettings) -> Result<Vec<GithubRepository>, ConfigError> {
    let refused = |why: String| Err(value("PGDB_GITHUB_REPOSITORIES", why));
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let read = |item: &str| {
        let (name, template) = match item.split_once('=') {
            Some((name, template)) => (name.trim(), Some(template.trim())),
            None => (item, None),
        };
        if !name.split_once('/').is_some_and(|(owner, repository)| plain(owner) && plain(repository)) {
            return refused(format!("'{}' is not owner/name", name.escape_debug()));
        }
        if let Some(template) = template
            && let Err(why) = settings.check_template(template, 0)
        {
            return refused(format!("'{}': {why}", template.escape_debug()));
        }
        Ok(GithubRepository { full_name: name.to_owned(), template: template.map(str::to_owned) })
    };
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(read).collect()
}

fn value(name: &'static str, why: String) -> ConfigError {
    ConfigError::Value { name, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> PreviewOptions {
        PreviewOptions { host: Some("db".to_owned()), user: Some("op".to_owned()), ..PreviewOptions::default() }
    }

    #[test]
    fn the_defaults_are_the_originals() {
        let config = options().resolve().expect("resolved");
        let expected = ExternalServer {
            host: "db".to_owned(),
            port: 5432,
            user: "op".to_owned(),
            database: "postgres".to_owned(),
            tls: TlsMode::Disable,
            sslrootcert: None,
        };
        assert_eq!(config.target, TargetConfig::External(expected));
        assert_eq!((config.ttl_seconds, config.orphans), (None, OrphanPolicy::Report));
    }

    #[test]
    fn without_a_host_an_instance_is_used() {
        let target = |options: PreviewOptions| options.resolve().expect("resolved").target;
        assert_eq!(target(PreviewOptions::default()), TargetConfig::Instance("previews".to_owned()));
        let named = PreviewOptions { on: Some("mine".to_owned()), ..PreviewOptions::default() };
        assert_eq!(target(named), TargetConfig::Instance("mine".to_owned()));
    }

    #[test]
    fn hostile_and_foolish_values_are_named() {
        let some = |text: &str| Some(text.to_owned());
        let cases: [(&str, PreviewOptions); 16] = [
            ("DB_TEMPLATE_NAME", PreviewOptions { template: some("a\"; DROP DATABASE x; --"), ..options() }),
            ("DB_PREVIEW_PREFIX", PreviewOptions { prefix: some("1st_"), ..options() }),
            ("DB_PREVIEW_PREFIX", PreviewOptions { prefix: some(&"p".repeat(60)), ..options() }),
            ("DB_PREVIEW_OWNER", PreviewOptions { owner: some("own er"), ..options() }),
            ("DB_PREVIEW_APP_USER_PREFIX", PreviewOptions { app_prefix: some("größe_"), ..options() }),
            ("DB_PREVIEW_DEV_ROLE", PreviewOptions { dev_role: some("a-b"), ..options() }),
            ("PGHOST", PreviewOptions { host: some("a b"), ..options() }),
            ("PGUSER", PreviewOptions { user: None, ..options() }),
            ("PGSSLMODE", PreviewOptions { sslmode: some("on"), ..options() }),
            ("PGSSLROOTCERT", PreviewOptions { sslmode: some("verify-ca"), ..options() }),
            ("PGDB_PREVIEW_ON", PreviewOptions { on: some("x"), host: None, ..options() }),
            ("PGDB_PREVIEW_TTL", PreviewOptions { ttl: some("a while"), ..options() }),
            ("PGDB_PREVIEW_ORPHANS", PreviewOptions { orphans: some("shoot"), ..options() }),
            ("PGDB_GITHUB_REPOSITORIES", PreviewOptions { github_repositories: some("shop/app, app"), ..options() }),
            ("PGDB_GITHUB_REPOSITORIES", PreviewOptions { github_repositories: some("shop/app=x-y"), ..options() }),
            (
                "PGDB_GITHUB_REPOSITORIES",
                PreviewOptions { github_repositories: some("shop/app=postgres"), ..options() },
            ),
        ];
        for (variable, options) in cases {
            let message = options.resolve().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(variable), "{variable}: {message}");
        }
    }
}
