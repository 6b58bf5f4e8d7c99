//! What is asked of PostgreSQL installations.

use super::steps::{INSTALL, InstallInput};
use crate::instances::World;
use crate::instances::world::runtime_problem;
use crate::operations::{Engine as Operations, NewOperation, Started};
use crate::problem::Problem;
use pgdb_api::engines::{EngineInfo, EnginesResponse, InstallEngine};
use pgdb_core::instance::{NEWEST_MAJOR, OLDEST_MAJOR};
use std::path::PathBuf;
use std::sync::Arc;

/// What installations can be asked. Cheap to clone.
#[derive(Clone)]
pub struct EngineService {
    world: Arc<World>,
    operations: Operations,
}

impl EngineService {
    /// A service over these parts.
    pub fn new(world: Arc<World>, operations: Operations) -> Self {
        Self { world, operations }
    }

    /// The installations that the default runtime can use, newest first.
    pub async fn list(&self) -> Result<EnginesResponse, Problem> {
        let runtime = self.world.runtime(self.world.config.default_runtime)?;
        let engines = runtime.engines().await.map_err(|error| runtime_problem(&error))?;
        let items = engines.into_iter().enumerate().map(|(index, engine)| EngineInfo {
            major: engine.major,
            version: engine.version,
            bin_dir: engine.bin_dir.display().to_string(),
            default: index == 0,
        });
        Ok(EnginesResponse { items: items.collect() })
    }

    /// The installation of one major.
    pub async fn of(&self, major: u16) -> Result<EngineInfo, Problem> {
        let found = self.list().await?.items.into_iter().find(|engine| engine.major == major);
        found.ok_or_else(|| Problem::not_found("engine_missing", format!("PostgreSQL {major} is not installed here")))
    }

    /// Begins an installation. Asking again for the same joins it.
    pub async fn start_install(&self, major: u16, request: InstallEngine) -> Result<Started, Problem> {
        if !(OLDEST_MAJOR..=NEWEST_MAJOR).contains(&major) {
            let message = format!("PostgreSQL {major} is not supported; choose from {OLDEST_MAJOR} to {NEWEST_MAJOR}");
            return Err(Problem::invalid("invalid_value", message));
        }
        let source = request.source.map(PathBuf::from);
        if let Some(source) = source.as_ref().filter(|source| !source.is_absolute()) {
            let message = format!("'{}' has to be an absolute path on the daemon's machine", source.display());
            return Err(Problem::invalid("invalid_value", message));
        }
        let input = serde_json::to_value(InstallInput { major, source })
            .map_err(|error| Problem::internal(error.to_string()))?;
        let new = NewOperation { kind: INSTALL, subject: format!("engine/{major}"), input };
        self.operations.start(new, |_| Ok(())).await
    }
}
