//! The flags of `pgdb serve` about previews. Their variables are the original daemon's, and ours.

use clap::Args;
use pgdb_server::config::PreviewOptions;
use std::path::PathBuf;

/// Where previews are made, under which names, how many and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Previews")]
pub(super) struct PreviewArgs {
    /// The server that previews are made on; its operator's password is in PGPASSWORD. Without it they are made on an
    /// instance of this daemon.
    #[arg(id = "preview-host", long = "preview-host", env = "PGHOST", value_name = "HOST")]
    host: Option<String>,
    /// Its port [default: 5432].
    #[arg(id = "preview-port", long = "preview-port", env = "PGPORT", value_name = "PORT")]
    port: Option<u16>,
    /// The operator's role.
    #[arg(id = "preview-user", long = "preview-user", env = "PGUSER", value_name = "ROLE")]
    user: Option<String>,
    /// The database that the operator connects to [default: postgres].
    #[arg(id = "preview-database", long = "preview-database", env = "PGDATABASE", value_name = "NAME")]
    database: Option<String>,
    /// disable (the default), allow, prefer, require, verify-ca or verify-full.
    #[arg(id = "preview-sslmode", long = "preview-sslmode", env = "PGSSLMODE", value_name = "MODE")]
    sslmode: Option<String>,
    /// The authority's certificate, PEM, for verify-ca and verify-full.
    #[arg(id = "preview-sslrootcert", long = "preview-sslrootcert", env = "PGSSLROOTCERT", value_name = "FILE")]
    sslrootcert: Option<PathBuf>,
    /// The database that previews are cloned from [default: template_medusa].
    #[arg(id = "preview-template", long = "preview-template", env = "DB_TEMPLATE_NAME", value_name = "NAME")]
    template: Option<String>,
    /// What the names of previews begin with [default: medusa_pr_].
    #[arg(id = "preview-prefix", long = "preview-prefix", env = "DB_PREVIEW_PREFIX", value_name = "PREFIX")]
    prefix: Option<String>,
    /// The role that owns the databases [default: zane_operator].
    #[arg(id = "preview-owner", long = "preview-owner", env = "DB_PREVIEW_OWNER", value_name = "ROLE")]
    owner: Option<String>,
    /// What the names of their roles begin with [default: medusa_pr_app_].
    #[arg(
        id = "preview-app-user-prefix",
        long = "preview-app-user-prefix",
        env = "DB_PREVIEW_APP_USER_PREFIX",
        value_name = "PREFIX"
    )]
    app_prefix: Option<String>,
    /// The role that reads and writes in every preview [default: medusa_dev].
    #[arg(id = "preview-dev-role", long = "preview-dev-role", env = "DB_PREVIEW_DEV_ROLE", value_name = "ROLE")]
    dev_role: Option<String>,
    /// Databases that are never touched, separated by commas.
    #[arg(id = "protected-names", long = "protected-names", env = "DB_PROTECTED_NAMES", value_name = "NAMES")]
    protected_names: Option<String>,
    /// The instance of this daemon that previews are made on [default: previews, made at the first use].
    #[arg(id = "preview-on", long = "preview-on", env = "PGDB_PREVIEW_ON", value_name = "NAME")]
    on: Option<String>,
    /// How long a preview lives that says nothing itself, such as 14d; for ever when left out.
    #[arg(id = "preview-ttl", long = "preview-ttl", env = "PGDB_PREVIEW_TTL", value_name = "DURATION")]
    ttl: Option<String>,
    /// How many previews a template may have [default: 200].
    #[arg(id = "preview-max", long = "preview-max", env = "PGDB_PREVIEW_MAX", value_name = "N")]
    max: Option<u32>,
    /// How many clones are kept ready per template; 0 for none [default: 8].
    #[arg(id = "preview-pool-max", long = "preview-pool-max", env = "PGDB_PREVIEW_POOL_MAX", value_name = "N")]
    pool_max: Option<u32>,
    /// How many of them even when nothing is asked for [default: 0].
    #[arg(id = "preview-pool-min", long = "preview-pool-min", env = "PGDB_PREVIEW_POOL_MIN", value_name = "N")]
    pool_min: Option<u32>,
    /// How many clones are made at the same time [default: 2].
    #[arg(id = "preview-clones", long = "preview-clones", env = "PGDB_PREVIEW_CLONES", value_name = "N")]
    clones: Option<u32>,
    /// How many expired previews are deleted per look [default: 10].
    #[arg(id = "preview-sweep-max", long = "preview-sweep-max", env = "PGDB_PREVIEW_SWEEP_MAX", value_name = "N")]
    sweep_max: Option<u32>,
    /// What becomes of databases with the prefix that no record knows: report (the default), adopt or remove.
    #[arg(id = "preview-orphans", long = "preview-orphans", env = "PGDB_PREVIEW_ORPHANS", value_name = "POLICY")]
    orphans: Option<String>,
    /// Whose pull requests the webhook takes, owner/name or owner/name=template separated by commas [default: all].
    #[arg(
        id = "github-repositories",
        long = "github-repositories",
        env = "PGDB_GITHUB_REPOSITORIES",
        value_name = "NAMES"
    )]
    github_repositories: Option<String>,
}

impl From<PreviewArgs> for PreviewOptions {
    fn from(args: PreviewArgs) -> Self {
        Self {
            host: args.host,
            port: args.port,
            user: args.user,
            database: args.database,
            sslmode: args.sslmode,
            sslrootcert: args.sslrootcert,
            template: args.template,
            prefix: args.prefix,
            owner: args.owner,
            app_prefix: args.app_prefix,
            dev_role: args.dev_role,
            protected_names: args.protected_names,
            on: args.on,
            ttl: args.ttl,
            max: args.max,
            pool_max: args.pool_max,
            pool_min: args.pool_min,
            clones: args.clones,
            sweep_max: args.sweep_max,
            orphans: args.orphans,
            github_repositories: args.github_repositories,
        }
    }
}
