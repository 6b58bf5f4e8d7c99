//! Which of squawk's rules matter here, and how much.
//!
//! Left out are questions of taste (`prefer-text-field` and the like), what the runner does itself
//! (`require-lock-timeout`), what squawk leaves out unless asked and what it tells of PostgreSQL 19 only (`prefer-repack`;
//! our own `table-rewrite` tells it of all).

use super::{Severity, own};
use squawk_linter::Rule;

/// What a rule's finding is worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    pub(super) severity: Severity,
    /// Not what PostgreSQL refuses anyway.
    pub(super) can_be_allowed: bool,
    /// Our own advice, where squawk's does not fit.
    pub(super) help: Option<&'static str>,
}

pub(super) const DANGER: Rank = Rank { severity: Severity::Error, can_be_allowed: true, help: None };
const BREAKS: Rank = Rank { severity: Severity::Warning, can_be_allowed: true, help: None };
const FAILS: Rank = Rank { severity: Severity::Error, can_be_allowed: false, help: None };

/// These statements refuse to run in a transaction.
const CONCURRENTLY: Rank =
    Rank { help: Some("use CONCURRENTLY, in a file of its own that begins with `-- pgdb: no-transaction`"), ..DANGER };
const NO_TRANSACTION: Rank =
    Rank { help: Some("take BEGIN and COMMIT out: the runner makes the transaction"), ..FAILS };

const RANKS: [(Rule, Rank); 37] = [
    // They hold a lock for long: all of a table is read, or written anew.
    (Rule::AddingFieldWithDefault, DANGER),
    (Rule::AddingForeignKeyConstraint, DANGER),
    (Rule::AddingNotNullableField, DANGER),
    (Rule::AddingSerialPrimaryKeyField, DANGER),
    (Rule::BanAlterDomainWithAddConstraint, DANGER),
    (Rule::ChangingColumnType, DANGER),
    (Rule::ConstraintMissingNotValid, DANGER),
    (Rule::DisallowedUniqueConstraint, DANGER),
    (Rule::RequireConcurrentIndexCreation, CONCURRENTLY),
    (Rule::RequireConcurrentIndexDeletion, CONCURRENTLY),
    (Rule::RequireConcurrentPartitionDetach, CONCURRENTLY),
    (Rule::RequireConcurrentReindex, CONCURRENTLY),
    // It fails as soon as there is a row.
    (Rule::AddingRequiredField, DANGER),
    // More is lost than the statement says.
    (Rule::BanDropDatabase, DANGER),
    (Rule::BanTruncateCascade, DANGER),
    // PostgreSQL refuses them, or the runner does.
    (Rule::BanDuplicateColumnAssignments, FAILS),
    (Rule::BanUncommittedTransaction, NO_TRANSACTION),
    (Rule::TransactionNesting, NO_TRANSACTION),
    // What runs now may still use them.
    (Rule::BanAlterIdentity, BREAKS),
    (Rule::BanDropColumn, BREAKS),
    (Rule::BanDropConstraint, BREAKS),
    (Rule::BanDropDefault, BREAKS),
    (Rule::BanDropDomain, BREAKS),
    (Rule::BanDropExtension, BREAKS),
    (Rule::BanDropFunction, BREAKS),
    (Rule::BanDropGeneratedExpression, BREAKS),
    (Rule::BanDropNotNull, BREAKS),
    (Rule::BanDropSchema, BREAKS),
    (Rule::BanDropSequence, BREAKS),
    (Rule::BanDropTable, BREAKS),
    (Rule::BanDropType, BREAKS),
    (Rule::BanDropView, BREAKS),
    (Rule::BanSetSchema, BREAKS),
    // PostgreSQL cuts the name off, and the next statement may not find it.
    (Rule::IdentifierTooLong, BREAKS),
    (Rule::RenamingColumn, BREAKS),
    (Rule::RenamingObject, BREAKS),
    (Rule::RenamingTable, BREAKS),
];

/// A rule of our own, for squawk's knows of indexes alone: what PostgreSQL refuses inside a transaction.
pub(super) const NEEDS_NO_TRANSACTION: &str = "needs-no-transaction";

/// What matters only in files without a transaction: such a file has to be able to begin again in its middle.
const ALONE: [(Rule, Rank); 1] = [(Rule::PreferRobustStmts, BREAKS)];

/// What a rule's finding is worth in a file with or without a transaction around it; nothing when it is left out.
pub(super) fn judge(rule: Rule, transaction: bool) -> Option<Rank> {
    let alone = if transaction { &[][..] } else { &ALONE[..] };
    RANKS.iter().chain(alone).find(|(known, _)| *known == rule).map(|(_, rank)| *rank)
}

/// Every rule that some file can be judged by.
pub(super) fn known() -> impl Iterator<Item = Rule> {
    RANKS.iter().chain(&ALONE).map(|(rule, _)| *rule)
}

/// The names that `allow(…)` takes, and of some that it refuses.
pub(super) fn names() -> impl Iterator<Item = String> {
    known().map(|rule| rule.to_string()).chain(own::NAMES.map(str::to_owned))
}
