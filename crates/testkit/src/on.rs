//! What the databases of a test run on, so that one test can be run on each.

use crate::daemon::Daemon;
use crate::docker::{Engine, Kind};
use std::sync::Arc;

/// A runtime, with what it needs.
#[derive(Debug, Clone)]
pub enum On {
    /// Processes of this machine.
    Process,
    /// Containers of an engine that is the test's alone.
    Engine(Arc<Engine>),
}

impl On {
    /// Containers of a new engine.
    pub async fn engine(kind: Kind) -> Self {
        Self::Engine(Arc::new(Engine::take(kind).await))
    }

    /// What the daemon calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Engine(_) => "docker",
        }
    }

    /// A place for a daemon whose databases run there when nothing else is said; it does not run yet.
    pub fn prepare(&self, binary: &str) -> Daemon {
        let mut daemon = Daemon::prepare(binary);
        if let Self::Engine(engine) = self {
            daemon.use_engine(Arc::clone(engine));
        }
        daemon
    }

    /// The same, running.
    pub async fn start(&self, binary: &str) -> Daemon {
        let mut daemon = self.prepare(binary);
        daemon.up(&[]).await;
        daemon
    }
}

/// Makes a test of each function on each of the runtimes: `on_runtimes!(process, docker; one, other)`. A function takes
/// `&On`. Its tests are called `on_process::one`, `on_docker::one` and so on.
#[macro_export]
macro_rules! on_runtimes {
    (; $($name:ident),+ $(,)?) => {};
    (process $(, $more:ident)*; $($name:ident),+ $(,)?) => {
        mod on_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&$crate::on::On::Process).await;
            })+
        }
        $crate::on_runtimes!($($more),*; $($name),+);
    };
    (docker $(, $more:ident)*; $($name:ident),+ $(,)?) => {
        mod on_docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&$crate::on::On::engine($crate::docker::Kind::Docker).await).await;
            })+
        }
        $crate::on_runtimes!($($more),*; $($name),+);
    };
    (podman $(, $more:ident)*; $($name:ident),+ $(,)?) => {
        mod on_podman {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&$crate::on::On::engine($crate::docker::Kind::Podman).await).await;
            })+
        }
        $crate::on_runtimes!($($more),*; $($name),+);
    };
}
