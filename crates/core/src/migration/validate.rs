//! What is odd about files and ledger, without running anything.

use crate::migration::file::File;
use crate::migration::plan::{Plan, Refusal};
use crate::operation::text_enum;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;

text_enum! {
    /// How bad it is.
    Severity {
        /// It keeps migrations from running, or the database is not what the files say.
        Error = "error",
        /// It may be meant.
        Warning = "warning",
    }
}

/// Something odd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// `changed`, `done_part_changed`, `unreadable`, `out_of_order`, `missing_file`, `same_number`, `number_order` or `gap`.
    /// `pgdb migrate validate` adds `left_out` (of the folder) and `unfit` (it cannot be cut into statements).
    pub kind: &'static str,
    /// `schema/filename`.
    pub key: String,
    /// A sentence.
    pub message: String,
}

/// Numbers of more digits are times, which have gaps.
const LONGEST_SERIAL: usize = 6;

/// Everything that is odd, errors first.
pub fn problems(files: &[File], plan: &Plan<'_>) -> Vec<Problem> {
    let mut found: Vec<Problem> =
        plan.refusals().map(|(item, refusal)| refused(&item.file.key.to_string(), refusal)).collect();
    for item in plan.items.iter().filter(|item| item.out_of_order.is_some() && item.refusal.is_none()) {
        found.push(warning(
            "out_of_order",
            item.file.key.as_str(),
            "comes before a file of its schema that was already run",
        ));
    }
    for row in &plan.missing {
        let message = "was run and its file is gone; put it back, or forget it with `pgdb migrate repair`";
        found.push(warning("missing_file", &row.key, message));
    }
    found.extend(numbers(files));
    found.sort_by_key(|problem| problem.severity);
    found
}

fn refused(key: &str, refusal: &Refusal) -> Problem {
    let kind = match refusal {
        Refusal::Changed { .. } => "changed",
        Refusal::OutOfOrder { .. } => "out_of_order",
        Refusal::DonePartChanged { .. } => "done_part_changed",
        Refusal::Unreadable { .. } => "unreadable",
    };
    Problem { severity: Severity::Error, kind, key: key.to_owned(), message: refusal.to_string() }
}

fn warning(kind: &'static str, key: &str, message: impl Into<String>) -> Problem {
    Problem { severity: Severity::Warning, kind, key: key.to_owned(), message: message.into() }
}

/// What is odd about the numbers of the files: two alike, an order of bytes that is not theirs, gaps.
pub fn numbers(files: &[File]) -> Vec<Problem> {
    let mut schemas: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_repeatable() && file.key.number().is_some()) {
        schemas.entry(file.key.schema()).or_default().push(file);
    }
    let mut found = Vec::new();
    for files in schemas.values_mut() {
        files.sort_by(|a, b| a.key.cmp(&b.key));
        for pair in files.windows(2) {
            found.extend(neighbours(pair[0], pair[1]));
        }
    }
    found
}

fn neighbours(before: &File, after: &File) -> Option<Problem> {
    let (first, second) = (before.key.number()?, after.key.number()?);
    let key = after.key.as_str();
    let earlier = before.key.file();
    // Without leading zeros a longer number is a larger one.
    match first.len().cmp(&second.len()).then_with(|| first.cmp(second)) {
        Ordering::Equal => {
            Some(warning("same_number", key, format!("has the same number as '{earlier}', which runs before it")))
        }
        Ordering::Greater => {
            let message = format!(
                "runs after '{earlier}' although its number is smaller: the order is that of the bytes, so write leading zeros"
            );
            Some(warning("number_order", key, message))
        }
        Ordering::Less if second.len() <= LONGEST_SERIAL => {
            let (first, second): (u64, u64) = (first.parse().ok()?, second.parse().ok()?);
            (second > first + 1).then(|| {
                warning("gap", key, format!("comes after '{earlier}', and there is nothing between the two numbers"))
            })
        }
        Ordering::Less => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::key::Key;
    use crate::migration::plan::{Policy, plan};

    fn kinds(keys: &[&str]) -> Vec<(&'static str, String)> {
        let files: Vec<File> = keys.iter().map(|key| File::new(Key::parse(key).expect(key), Vec::new())).collect();
        let plan = plan(&files, &[], Policy::default());
        problems(&files, &plan).into_iter().map(|problem| (problem.kind, problem.key)).collect()
    }

    #[test]
    fn numbers_are_compared_within_a_schema() {
        assert_eq!(kinds(&["a/001_x.sql", "a/002_x.sql", "b/001_x.sql", "a/R__x.sql", "a/x.sql"]), []);
        assert_eq!(kinds(&["a/001_x.sql", "a/001_y.sql"]), [("same_number", "a/001_y.sql".to_owned())]);
        assert_eq!(kinds(&["a/1_x.sql", "a/01_y.sql"]), [("same_number", "a/1_x.sql".to_owned())]);
        assert_eq!(kinds(&["a/9_x.sql", "a/10_x.sql"]), [("number_order", "a/9_x.sql".to_owned())]);
        assert_eq!(kinds(&["a/003_x.sql", "a/010_x.sql"]), [("gap", "a/010_x.sql".to_owned())]);
        assert_eq!(kinds(&["a/20260101000000_x.sql", "a/20261121000000_x.sql"]), []);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let files = [File::new(Key::parse("a/1.sql").expect("a key"), vec![0xff])];
        let found = problems(&files, &plan(&files, &[], Policy::default()));
        assert_eq!((found[0].severity, found[0].kind), (Severity::Error, "unreadable"));
    }
}
