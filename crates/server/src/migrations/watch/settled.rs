//! What this watcher has seen applied, so that two watchers with different files do not undo each other for ever.
//!
//! A file that is not as the ledger has it is run when this watcher's own file is new to it. If it was applied as it is,
//! and something else was applied after that, then another migrator has other files: to run ours again would only make
//! it run its own. That is for people to mend.

use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_core::migration::ledger::LedgerRow;
use pgdb_core::migration::plan::{Changed, OutOfOrder, Plan, Policy, State};
use pgdb_pg::migrate::report::RefusedFile;
use std::collections::HashMap;

/// What the watcher allows.
pub(super) const POLICY: Policy = Policy { out_of_order: OutOfOrder::Allow, changed: Changed::Rerun };

/// Files that the database was seen to hold.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// With the number of the row that says so; 0 when the row was not seen.
    files: HashMap<Key, (Checksum, i64)>,
}

impl Settled {
    /// A file was applied by us.
    pub(super) fn applied(&mut self, file: &File) {
        self.files.insert(file.key.clone(), (file.checksum, 0));
    }

    /// Takes in what the ledger says of files.
    pub(super) fn note(&mut self, plan: &Plan<'_>) {
        for item in plan.items.iter().filter(|item| item.state == State::UpToDate) {
            let row = item.done.map_or(0, |row| row.id);
            self.files.insert(item.file.key.clone(), (item.file.checksum, row));
        }
    }

    /// Files in whose place another migrator has applied other content, each with the words for it.
    ///
    /// A row that is older than the one that we have seen is none of another migrator: the database was restored.
    pub(super) fn disputed(&self, plan: &Plan<'_>) -> Vec<RefusedFile> {
        let differ = plan.items.iter().filter(|item| matches!(item.state, State::Changed | State::Due));
        let disputed = differ.filter_map(|item| {
            let (row, (checksum, seen)) = (item.done?, self.files.get(&item.file.key)?);
            let theirs = *checksum == item.file.checksum && row.id > *seen;
            theirs.then(|| RefusedFile { key: item.file.key.to_string(), why: described(row) })
        });
        disputed.collect()
    }
}

fn described(row: &LedgerRow) -> String {
    format!(
        "another migrator has applied other content ({} at {}); give both the same files",
        row.applied_by,
        row.applied_at.strftime("%F %T UTC")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use pgdb_core::migration::ledger::Outcome;
    use pgdb_core::migration::plan::plan;

    fn file(text: &str) -> File {
        File::new(Key::parse("a/1.sql").expect("a key"), text.as_bytes().to_vec())
    }

    fn row(id: i64, text: &str) -> LedgerRow {
        LedgerRow {
            id,
            key: "a/1.sql".to_owned(),
            checksum: Some(Checksum::of(text.as_bytes())),
            outcome: Outcome::Applied,
            applied_at: Timestamp::UNIX_EPOCH,
            took_ms: 1,
            version: "1".to_owned(),
            applied_by: "other".to_owned(),
            statements_done: None,
            error: None,
            attempts: 1,
            locks: Vec::new(),
        }
    }

    fn disputed(settled: &Settled, ours: &str, rows: &[LedgerRow]) -> bool {
        !settled.disputed(&plan(&[file(ours)], rows, POLICY)).is_empty()
    }

    #[test]
    fn a_file_is_run_again_when_it_is_new_to_this_watcher_alone() {
        let mut settled = Settled::default();
        assert!(!disputed(&settled, "ours", &[row(1, "old")]), "a watcher that starts has not seen anything");
        settled.note(&plan(&[file("ours")], &[row(1, "old"), row(2, "ours")], POLICY));
        assert!(!disputed(&settled, "ours", &[row(2, "ours")]));
        let theirs = [row(1, "old"), row(2, "ours"), row(3, "theirs")];
        assert!(disputed(&settled, "ours", &theirs), "something else was applied after it");
        assert!(!disputed(&settled, "newer", &theirs), "our own file has changed");
        assert!(!disputed(&settled, "ours", &[row(1, "old")]), "the database was restored");
        assert!(!disputed(&settled, "ours", &[]), "the database was emptied");
        settled.applied(&file("newer"));
        assert!(disputed(&settled, "newer", &theirs), "it was run by us, and lost at once");
    }
}
