//! The daemon's life, from its options to its end.

use crate::ca::Ca;
use crate::config::{Config, EnvSecrets, Options, Surroundings};
use crate::http::router::router;
use crate::http::serve::{Servers, bind_all};
use crate::http::state::App;
use crate::instances::registry::Import;
use crate::instances::{Runtimes, World, WorldConfig};
use crate::lock::DataDirLock;
use crate::previews::PreviewWorld;
use crate::secrets::{SEALED_COLUMNS, Sealer, used_keys};
use crate::store::Store;
use crate::system::{SystemClock, SystemEntropy};
use crate::tokens::{Bootstrap, Tokens};
use crate::{data_dir, logs, tls};
use anyhow::Context;
use pgdb_core::instance::RuntimeKind;
use pgdb_core::random::{self, Entropy};
use pgdb_core::time::Clock;
use pgdb_runtime::docker::{DockerConfig, DockerRuntime};
use pgdb_runtime::process::machine::machine;
use pgdb_runtime::process::{ProcessConfig, ProcessRuntime};
use pgdb_runtime::{ClientPrograms, Runtime};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long requests that are under way may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long an engine that is away is left alone before `registry.json` is tried again.
const ENGINE_PAUSE: Duration = Duration::from_secs(5);
/// How long a server may take until it accepts connections; recovery after a crash counts.
const START_TIMEOUT: Duration = Duration::from_secs(100);
/// How long a server may take to stop cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the daemon until it is told to end.
pub async fn run(options: Options, env_secrets: EnvSecrets) -> anyhow::Result<()> {
    let surroundings = Surroundings::of_this_process().context("could not look around")?;
    let config = Arc::new(options.resolve(&env_secrets, &surroundings)?);
    logs::start(&config.log_level, config.log_format)?;
    serve(config, env_secrets, surroundings.root).await
}

/// The same with a log that is already open.
pub async fn serve(config: Arc<Config>, env_secrets: EnvSecrets, root: bool) -> anyhow::Result<()> {
    data_dir::prepare(&config.data_dir, root)?;
    let _lock = DataDirLock::take(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let app = open(Arc::clone(&config), &env_secrets, (clock, Arc::new(SystemEntropy))).await?;
    drop(env_secrets);

    let mut signals = Signals::watch(config.tls.is_some())?;
    let sockets = bind_all(&config.listen)?;
    let certificate = match &config.tls {
        Some(files) => {
            let certificate = tls::load(files).await?;
            tokio::spawn(tls::reload_on_hangup(certificate.clone(), files.clone()));
            Some(certificate)
        }
        None => None,
    };
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| address.to_string());
    let addresses: Vec<String> = addresses.collect();
    // Operations that an earlier daemon left behind are taken up before anybody can ask for new ones; connections
    // wait in the backlog meanwhile.
    start_services(&app).await?;
    let mut servers = Servers::start(sockets, &router(app.clone()), certificate.as_ref())?;
    app.ready.set(None);
    announce(&config, &addresses);

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        () = app.shutdown.cancelled() => Ok(()),
        error = servers.failed() => Err(error),
    };
    app.ready.set(Some("the daemon is ending".to_owned()));
    app.shutdown.cancel();
    tokio::select! {
        () = end(&app, &mut servers) => tracing::info!("pgdb has ended"),
        () = signals.next() => {
            tracing::warn!("second signal: ending at once");
            servers.abort();
        }
    }
    outcome
}

