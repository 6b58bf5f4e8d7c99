//! What is to be done: files compared with the ledger.

use crate::migration::checksum::Checksum;
use crate::migration::file::File;
use crate::migration::ledger::{LedgerRow, Standing};
use crate::operation::text_enum;
use serde::Serialize;
use std::collections::HashMap;

text_enum! {
    /// What to make of a file that comes before one that was already run, in its schema.
    OutOfOrder {
        /// Run it.
        Allow = "allow",
        /// Run it, and say so.
        Warn = "warn",
        /// Run nothing.
        Refuse = "refuse",
    }
}

text_enum! {
    /// What to make of a file that was changed after it was run.
    Changed {
        /// Run nothing.
        Refuse = "refuse",
        /// Run it again.
        Rerun = "rerun",
    }
}

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Files that come late.
    pub out_of_order: OutOfOrder,
    /// Files that were changed.
    pub changed: Changed,
}

impl Default for Policy {
    fn default() -> Self {
        Self { out_of_order: OutOfOrder::Warn, changed: Changed::Refuse }
    }
}

text_enum! {
    /// How a file stands to the database.
    State {
        /// Run, and not changed since.
        UpToDate = "up_to_date",
        /// Never run, or its last attempt failed; or it had no statement when it was run, and was changed since.
        Pending = "pending",
        /// Run, and changed since.
        Changed = "changed",
        /// A repeatable file that was changed, or never run.
        Due = "repeatable_due",
        /// A file without a transaction of which a part is done.
        Unfinished = "unfinished",
        /// It cannot be read as SQL, and was not run.
        Unreadable = "unreadable",
    }
}

/// A file, and what to do with it.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// The file.
    pub file: &'a File,
    /// How it stands.
    pub state: State,
    /// The last file of its schema that comes after it and was run already.
    pub out_of_order: Option<&'a File>,
    /// Whether it is to be run.
    pub run: bool,
    /// Why nothing at all may be run because of it.
    pub refusal: Option<Refusal>,
    /// The row that says it was run.
    pub done: Option<&'a LedgerRow>,
    /// The newest attempt, if that did not come to a good end.
    pub trouble: Option<&'a LedgerRow>,
    /// The newest attempt of which a part is done, whatever came after it.
    pub unfinished: Option<&'a LedgerRow>,
}

/// Why a plan cannot be carried out as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// Run, and changed since.
    #[error(
        "was changed after it was run: write it as it was and put the change into a new file, or take it as it is now with \
         `pgdb migrate repair`, or run it again with --rerun-changed"
    )]
    Changed {
        /// What was run.
        applied: Checksum,
        /// What is there now.
        found: Checksum,
    },
    /// Comes before what was run.
    #[error(
        "comes before '{after}', which was already run: give it a later name, or let it run with --out-of-order allow"
    )]
    OutOfOrder {
        /// The file that was run.
        after: String,
    },
    /// A part of it is done, and that part was changed.
    #[error(
        "was changed in the part that an earlier run did (statements done: {done}): write it as it was, or take it as \
         it is now with `pgdb migrate repair`, or run all of it anew with --rerun-changed"
    )]
    DonePartChanged {
        /// How many statements are done.
        done: i64,
    },
    /// Not SQL.
    #[error("{why}")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// The whole of it.
#[derive(Debug, Clone, Default)]
pub struct Plan<'a> {
    /// Every file, in the order in which they run: by key, repeatable ones after all others.
    pub items: Vec<Item<'a>>,
    /// What was run and has no file any more, in the order of its keys.
    pub missing: Vec<&'a LedgerRow>,
}

impl<'a> Plan<'a> {
    /// What is to be run, in order.
    pub fn to_run(&self) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter().filter(|item| item.run)
    }

    /// What stands in the way.
    pub fn refusals(&self) -> impl Iterator<Item = (&Item<'a>, &Refusal)> {
        self.items.iter().filter_map(|item| Some((item, item.refusal.as_ref()?)))
    }

    /// Whether the database holds all that the files say, as they are now.
    pub fn is_up_to_date(&self) -> bool {
        self.items.iter().all(|item| item.state == State::UpToDate)
    }
}

