//! Files with migrations as they are sent: checked, and kept once for all operations that run them.

use crate::problem::Problem;
use crate::store::Store;
use pgdb_api::migrations::{MigrationPolicy, SqlFile};
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_core::migration::plan::{Changed, OutOfOrder, Policy};
use pgdb_pg::migrate::run::Options;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Files of one request, at most.
const MAX_FILES: usize = 10_000;

/// Migrations, and what a template is filled with after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Set {
    /// In the order of their keys, which are their names now; each key once.
    files: Vec<(String, String)>,
    /// A script that is no migration.
    seed: Option<(String, String)>,
}

impl Set {
    /// Checks what was sent.
    pub(crate) fn new(files: Vec<SqlFile>, seed: Option<SqlFile>) -> Result<Self, Problem> {
        let invalid = |why: String| Problem::invalid("invalid_value", format!("files: {why}"));
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(invalid(format!("give 1 to {MAX_FILES}")));
        }
        let mut named = Vec::with_capacity(files.len());
        for SqlFile { name, sql } in files {
            let key = if name.contains('/') { Key::parse(&name) } else { Key::flat(&name) };
            named.push((key.map_err(|error| invalid(error.to_string()))?.as_str().to_owned(), sql));
        }
        named.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        if let Some(double) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(invalid(format!("'{}' is there twice", double[0].0)));
        }
        let seed = seed.map(|seed| (seed.name, seed.sql));
        if seed.as_ref().is_some_and(|(_, sql)| sql.contains('\0')) {
            return Err(Problem::invalid("invalid_value", "seed: it holds a NUL byte, which PostgreSQL cannot take"));
        }
        Ok(Self { files: named, seed })
    }

    /// The migrations.
    pub(crate) fn files(&self) -> Vec<File> {
        let key = |name: &String| Key::parse(name).ok();
        // Every name was a key when the set was made.
        let files = self.files.iter().filter_map(|(name, sql)| Some(File::new(key(name)?, sql.clone().into_bytes())));
        files.collect()
    }

    /// The script after them, and what it is called.
    pub(crate) fn seed(&self) -> Option<(&str, &str)> {
        self.seed.as_ref().map(|(name, sql)| (name.as_str(), sql.as_str()))
    }

    /// Digest of the migrations alone.
    pub(crate) fn migrations_digest(&self) -> String {
        digest(&self.files, None)
    }

    /// Digest of everything.
    pub(crate) fn digest(&self) -> String {
        digest(&self.files, self.seed.as_ref())
    }

    /// Keeps it for operations whose input has its digest as `set`; those that no unfinished one has and no template holds are
    /// forgotten.
    pub(crate) fn keep(&self, connection: &Connection) -> Result<(), Problem> {
        connection.execute(
            "DELETE FROM migration_sets WHERE digest NOT IN \
             (SELECT input ->> '$.set' FROM operations WHERE finished_at IS NULL AND input ->> '$.set' IS NOT NULL \
              UNION SELECT migrated_to FROM template_definitions WHERE migrated_to IS NOT NULL \
              UNION SELECT built_from FROM template_definitions WHERE built_from IS NOT NULL)",
            [],
        )?;
        let content = serde_json::to_string(self).map_err(|error| Problem::internal(error.to_string()))?;
        connection
            .execute("INSERT INTO migration_sets VALUES (?1, ?2) ON CONFLICT DO NOTHING", [&self.digest(), &content])?;
        Ok(())
    }

    /// What was kept, for an operation that needs it.
    pub(crate) async fn load(store: &Store, digest: &str) -> Result<Self, Problem> {
        let missing = || Problem::internal("the files of the operation are not there any more");
        Self::find(store, digest).await?.ok_or_else(missing)
    }

    /// What was kept, if it is there still.
    pub(crate) async fn find(store: &Store, digest: &str) -> Result<Option<Self>, Problem> {
        let wanted = digest.to_owned();
        let found = store.read(move |connection| {
            let sql = "SELECT content FROM migration_sets WHERE digest = ?1";
            Ok(connection.query_row(sql, [wanted], |row| row.get::<_, String>(0)).optional()?)
        });
        let content = found.await?;
        content
            .map(|content| serde_json::from_str(&content))
            .transpose()
            .map_err(|error| Problem::internal(error.to_string()))
    }
}

