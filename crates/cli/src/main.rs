//! The binary `pgdb`: for now the daemon alone.

use pgdb_server::config::{EnvSecrets, Options};

fn main() -> anyhow::Result<()> {
    pgdb_server::install_crypto();
    let env = |name: &str| std::env::var(name).ok();
    let options = Options {
        listen: env("PGDB_LISTEN"),
        data_dir: env("PGDB_DATA_DIR").map(Into::into),
        engines_dir: env("PGDB_ENGINES_DIR").map(Into::into),
        port_range: env("PGDB_PORT_RANGE").and_then(|range| range.parse().ok()),
        ..Options::default()
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(pgdb_server::run(options, EnvSecrets::from_env()))
}