/// Compares. `rows` are in the order of their ids; `files` may come in any order, each key once.
pub fn plan<'a>(files: &'a [File], rows: &'a [LedgerRow], policy: Policy) -> Plan<'a> {
    let mut standing: HashMap<&str, Standing<'a>> = HashMap::with_capacity(rows.len());
    for row in rows {
        standing.entry(row.key.as_str()).or_default().add(row);
    }
    let mut sorted: Vec<&'a File> = files.iter().collect();
    sorted.sort_by(|a, b| (a.is_repeatable(), &a.key).cmp(&(b.is_repeatable(), &b.key)));
    let mut newest: HashMap<&str, &'a File> = HashMap::new();
    for file in sorted.iter().filter(|file| !file.is_repeatable()) {
        if standing.get(file.key.as_str()).is_some_and(|standing| standing.done.is_some()) {
            // In the order of their keys, so the last one stays.
            newest.insert(file.key.schema(), file);
        }
    }
    let items = sorted.into_iter().map(|file| {
        let standing = standing.remove(file.key.as_str()).unwrap_or_default();
        let newest = newest.get(file.key.schema()).filter(|newest| newest.key > file.key);
        item(file, standing, newest.copied(), policy)
    });
    let items = items.collect();
    let mut missing: Vec<&LedgerRow> = standing.into_values().filter_map(|standing| standing.done).collect();
    missing.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
    Plan { items, missing }
}

fn item<'a>(file: &'a File, standing: Standing<'a>, newest: Option<&'a File>, policy: Policy) -> Item<'a> {
    let state = state(file, standing);
    let late = newest.filter(|_| state == State::Pending && !file.is_repeatable());
    let refusal = match (state, late) {
        (State::Changed, _) if policy.changed == Changed::Refuse => {
            standing.done.and_then(|row| row.checksum).map(|applied| Refusal::Changed { applied, found: file.checksum })
        }
        (State::Unreadable, _) => {
            file.content.as_ref().err().map(|error| Refusal::Unreadable { why: error.to_string() })
        }
        (State::Unfinished, _) if policy.changed == Changed::Refuse && !file.is_repeatable() => standing
            .unfinished
            .filter(|row| !row.goes_on_with(file))
            .and_then(|row| Some(Refusal::DonePartChanged { done: row.statements_done? })),
        (State::Pending, Some(newest)) if policy.out_of_order == OutOfOrder::Refuse => {
            Some(Refusal::OutOfOrder { after: newest.key.to_string() })
        }
        _ => None,
    };
    let run = refusal.is_none() && state != State::UpToDate;
    let Standing { done, trouble, unfinished, .. } = standing;
    Item { file, state, out_of_order: late, run, refusal, done, trouble, unfinished }
}

