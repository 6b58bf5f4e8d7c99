//! Which of squawk's rules matter here, and how much.
//!
//! Left out are questions of taste (`prefer-text-field` and the like), what the runner does itself
//! (`require-lock-timeout`), what squawk leaves out unless asked and what it tells of PostgreSQL 19 only (`prefer-repack`;
//! our own `table-rewrite` tells it of all).

use super::weigh::Grows;
use super::{Severity, own};
use crate::migrate::split::Kind;
use squawk_linter::Rule;

/// What a rule's finding is worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    pub(super) severity: Severity,
    /// Not what PostgreSQL refuses anyway.
    pub(super) can_be_allowed: bool,
    /// Our own advice, where squawk's does not fit.
    pub(super) help: Option<&'static str>,
    /// What of its table it matters more with.
    pub(super) grows: Grows,
}

const DANGER: Rank = Rank { severity: Severity::Error, can_be_allowed: true, help: None, grows: Grows::No };
/// It takes the longer the larger the table is.
pub(super) const SLOW: Rank = Rank { grows: Grows::Size, ..DANGER };
const REQUIRED: Rank = Rank { grows: Grows::Rows, ..DANGER };
const BREAKS: Rank = Rank { severity: Severity::Warning, ..DANGER };
const FAILS: Rank = Rank { can_be_allowed: false, ..DANGER };

/// These statements refuse to run in a transaction.
const CONCURRENTLY: Rank =
    Rank { help: Some("use CONCURRENTLY, in a file of its own that begins with `-- pgdb: no-transaction`"), ..SLOW };
const NO_TRANSACTION: Rank =
    Rank { help: Some("take BEGIN and COMMIT out: the runner makes the transaction"), ..FAILS };

/// Each with what it finds, in a few words.
const RANKS: [(Rule, Rank, &str); 37] = [
    // They hold a lock for long: all of a table is read, or written anew.
    (Rule::AddingFieldWithDefault, SLOW, "writes the whole table anew"),
    (Rule::AddingForeignKeyConstraint, SLOW, "reads all rows, locks two tables"),
    (Rule::AddingNotNullableField, SLOW, "reads all rows under a lock"),
    (Rule::AddingSerialPrimaryKeyField, SLOW, "writes the whole table anew"),
    (Rule::BanAlterDomainWithAddConstraint, DANGER, "checks every table that uses it"),
    (Rule::ChangingColumnType, SLOW, "may write the whole table anew"),
    (Rule::ConstraintMissingNotValid, SLOW, "reads all rows under a lock"),
    (Rule::DisallowedUniqueConstraint, SLOW, "makes its index under a lock"),
    (Rule::RequireConcurrentIndexCreation, CONCURRENTLY, "blocks writes meanwhile"),
    (Rule::RequireConcurrentIndexDeletion, CONCURRENTLY, "a lock that stops all others"),
    (Rule::RequireConcurrentPartitionDetach, CONCURRENTLY, "a lock that stops all others"),
    (Rule::RequireConcurrentReindex, CONCURRENTLY, "blocks writes meanwhile"),
    // It fails as soon as there is a row.
    (Rule::AddingRequiredField, REQUIRED, "fails as soon as there is a row"),
    // More is lost than the statement says.
    (Rule::BanDropDatabase, DANGER, "all of its data is lost"),
    (Rule::BanTruncateCascade, DANGER, "empties other tables too"),
    // PostgreSQL refuses them, or the runner does.
    (Rule::BanDuplicateColumnAssignments, FAILS, "does not run"),
    (Rule::BanUncommittedTransaction, NO_TRANSACTION, "the runner makes the transaction"),
    (Rule::TransactionNesting, NO_TRANSACTION, "the runner makes the transaction"),
    // What runs now may still use them.
    (Rule::BanAlterIdentity, BREAKS, "the application may rely on it"),
    (Rule::BanDropColumn, BREAKS, "the application may still use it"),
    (Rule::BanDropConstraint, BREAKS, "the application may rely on it"),
    (Rule::BanDropDefault, BREAKS, "the application may rely on it"),
    (Rule::BanDropDomain, BREAKS, "the application may still use it"),
    (Rule::BanDropExtension, BREAKS, "the application may still use it"),
    (Rule::BanDropFunction, BREAKS, "the application may still use it"),
    (Rule::BanDropGeneratedExpression, BREAKS, "the application may rely on it"),
    (Rule::BanDropNotNull, BREAKS, "NULL may not be expected"),
    (Rule::BanDropSchema, BREAKS, "the application may still use it"),
    (Rule::BanDropSequence, BREAKS, "the application may still use it"),
    (Rule::BanDropTable, BREAKS, "the application may still use it"),
    (Rule::BanDropType, BREAKS, "the application may still use it"),
    (Rule::BanDropView, BREAKS, "the application may still use it"),
    (Rule::BanSetSchema, BREAKS, "the old name may be in use"),
    // PostgreSQL cuts the name off, and the next statement may not find it.
    (Rule::IdentifierTooLong, BREAKS, "PostgreSQL cuts the name off"),
    (Rule::RenamingColumn, BREAKS, "the old name may be in use"),
    (Rule::RenamingObject, BREAKS, "the old name may be in use"),
    (Rule::RenamingTable, BREAKS, "the old name may be in use"),
];