/// Opens state, keys and tokens. Tests begin here, with clocks of their own.
pub async fn open(
    config: Arc<Config>,
    env_secrets: &EnvSecrets,
    (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> anyhow::Result<App> {
    let data_dir = &config.data_dir;
    let store = Store::open(&data_dir.join("state.db"))?;
    let used = store.read(|connection| used_keys(connection, SEALED_COLUMNS)).await?;
    let sealer = Arc::new(Sealer::open(data_dir, env_secrets.master_key.as_ref(), entropy.as_ref(), &used)?);
    sealer.settle(&store, &entropy, SEALED_COLUMNS).await?;
    let bootstrap = Bootstrap::collect(env_secrets, data_dir, entropy.as_ref())?;
    let tokens = Arc::new(Tokens::load(store.clone(), bootstrap, clock.as_ref()).await?);
    let ca = Arc::new(Ca::open(data_dir, clock.now(), entropy.as_ref())?);
    let parts = (Arc::clone(&clock), Arc::clone(&entropy));
    let daemon_id = daemon_id(&store, entropy.as_ref()).await?;
    let runs_on = runtimes(&config, daemon_id).await?;
    let world = World::new(store.clone(), parts, Arc::clone(&sealer), ca, runs_on, world_config(&config)?);
    let world = Arc::new(world);
    let previews = PreviewWorld::new(Arc::clone(&world), config.previews.clone(), env_secrets);
    Ok(App::new(config, store, (clock, entropy), sealer, tokens, world, Arc::new(previews)))
}

/// What instances can run on, and the client programs of this machine.
async fn runtimes(config: &Config, daemon_id: String) -> anyhow::Result<(Runtimes, Arc<dyn ClientPrograms>)> {
    let process = ProcessRuntime::new(ProcessConfig {
        data_dir: config.data_dir.clone(),
        engines_dir: config.engines_dir.clone(),
        path: std::env::var_os("PATH"),
        run_as: config.run_as.clone(),
        start_timeout: START_TIMEOUT,
        stop_timeout: STOP_TIMEOUT,
    })
    .await?;
    let process = Arc::new(process);
    let docker = DockerRuntime::new(DockerConfig { daemon: daemon_id, ..config.docker.clone() });
    let runtimes: [(RuntimeKind, Arc<dyn Runtime>); 2] =
        [(RuntimeKind::Process, Arc::clone(&process) as _), (RuntimeKind::Docker, Arc::new(docker))];
    Ok((Runtimes::from(runtimes), process))
}

/// What this daemon is called in the labels of its containers; made at its first start.
async fn daemon_id(store: &Store, entropy: &dyn Entropy) -> anyhow::Result<String> {
    const KEY: &str = "daemon_id";
    let new = random::lower_alnum(entropy, 16);
    let kept = store.write(move |connection| {
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?1, ?2)", [KEY, &new])?;
        Ok(connection.query_row("SELECT value FROM meta WHERE key = ?1", [KEY], |row| row.get(0))?)
    });
    Ok(kept.await?)
}

fn world_config(config: &Config) -> anyhow::Result<WorldConfig> {
    let runtime = RuntimeKind::parse(&config.runtime);
    Ok(WorldConfig {
        public_host: config.public_host.clone(),
        port_range: config.port_range,
        default_runtime: runtime.with_context(|| format!("there is no runtime '{}'", config.runtime))?,
        machine: machine(),
    })
}

/// What runs beside the requests starts here, before the daemon calls itself ready.
async fn start_services(app: &App) -> anyhow::Result<()> {
    if !import_first_registry(app).await? {
        tokio::spawn(import_later(app.clone()));
    }
    app.reconciler.first_look().await?;
    app.instances.sweep_spool(&app.config.data_dir.join("spool")).await?;
    app.operations.resume().await?;
    tokio::spawn(app.operations.clone().keep_tidy());
    tokio::spawn(app.reconciler.clone().run());
    tokio::spawn(app.keeper.clone().run());
    Ok(())
}

/// And ends here, after the last request, in the reverse order.
async fn stop_services(app: &App, stop_databases: bool) {
    app.keeper.stop();
    app.operations.stop(GRACE).await;
    app.reconciler.stop().await;
    if stop_databases && let Err(problem) = app.reconciler.stop_servers().await {
        tracing::error!(%problem, "the databases could not be stopped");
    }
}

/// Tries again to take over `registry.json` while the container engine is away.
async fn import_later(app: App) {
    loop {
        tokio::time::sleep(ENGINE_PAUSE).await;
        match import_first_registry(&app).await {
            Ok(false) => {}
            Ok(true) => return app.reconciler.look_at_all_now(),
            Err(error) => return tracing::error!(%error, "registry.json could not be taken over"),
        }
    }
}

/// Takes over the original daemon's `registry.json` at the first start. The file itself stays as it is. False if the
/// container engine was away, so that it has to be done again.
async fn import_first_registry(app: &App) -> anyhow::Result<bool> {
    const DONE: &str = "registry_imported";
    let path = app.config.data_dir.join("registry.json");
    let done = app.store.read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM meta WHERE key = ?1", [DONE], |row| row.get::<_, i64>(0))?)
    });
    if done.await? > 0 || !path.exists() {
        return Ok(true);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let registry = serde_json::from_str(&text).with_context(|| format!("{} is not a registry", path.display()))?;
    let Import { report, engine_away } = app.instances.import_registry(registry).await?;
    if engine_away {
        let first = report.skipped.first().map_or("", |skipped| skipped.reason.as_str());
        tracing::warn!(reason = first, "registry.json is read again until the container engine is there");
        return Ok(false);
    }
    for skipped in &report.skipped {
        tracing::warn!(name = %skipped.name, reason = %skipped.reason, "a database of registry.json was not taken over");
    }
    tracing::info!(imported = report.imported.len(), "registry.json was taken over");
    let note = |connection: &rusqlite::Connection| {
        connection.execute("INSERT INTO meta VALUES (?1, 'true')", [DONE])?;
        Ok(())
    };
    app.store.write(note).await?;
    Ok(true)
}

async fn end(app: &App, servers: &mut Servers) {
    servers.stop(GRACE);
    servers.ended().await;
    // Requests that change something go on without their connection.
    app.requests.close();
    if tokio::time::timeout(GRACE, app.requests.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time; their operations go on at the next start");
    }
    stop_services(app, app.stop_databases.load(Ordering::SeqCst)).await;
    app.audit.close().await;
}

fn announce(config: &Config, addresses: &[String]) {
    if let Some(warning) = &config.listen_warning {
        tracing::warn!("{warning}");
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let urls = addresses.iter().map(|address| format!("{scheme}://{address}")).collect::<Vec<_>>().join(" ");
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("pgdb {version} serves {urls}, data in {}", config.data_dir.display());
    if let Err(error) = notify_ready() {
        tracing::warn!(%error, "systemd could not be told that the daemon is ready");
    }
}

/// Tells systemd (`Type=notify`) that we are ready.
fn notify_ready() -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// What tells the daemon to end: SIGTERM, SIGINT, and SIGHUP unless that means "read the certificate again".
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn watch(hangup_reloads: bool) -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("watch signals");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: (!hangup_reloads).then(|| watch(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}