fn state(file: &File, standing: Standing<'_>) -> State {
    // What was not kept by another tool's ledger cannot be compared, and is believed.
    let same = |row: &LedgerRow| row.checksum.is_none_or(|checksum| checksum == file.checksum);
    if standing.done.is_some_and(same) {
        // A rerun that broke off half-way is told by its row, and is to be brought to its end.
        return match standing.unfinished {
            Some(row) if same(row) => State::Unfinished,
            _ => State::UpToDate,
        };
    }
    if file.content.is_err() {
        return State::Unreadable;
    }
    if standing.unfinished.is_some() {
        return State::Unfinished;
    }
    match (file.is_repeatable(), standing.done_of(file)) {
        (true, _) => State::Due,
        (false, Some(_)) => State::Changed,
        (false, None) => State::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::key::Key;
    use crate::migration::ledger::{Outcome, Progress};
    use jiff::Timestamp;

    fn file(key: &str, bytes: &str) -> File {
        File::new(Key::parse(key).expect(key), bytes.as_bytes().to_vec())
    }

    fn row(id: i64, key: &str, bytes: Option<&str>, outcome: Outcome) -> LedgerRow {
        LedgerRow {
            id,
            key: key.to_owned(),
            checksum: bytes.map(|bytes| Checksum::of(bytes.as_bytes())),
            outcome,
            applied_at: Timestamp::UNIX_EPOCH,
            took_ms: 1,
            version: "1".to_owned(),
            applied_by: "me".to_owned(),
            statements_done: None,
            progress: None,
            error: None,
            attempts: 1,
            locks: Vec::new(),
        }
    }

    fn told(plan: &Plan<'_>) -> Vec<(String, State, bool)> {
        plan.items.iter().map(|item| (item.file.key.to_string(), item.state, item.run)).collect()
    }

    #[test]
    fn files_run_by_key_and_repeatable_ones_last() {
        let files = [file("b/1.sql", ""), file("a/R__v.sql", ""), file("a/2.sql", ""), file("a/10.sql", "")];
        let plan = plan(&files, &[], Policy::default());
        let keys: Vec<&str> = plan.to_run().map(|item| item.file.key.as_str()).collect();
        assert_eq!(keys, ["a/10.sql", "a/2.sql", "b/1.sql", "a/R__v.sql"]);
        assert!(!plan.is_up_to_date());
    }

    #[test]
    fn a_file_that_had_no_statement_was_not_run() {
        let empty = |id: i64| LedgerRow { statements_done: Some(0), ..row(id, "a/1.sql", Some(""), Outcome::Applied) };
        let real = |id: i64| row(id, "a/1.sql", Some("x"), Outcome::Applied);
        let forgotten = |id: i64| row(id, "a/1.sql", None, Outcome::Forgotten);
        for (text, rows, state) in [
            ("", vec![empty(1)], State::UpToDate),
            ("x", vec![empty(1)], State::Pending),
            // It was emptied for a while.
            ("x", vec![real(1), empty(2)], State::Changed),
            ("y", vec![empty(1), real(2), empty(3), empty(4)], State::Changed),
            ("", vec![real(1), empty(2)], State::UpToDate),
            ("x", vec![real(1), forgotten(2), empty(3)], State::Pending),
        ] {
            assert_eq!(
                plan(&[file("a/1.sql", text)], &rows, Policy::default()).items[0].state,
                state,
                "{text} {rows:?}"
            );
        }
    }

    #[test]
    fn what_was_run_stays_and_what_was_changed_is_refused_or_run_again() {
        let files = [file("a/1.sql", "x"), file("a/2.sql", "new"), file("a/3.sql", "any")];
        let rows = [
            row(1, "a/1.sql", Some("x"), Outcome::Applied),
            row(2, "a/2.sql", Some("old"), Outcome::Applied),
            row(3, "a/3.sql", None, Outcome::Imported),
            row(4, "a/0.sql", Some("gone"), Outcome::Applied),
        ];
        let refused = plan(&files, &rows, Policy::default());
        let expected = [("a/1.sql", State::UpToDate), ("a/2.sql", State::Changed), ("a/3.sql", State::UpToDate)];
        assert_eq!(told(&refused), expected.map(|(key, state)| (key.to_owned(), state, false)));
        let refusals: Vec<&Refusal> = refused.refusals().map(|(_, refusal)| refusal).collect();
        assert!(matches!(refusals[..], [Refusal::Changed { .. }]), "{refusals:?}");
        assert_eq!(refused.missing.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["a/0.sql"]);

        let again = plan(&files, &rows, Policy { changed: Changed::Rerun, ..Policy::default() });
        assert_eq!(again.to_run().count(), 1);
        assert_eq!(again.refusals().count(), 0);
    }

    #[test]
    fn the_newest_word_of_the_ledger_counts() {
        let files = [file("a/1.sql", "x")];
        let changed_back = [
            row(1, "a/1.sql", Some("x"), Outcome::Applied),
            row(2, "a/1.sql", Some("y"), Outcome::Applied),
            row(3, "a/1.sql", Some("x"), Outcome::Repaired),
        ];
        assert!(plan(&files, &changed_back, Policy::default()).is_up_to_date());
        let forgotten = [changed_back[0].clone(), row(2, "a/1.sql", None, Outcome::Forgotten)];
        assert_eq!(plan(&files, &forgotten, Policy::default()).items[0].state, State::Pending);
        let failed = [row(1, "a/1.sql", Some("x"), Outcome::Failed)];
        let failed = plan(&files, &failed, Policy::default());
        assert_eq!((failed.items[0].state, failed.items[0].trouble.map(|row| row.id)), (State::Pending, Some(1)));
        assert!(failed.missing.is_empty());
    }

    #[test]
    fn late_files_are_judged_within_their_schema() {
        let files = [file("a/1.sql", ""), file("a/2.sql", ""), file("b/1.sql", ""), file("a/R__v.sql", "")];
        let rows = [row(1, "a/2.sql", Some(""), Outcome::Applied), row(2, "c/9.sql", Some(""), Outcome::Applied)];
        let warned = plan(&files, &rows, Policy::default());
        let late: Vec<&str> =
            warned.items.iter().filter(|i| i.out_of_order.is_some()).map(|i| i.file.key.as_str()).collect();
        assert_eq!(late, ["a/1.sql"]);
        assert_eq!(warned.to_run().count(), 3);
        let policy = Policy { out_of_order: OutOfOrder::Refuse, ..Policy::default() };
        let refused = plan(&files, &rows, policy);
        let refusals: Vec<&Refusal> = refused.refusals().map(|(_, refusal)| refusal).collect();
        assert_eq!(refusals, [&Refusal::OutOfOrder { after: "a/2.sql".to_owned() }]);
    }

    #[test]
    fn a_file_that_is_no_text_is_in_the_way_until_it_was_run() {
        let files = [File::new(Key::parse("a/1.sql").expect("a key"), vec![0xff])];
        let bad = plan(&files, &[], Policy::default());
        assert_eq!((bad.items[0].state, bad.refusals().count(), bad.to_run().count()), (State::Unreadable, 1, 0));
    }

    #[test]
    fn what_broke_off_half_way_is_to_be_finished() {
        let files = [file("a/1.sql", "-- no-transaction\n")];
        let rows = [row(1, "a/1.sql", Some("-- no-transaction\n"), Outcome::Unfinished)];
        assert_eq!(told(&plan(&files, &rows, Policy::default())), [("a/1.sql".to_owned(), State::Unfinished, true)]);
    }

    #[test]
    fn a_changed_part_that_is_done_is_refused() {
        let files = [file("a/1.sql", "-- no-transaction\nx; z;"), file("a/R__2.sql", "-- no-transaction\nnew;")];
        let half = |id, key, done: &str| LedgerRow {
            progress: Some(Progress::of(done)),
            statements_done: Some(1),
            ..row(id, key, Some("old"), Outcome::Unfinished)
        };
        let same = [half(1, "a/1.sql", "-- no-transaction\nx;"), row(2, "a/1.sql", Some("old"), Outcome::Failed)];
        let goes_on = plan(&files[..1], &same, Policy::default());
        assert_eq!(told(&goes_on), [("a/1.sql".to_owned(), State::Unfinished, true)]);
        assert_eq!(goes_on.items[0].unfinished.map(|row| row.id), Some(1));

        let other = [half(1, "a/1.sql", "-- no-transaction\ny;"), half(2, "a/R__2.sql", "-- no-transaction\nold;")];
        let refused = plan(&files, &other, Policy::default());
        let refusals: Vec<&Refusal> = refused.refusals().map(|(_, refusal)| refusal).collect();
        // What is repeatable may be done again.
        assert_eq!(refusals, [&Refusal::DonePartChanged { done: 1 }]);
        let anew = plan(&files, &other, Policy { changed: Changed::Rerun, ..Policy::default() });
        assert_eq!((anew.to_run().count(), anew.refusals().count()), (2, 0));
    }
}