/// A rule of our own, for squawk's knows of indexes alone: what PostgreSQL refuses inside a transaction.
pub(super) const NEEDS_NO_TRANSACTION: &str = "needs-no-transaction";

pub(super) const NOT_RUNNABLE: &str = "not-runnable";
pub(super) const UNREADABLE: &str = "unreadable";
pub(super) const BAD_ALLOW: &str = "bad-allow";
pub(super) const UNUSED_ALLOW: &str = "unused-allow";
pub(super) const NOT_UNDERSTOOD: &str = "not-understood";
pub(super) const TOO_LARGE: &str = "too-large";

/// What is neither squawk's nor one of `own`, as it is told. None of it can be allowed.
const OURS: [(&str, Severity, &str); 7] = [
    (NEEDS_NO_TRANSACTION, Severity::Error, "does not run in a transaction"),
    (NOT_RUNNABLE, Severity::Error, "cannot be cut into statements"),
    (UNREADABLE, Severity::Error, "cannot be read, or is not UTF-8"),
    (BAD_ALLOW, Severity::Error, "an allow without reason or rule"),
    (UNUSED_ALLOW, Severity::Note, "an allow that nothing needs"),
    (NOT_UNDERSTOOD, Severity::Note, "SQL unknown to the linter"),
    (TOO_LARGE, Severity::Note, "too large or nested too deeply"),
];

/// What matters only in files without a transaction: such a file has to be able to go on in its middle. Of squawk's findings
/// those count whose statement is noted only once it is committed, see `is_repeated`.
const ALONE: [(Rule, Rank, &str); 1] = [(Rule::PreferRobustStmts, REPEATED, "may run twice, and fail then")];

const REPEATED: Rank = Rank { help: Some("write IF EXISTS, or keep it alone in its file"), ..BREAKS };

/// Why such a statement is told, in place of squawk's reason.
pub(super) const IS_REPEATED: &str = "this is committed by itself and noted right after: a run that is cut off in between does it again, and then it fails";

/// Whether a run that is cut off behind this statement does it again. Most are noted with what they do, and what an index
/// that is made concurrently has left is known.
pub(super) fn is_repeated(kind: Kind) -> bool {
    kind.is_alone() && !matches!(kind, Kind::CreateIndexConcurrently | Kind::ReindexConcurrently)
}

/// What a rule's finding is worth in a file with or without a transaction around it; nothing when it is left out.
pub(super) fn judge(rule: Rule, transaction: bool) -> Option<Rank> {
    let alone = if transaction { &[][..] } else { &ALONE[..] };
    RANKS.iter().chain(alone).find(|(known, ..)| *known == rule).map(|(_, rank, _)| *rank)
}

/// Every rule that some file can be judged by.
pub(super) fn known() -> impl Iterator<Item = Rule> {
    RANKS.iter().chain(&ALONE).map(|(rule, ..)| *rule)
}

/// Something that the linter can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its name.
    pub name: String,
    /// How much it matters, where the database does not say otherwise.
    pub severity: Severity,
    /// Whether `allow(…)` takes it.
    pub can_be_allowed: bool,
    /// What it finds, in a few words.
    pub what: &'static str,
}

/// All that the linter can tell, in the order of their names.
pub fn rules() -> Vec<RuleInfo> {
    let squawks = RANKS.iter().chain(&ALONE).map(|(rule, rank, what)| RuleInfo {
        name: rule.to_string(),
        severity: rank.severity,
        can_be_allowed: rank.can_be_allowed,
        what,
    });
    let ours = OURS.iter().map(|(name, severity, what)| RuleInfo {
        name: (*name).to_owned(),
        severity: *severity,
        can_be_allowed: false,
        what,
    });
    let dangers = own::RULES.iter().map(|(name, what)| RuleInfo {
        name: (*name).to_owned(),
        severity: SLOW.severity,
        can_be_allowed: SLOW.can_be_allowed,
        what,
    });
    let mut all: Vec<RuleInfo> = squawks.chain(dangers).chain(ours).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// The names that `allow(…)` takes, and of some that it refuses.
pub(super) fn names() -> impl Iterator<Item = String> {
    known().map(|rule| rule.to_string()).chain(own::RULES.map(|(name, _)| name.to_owned()))
}
