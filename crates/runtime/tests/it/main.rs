//! The runtimes against the real PostgreSQL of this machine, and those below `PGDB_ENGINES_DIR`.

mod bed;
mod configmap;
mod disk;
mod install;
mod lab;
mod lifecycle;
mod manifests;
mod mishaps;
mod output;
mod reflink;
mod shared;
