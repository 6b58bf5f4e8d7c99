//! Bodies that are files: written into the spool as they come.

use crate::http::state::App;
use crate::problem::{Problem, ProblemKind};
use axum::body::Body;
use futures::StreamExt;
use pgdb_core::random;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

/// How `pg_dump`'s custom format begins.
const MAGIC: &[u8] = b"PGDMP";

/// An uploaded file, removed unless an operation takes it over.
pub struct Upload(PathBuf);

impl Upload {
    /// Takes in a dump in `pg_dump`'s custom format.
    pub async fn dump(app: &App, body: Body) -> Result<Self, Problem> {
        let upload = Self::new(&app.config.data_dir, &random::lower_alnum(&*app.entropy, 16))?;
        receive(&upload.0, body).await?;
        Ok(upload)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn new(data_dir: &Path, name: &str) -> Result<Self, Problem> {
        let folder = data_dir.join("spool");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| Problem::internal(format!("could not make {}: {error}", folder.display())))?;
        Ok(Self(folder.join(format!("{name}.dump"))))
    }

    /// From now on an operation looks after it.
    pub fn hand_over(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // It may not be there yet.
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

async fn receive(path: &Path, body: Body) -> Result<(), Problem> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            let message = "no space left for the uploaded dump; free some on the file system of PGDB_DATA_DIR";
            Problem::new(ProblemKind::Busy, "disk_full", message)
        }
        _ => Problem::internal(format!("could not write the uploaded dump: {error}")),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await.map_err(failed)?;
    let mut chunks = body.into_data_stream();
    let mut begin = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("body_unreadable", "the upload broke off"))?;
        if begin.len() < MAGIC.len() {
            begin.extend(chunk.iter().take(MAGIC.len() - begin.len()));
            if !MAGIC.starts_with(&begin) {
                return Err(not_a_dump());
            }
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    if begin != MAGIC {
        return Err(not_a_dump());
    }
    file.sync_all().await.map_err(failed)
}

fn not_a_dump() -> Problem {
    let message = "this is no dump in pg_dump's custom format (made with --format=custom, or by `pgdb dump`)";
    Problem::invalid("invalid_dump", message)
}
