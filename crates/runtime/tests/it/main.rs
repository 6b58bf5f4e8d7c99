//! The process runtime on real PostgreSQL.

mod process;
