//! A runtime of any kind for a test, and nothing left of it afterwards.

use crate::bed::{Bed, spec};
use pgdb_runtime::Runtime;
use pgdb_runtime::docker::{DockerConfig, DockerRuntime, Endpoint, ImageName, PullPolicy};
use pgdb_runtime::spec::{ADMIN_ROLE, ServerSpec, Tool};
use pgdb_testkit::on::On;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The verifier of a password that no test needs.
const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
                        bXl0aGljYWxzdG9yZWRrZXlvZnRoaXJ0eXR3b2J5dGU=:bXl0aGljYWxzZXJ2ZXJrZXlvZnRoaXJ0eXR3b2J5dGU=";

pub(crate) struct Lab {
    on: On,
    bed: Bed,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl Lab {
    pub(crate) async fn new(on: &On) -> Self {
        let bed = Bed::new().await;
        let runtime = open(on, &bed).await;
        Self { on: on.clone(), bed, runtime }
    }

    /// The runtime as another daemon on the same data has it.
    pub(crate) async fn again(&self) -> Arc<dyn Runtime> {
        open(&self.on, &self.bed).await
    }

    /// A server of the major that is run when nothing is said.
    pub(crate) async fn spec(&self, id: &str) -> ServerSpec {
        let major = self.runtime.choose_major(None).await.expect("a major");
        ServerSpec { admin_verifier: Some(VERIFIER.to_owned()), ..spec(id, major) }
    }

    /// Makes and starts a server.
    pub(crate) async fn up(&self, spec: &ServerSpec) {
        self.runtime.prepare(spec.major).await.expect("prepared");
        self.runtime.create(spec).await.expect("created");
        self.runtime.configure(spec).await.expect("configured");
        self.runtime.start(spec).await.expect("started");
    }

    /// Runs SQL as the administrator, from where it needs no password.
    pub(crate) async fn sql(&self, spec: &ServerSpec, db: &str, sql: &str) -> String {
        let args = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql].map(str::to_owned);
        let tool = Tool { program: "psql", args: &args, user: ADMIN_ROLE, password: None, db, stdin: None };
        let mut running = self.runtime.tool(spec, tool).await.expect("psql runs");
        let mut said = String::new();
        running.stdout.read_to_string(&mut said).await.expect("read");
        running.finished.await.expect(sql);
        said.trim().to_owned()
    }
}

async fn open(on: &On, bed: &Bed) -> Arc<dyn Runtime> {
    match on {
        On::Process => Arc::new(crate::bed::open(&bed.data_dir).await),
        On::Engine(engine) => Arc::new(DockerRuntime::new(DockerConfig {
            endpoint: Endpoint { host: engine.host(), tls: None },
            daemon: "lab".to_owned(),
            prefix: "pgdb-".to_owned(),
            image: ImageName::default(),
            pull: PullPolicy::Never,
            client_config: None,
            network: None,
            cpus: Some(1.5),
            shm_mb: 64,
            volume_driver: None,
            volume_size_option: None,
            connect_host: None,
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(30),
        })),
    }
}
