//! Our own rules: long locks and rewrites that squawk's rules say nothing about. What those tell is not told here again.

mod locks;
mod rewrites;

pub(super) use rewrites::{NEW_COLUMN, is_serial};

use super::allow::own_range;
use super::made::{Made, text};
use super::weigh::Check;
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{Parse, SourceFile, SyntaxNode};

/// `LOCK TABLE` that keeps others from reading or writing.
pub(super) const EXPLICIT_LOCK: &str = "explicit-lock";
/// All of a table is written anew under a lock.
pub(super) const TABLE_REWRITE: &str = "table-rewrite";
/// A materialized view that cannot be read while it is computed.
pub(super) const REQUIRE_CONCURRENT_REFRESH: &str = "require-concurrent-refresh";
/// A partition that is read under a lock before it becomes one.
pub(super) const ATTACH_PARTITION_SCAN: &str = "attach-partition-scan";

/// Each with what it finds, in a few words. All of them are dangers that can be allowed, and that grow with the table.
pub(super) const RULES: [(&str, &str); 4] = [
    (ATTACH_PARTITION_SCAN, "reads all rows under a lock"),
    (EXPLICIT_LOCK, "locks out readers or writers"),
    (REQUIRE_CONCURRENT_REFRESH, "locks out readers meanwhile"),
    (TABLE_REWRITE, "writes the whole table anew"),
];

/// What one of these rules has found.
pub(super) struct Danger {
    pub(super) rule: &'static str,
    /// Where, in bytes.
    pub(super) at: usize,
    /// The table, as the file writes it; nothing if it is more than one.
    pub(super) relation: Option<String>,
    /// Whether its partitions and children are left as they are.
    pub(super) alone: bool,
    /// What would spare PostgreSQL the reading.
    pub(super) check: Check,
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl Danger {
    fn new(
        rule: &'static str,
        node: &SyntaxNode,
        relation: Option<String>,
        message: String,
        help: &'static str,
    ) -> Self {
        Self { rule, at: own_range(node).start, relation, alone: false, check: Check::No, message, help }
    }

    /// Of `ONLY` this table, or of something that leaves those below it as they are.
    fn alone(self, alone: bool) -> Self {
        Self { alone: self.alone || alone, ..self }
    }
}

/// Looks at a file's statements. A table that the file makes itself is in no danger.
pub(super) fn look(parsed: &Parse<SourceFile>, made: &Made) -> Vec<Danger> {
    let mut found = Vec::new();
    let mut checked = Vec::new();
    for statement in parsed.tree().stmts() {
        match statement {
            ast::Stmt::Lock(lock) => found.extend(locks::explicit(&lock)),
            ast::Stmt::Refresh(refresh) => found.extend(locks::refresh(&refresh)),
            ast::Stmt::Cluster(cluster) => found.push(rewrites::cluster(&cluster)),
            ast::Stmt::Vacuum(vacuum) => found.extend(rewrites::vacuum(&vacuum)),
            ast::Stmt::AlterIndex(alter) => found.extend(rewrites::index(&alter)),
            ast::Stmt::AlterMaterializedView(alter) => {
                found.extend(alter.all_in_tablespace().map(|all| rewrites::tablespace(all.syntax(), None)));
                for action in alter.action() {
                    if let ast::AlterMaterializedViewAction::AlterTableAction(action) = action {
                        found.extend(rewrites::action(&action, text(alter.view_ref())));
                    }
                }
            }
            ast::Stmt::AlterTable(alter) => {
                found.extend(alter.all_in_tablespace().map(|all| rewrites::tablespace(all.syntax(), None)));
                let relation = alter.table_relation_name();
                let only = relation.as_ref().is_some_and(|relation| relation.only_token().is_some());
                let table = text(relation.and_then(|relation| relation.table_name_ref()));
                for action in alter.actions() {
                    found.extend(locks::attach(&action, table.as_deref(), &checked, made));
                    checked.extend(table.clone().filter(|_| locks::adds_check(&action)));
                    found.extend(rewrites::action(&action, table.clone()).map(|danger| danger.alone(only)));
                }
            }
            _ => {}
        }
    }
    found.retain(|danger| !danger.relation.as_ref().is_some_and(|relation| made.has(relation, danger.at)));
    found
}

#[cfg(test)]
mod tests;
