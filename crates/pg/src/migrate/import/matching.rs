//! Which file each row of another tool's table stands for. Pure.

use super::names::{Named, Version, named};
use super::read::HistoryRow;
use super::{Tool, checksum};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A file that may have been applied.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// `schema/filename`.
    pub key: &'a str,
    /// What is in it, without a byte order mark.
    pub text: &'a str,
}

impl Candidate<'_> {
    fn file(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or(self.key)
    }
}

/// A file that the other tool has applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// `schema/filename`.
    pub key: String,
    /// When, as PostgreSQL writes it; the tool may not have kept it.
    pub applied_at: Option<String>,
    /// How long it took; the tool may not have kept it.
    pub took_ms: Option<i64>,
}

/// Why a row cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It failed, or was broken off, and nobody knows what it left.
    #[error("version {version} did not succeed; put that right with the other tool first")]
    Failed {
        /// The version, as the table has it.
        version: String,
    },
    /// There is no such file any more.
    #[error("version {version} was applied, and there is no file of it")]
    NoFile {
        /// The version, as the table has it.
        version: String,
    },
    /// Several files have the version.
    #[error("version {version} could be any of {}", keys.join(", "))]
    Ambiguous {
        /// The version, as the table has it.
        version: String,
        /// The files.
        keys: Vec<String>,
    },
    /// The file is no longer what was applied.
    #[error("{} has changed since version {version} was applied", applied.key)]
    Changed {
        /// What would be taken over.
        applied: Applied,
        /// The version, as the table has it.
        version: String,
    },
}

/// What a table and the files come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// What was applied, in the order of our keys.
    pub applied: Vec<Applied>,
    /// What was not, in the order of our keys.
    pub pending: Vec<String>,
    /// What speaks against it.
    pub problems: Vec<Problem>,
    /// What to know: not about what was applied, but about what comes.
    pub warnings: Vec<String>,
}

/// Finds the file of each row.
pub fn match_files(tool: Tool, history: &[HistoryRow], files: &[Candidate<'_>]) -> Matching {
    let mut matching = Matching::default();
    let mut versions: BTreeMap<Version, Vec<&Candidate<'_>>> = BTreeMap::new();
    let mut repeatables: BTreeMap<String, Vec<&Candidate<'_>>> = BTreeMap::new();
    for file in files {
        match named(tool, file.file()) {
            Named::Version(version) => versions.entry(version).or_default().push(file),
            Named::Repeatable(description) => repeatables.entry(description).or_default().push(file),
            Named::Stranger => {}
        }
    }
    warn_of_order(&versions, &mut matching.warnings);

    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for row in history {
        let label = row.label();
        if !row.success {
            matching.problems.push(Problem::Failed { version: label });
            continue;
        }
        let parsed = row.version.as_deref().and_then(Version::parse);
        let found: Vec<&Candidate<'_>> = match (&parsed, row.version.is_some()) {
            (Some(version), _) if row.and_before => {
                versions.range(..=version.clone()).flat_map(|(_, files)| files).copied().collect()
            }
            (Some(version), _) => versions.get(version).cloned().unwrap_or_default(),
            (None, true) => Vec::new(),
            (None, false) => repeatables.get(&row.description).cloned().unwrap_or_default(),
        };
        match found.as_slice() {
            // A baseline need not have a file of its own.
            [] if row.and_before => {}
            [] => matching.problems.push(Problem::NoFile { version: label }),
            [one] if !row.and_before && !is_unchanged(tool, row, one) => {
                matching.problems.push(Problem::Changed { applied: applied(one, row), version: label });
            }
            several if several.len() > 1 && !row.and_before => {
                let keys = several.iter().map(|file| file.key.to_owned()).collect();
                matching.problems.push(Problem::Ambiguous { version: label, keys });
            }
            files => {
                let new = files.iter().filter(|file| taken.insert(file.key));
                matching.applied.extend(new.map(|file| applied(file, row)));
            }
        }
    }
    matching.applied.sort_by(|a, b| a.key.cmp(&b.key));
    matching.pending =
        files.iter().map(|file| file.key).filter(|key| !taken.contains(key)).map(str::to_owned).collect();
    matching.pending.sort();
    matching
}

fn applied(file: &Candidate<'_>, row: &HistoryRow) -> Applied {
    Applied { key: file.key.to_owned(), applied_at: row.applied_at.clone(), took_ms: row.took_ms }
}

