//! Taking over from another tool: what its own table says was applied becomes rows of our ledger.
//!
//! The table is read (`read`), each of its rows is matched with a file by version and, where the tool kept one, by
//! checksum (`matching`), and nothing is written unless every row finds its file. The other tool's table stays as it
//! is.

mod checksum;
mod matching;
mod names;
mod read;
mod write;

pub use matching::{Applied, Candidate, Matching, Problem, match_files};
pub use read::{HistoryRow, find_table, read};
pub use write::write;

use std::fmt;

/// A tool whose table can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// sqlx-cli and the library's `migrate!`: `_sqlx_migrations`.
    Sqlx,
    /// refinery: `refinery_schema_history`.
    Refinery,
    /// Flyway: `flyway_schema_history`.
    Flyway,
    /// dbmate: `schema_migrations` with a column of text.
    Dbmate,
    /// golang-migrate: `schema_migrations` with one row, the version that the database is at.
    GolangMigrate,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sqlx, Self::Refinery, Self::Flyway, Self::Dbmate, Self::GolangMigrate];

    /// What people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlx => "sqlx",
            Self::Refinery => "refinery",
            Self::Flyway => "flyway",
            Self::Dbmate => "dbmate",
            Self::GolangMigrate => "golang-migrate",
        }
    }

    /// The tool of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// The name that its table has unless somebody chose another.
    pub fn table(self) -> &'static str {
        match self {
            Self::Sqlx => "_sqlx_migrations",
            Self::Refinery => "refinery_schema_history",
            Self::Flyway => "flyway_schema_history",
            Self::Dbmate | Self::GolangMigrate => "schema_migrations",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