fn digest(files: &[(String, String)], seed: Option<&(String, String)>) -> String {
    let mut digest = Sha256::new();
    digest.update((files.len() as u64).to_be_bytes());
    for (name, sql) in files.iter().chain(seed) {
        for part in [name, sql] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How files are run, from what was sent.
pub(crate) fn options(policy: &MigrationPolicy) -> Result<Options, Problem> {
    let invalid = |why: &str| Problem::invalid("invalid_value", why);
    let out_of_order = OutOfOrder::parse(&policy.out_of_order);
    let out_of_order = out_of_order.ok_or_else(|| invalid("policy.out_of_order: it is allow, warn or refuse"))?;
    if !(1..=3_600_000).contains(&policy.lock_timeout_ms) {
        return Err(invalid("policy.lock_timeout_ms: give 1 to 3600000"));
    }
    let changed = if policy.rerun_changed { Changed::Rerun } else { Changed::Refuse };
    Ok(Options {
        policy: Policy { out_of_order, changed },
        keep_going: policy.keep_going,
        lock_timeout: Duration::from_millis(policy.lock_timeout_ms),
        ..Options::new(env!("CARGO_PKG_VERSION"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, sql: &str) -> SqlFile {
        SqlFile { name: name.to_owned(), sql: sql.to_owned() }
    }

    fn set(files: &[(&str, &str)]) -> Result<Set, Problem> {
        Set::new(files.iter().map(|(name, sql)| file(name, sql)).collect(), None)
    }

    #[test]
    fn files_are_put_in_order_and_their_digest_knows_names_and_texts() {
        let one = set(&[("b/1.sql", "2"), ("a_1.sql", "1")]).expect("fine");
        let keys: Vec<String> = one.files().iter().map(|file| file.key.to_string()).collect();
        assert_eq!(keys, ["a/1.sql", "b/1.sql"]);
        assert_eq!(set(&[("a/1.sql", "1"), ("b/1.sql", "2")]).expect("fine").digest(), one.digest());
        for other in
            [&[("a/1.sql", "1"), ("b/1.sql", "3")][..], &[("a/1.sql", "1")], &[("a/1.sql", "1"), ("c/1.sql", "2")]]
        {
            assert_ne!(set(other).expect("fine").digest(), one.digest());
        }
    }

    #[test]
    fn names_that_are_no_migrations_are_refused() {
        for bad in
            [&[][..], &[("a/1.sql", ""), ("a_1.sql", "")], &[("../x.sql", "")], &[("a/b/c.sql", "")], &[("a", "")]]
        {
            assert_eq!(set(bad).expect_err("refused").code, "invalid_value", "{bad:?}");
        }
    }

    #[test]
    fn the_seed_is_no_migration() {
        let files = || vec![file("a/1.sql", "1")];
        let seeded = Set::new(files(), Some(file("seed.sql", "3"))).expect("fine");
        let bare = Set::new(files(), None).expect("fine");
        assert_eq!(seeded.files(), bare.files());
        assert_eq!((seeded.seed(), seeded.migrations_digest()), (Some(("seed.sql", "3")), bare.digest()));
        assert_ne!(seeded.digest(), bare.digest());
        assert!(Set::new(files(), Some(file("seed.sql", "\0"))).is_err());
    }

    #[test]
    fn what_is_allowed_is_read_or_refused() {
        let rerun = MigrationPolicy { rerun_changed: true, ..MigrationPolicy::default() };
        assert_eq!(options(&rerun).expect("fine").policy.changed, Changed::Rerun);
        for bad in [
            MigrationPolicy { out_of_order: "perhaps".to_owned(), ..MigrationPolicy::default() },
            MigrationPolicy { lock_timeout_ms: 0, ..MigrationPolicy::default() },
        ] {
            assert_eq!(options(&bad).expect_err("refused").code, "invalid_value");
        }
    }
}