/// Files run in the byte order of their names from now on, which need not be the order of their versions.
fn warn_of_order(versions: &BTreeMap<Version, Vec<&Candidate<'_>>>, warnings: &mut Vec<String>) {
    let in_order: Vec<&str> = versions.values().flatten().map(|file| file.key).collect();
    let Some(pair) = in_order.windows(2).find(|pair| pair[0] > pair[1]) else { return };
    warnings.push(format!(
        "{} comes before {} by name and after it by version; on a new database files run in the order of their names, so \
         rename them (with leading zeros) before you import",
        pair[1], pair[0]
    ));
}

/// Whether the file is what the row says was run. Of what keeps no checksum nothing is known, and that is no change.
fn is_unchanged(tool: Tool, row: &HistoryRow, file: &Candidate<'_>) -> bool {
    let Some(expected) = &row.checksum else { return true };
    // The other tools have a byte order mark count, or not.
    let marked = format!("\u{feff}{}", file.text);
    [file.text, &marked].into_iter().any(|text| match tool {
        Tool::Sqlx => *expected == checksum::sqlx(text),
        Tool::Flyway => *expected == checksum::flyway(text),
        Tool::Refinery => checksum::refinery(file.file(), text).is_none_or(|either| either.contains(expected)),
        Tool::Dbmate | Tool::GolangMigrate => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: Option<&str>, description: &str) -> HistoryRow {
        HistoryRow {
            version: version.map(str::to_owned),
            description: description.to_owned(),
            applied_at: Some("2024-01-31 12:00:00+00".to_owned()),
            took_ms: Some(5),
            checksum: None,
            success: true,
            and_before: false,
        }
    }

    fn files<'a>(keys: &[&'a str]) -> Vec<Candidate<'a>> {
        keys.iter().map(|key| Candidate { key, text: "SELECT 1;\n" }).collect()
    }

    fn keys(matching: &Matching) -> Vec<&str> {
        matching.applied.iter().map(|applied| applied.key.as_str()).collect()
    }

    #[test]
    fn rows_find_their_files_by_version() {
        let files = files(&["app/001_a.sql", "app/002_b.sql", "app/003_c.sql"]);
        let found = match_files(Tool::Sqlx, &[row(Some("2"), "b"), row(Some("1"), "a")], &files);
        assert_eq!(keys(&found), ["app/001_a.sql", "app/002_b.sql"]);
        assert_eq!(found.pending, ["app/003_c.sql"]);
        assert_eq!((found.problems.as_slice(), found.warnings.as_slice()), (&[][..], &[][..]));
    }

    #[test]
    fn a_version_that_the_database_is_at_stands_for_all_before() {
        let files = files(&["app/000001_a.up.sql", "app/000002_b.up.sql", "app/000003_c.up.sql"]);
        let at = HistoryRow { and_before: true, ..row(Some("2"), "") };
        let found = match_files(Tool::GolangMigrate, &[at], &files);
        assert_eq!(keys(&found), ["app/000001_a.up.sql", "app/000002_b.up.sql"]);
        assert_eq!(found.pending, ["app/000003_c.up.sql"]);
    }

    #[test]
    fn what_is_not_clear_is_a_problem_and_not_a_guess() {
        let all = files(&["a/001_x.sql", "b/001_x.sql", "a/002_y.sql"]);
        let changed = HistoryRow { checksum: Some("00".to_owned()), ..row(Some("2"), "y") };
        let failed = HistoryRow { success: false, ..row(Some("9"), "broken") };
        let found = match_files(Tool::Sqlx, &[row(Some("1"), "x"), changed, row(Some("4"), "gone"), failed], &all);
        let said: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "version 1 (x) could be any of a/001_x.sql, b/001_x.sql",
                "a/002_y.sql has changed since version 2 (y) was applied",
                "version 4 (gone) was applied, and there is no file of it",
                "version 9 (broken) did not succeed; put that right with the other tool first",
            ]
        );
        assert_eq!(keys(&found), Vec::<&str>::new());
    }

    #[test]
    fn names_that_sort_differently_than_versions_are_warned_of() {
        let files = files(&["app/V10__c.sql", "app/V1__a.sql", "app/V2__b.sql"]);
        let found = match_files(Tool::Refinery, &[row(Some("1"), "a"), row(Some("2"), "b")], &files);
        assert_eq!(found.warnings.len(), 1);
        assert!(found.warnings[0].starts_with("app/V10__c.sql comes before app/V2__b.sql by name"), "{found:?}");
    }

    #[test]
    fn flyways_repeatables_are_found_by_what_they_are_called() {
        let files = files(&["app/R__all_views.sql", "app/V1__a.sql"]);
        let found = match_files(Tool::Flyway, &[row(Some("1.0"), "a"), row(None, "all views")], &files);
        assert_eq!(keys(&found), ["app/R__all_views.sql", "app/V1__a.sql"]);
    }
}
