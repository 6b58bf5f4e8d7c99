//! Locks that are held for long while nothing is written anew.

use super::{ATTACH_PARTITION_SCAN, Danger, EXPLICIT_LOCK, REQUIRE_CONCURRENT_REFRESH};
use crate::migrate::lint::made::{Made, text};
use crate::migrate::lint::weigh::Check;
use squawk_syntax::ast::{self, AstNode};

/// `LOCK TABLE`, of each table by itself.
pub(super) fn explicit(lock: &ast::Lock) -> Vec<Danger> {
    let mode = lock.lock_mode_clause().and_then(|clause| clause.lock_mode());
    let (mode, waiting) = match mode {
        None | Some(ast::LockMode::AccessExclusive(_)) => ("ACCESS EXCLUSIVE", "reads and writes"),
        Some(ast::LockMode::Exclusive(_)) => ("EXCLUSIVE", "writes"),
        Some(ast::LockMode::ShareRowExclusive(_)) => ("SHARE ROW EXCLUSIVE", "writes"),
        Some(ast::LockMode::Share(_)) => ("SHARE", "writes"),
        // These let the application read and write.
        Some(
            ast::LockMode::AccessShare(_)
            | ast::LockMode::RowShare(_)
            | ast::LockMode::RowExclusive(_)
            | ast::LockMode::ShareUpdateExclusive(_),
        ) => return Vec::new(),
    };
    let of = |relation: ast::RelationName| {
        let message = format!(
            "The {mode} lock is kept until the transaction ends: {waiting} of the table wait for all that time."
        );
        let help = "take it out, as each statement takes the lock that it needs; rows can be kept from changing with \
                    SELECT … FOR UPDATE";
        let only = relation.only_token().is_some();
        Danger::new(EXPLICIT_LOCK, relation.syntax(), text(relation.relation_name_ref()), message, help).alone(only)
    };
    lock.relation_list().into_iter().flat_map(|list| list.relation_names()).map(of).collect()
}

/// `REFRESH MATERIALIZED VIEW` that computes the view while nobody can read it.
pub(super) fn refresh(refresh: &ast::Refresh) -> Option<Danger> {
    if refresh.concurrently_token().is_some() || matches!(refresh.data_option(), Some(ast::DataOption::WithNoData(_))) {
        return None;
    }
    let message = "The view is computed anew under an ACCESS EXCLUSIVE lock: nobody reads it until that is done.";
    let help = "use CONCURRENTLY, which needs a unique index on the view";
    let view = text(refresh.view_ref());
    Some(Danger::new(REQUIRE_CONCURRENT_REFRESH, refresh.syntax(), view, message.to_owned(), help))
}

/// `ATTACH PARTITION` of a table to which the file adds no CHECK that would spare PostgreSQL the reading.
pub(super) fn attach(
    action: &ast::AlterTableAction,
    parent: Option<&str>,
    checked: &[String],
    made: &Made,
) -> Option<Danger> {
    let ast::AlterTableAction::AttachPartition(attach) = action else { return None };
    let table = text(attach.table_name_ref())?;
    if checked.iter().any(|name| made.is_same(name, &table)) {
        return None;
    }
    let message = "The table is locked (ACCESS EXCLUSIVE) while all of its rows are checked to belong to the partition: \
                   nobody reads or writes it until that is done.";
    let help = "before that, give it a CHECK that says the same as the partition's bounds: add it NOT VALID, and in \
                another file VALIDATE it";
    let check = parent.map_or(Check::No, |parent| Check::OfKey(parent.to_owned()));
    let danger = Danger::new(ATTACH_PARTITION_SCAN, attach.syntax(), Some(table), message.to_owned(), help);
    Some(Danger { check, ..danger })
}

/// Whether it gives the table a CHECK, or makes one valid.
pub(super) fn adds_check(action: &ast::AlterTableAction) -> bool {
    match action {
        ast::AlterTableAction::AddConstraint(add) => {
            add.constraint().is_some_and(|it| matches!(it, ast::Constraint::CheckConstraint(_)) && !it.is_not_valid())
        }
        ast::AlterTableAction::ValidateConstraint(_) => true,
        _ => false,
    }
}
