//! Statements that write all of a table anew, or copy its files, while nobody can use it.

use super::{Danger, TABLE_REWRITE};
use crate::migrate::lint::made::{parts, text};
use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

const SHRINK: &str = "a plain VACUUM lets the space be used again without that lock; pg_repack writes a table anew while it \
                      is in use";
const NEW_TABLE: &str =
    "make a new table of that kind, copy the rows in portions while a trigger keeps them alike, and swap the names";
pub(in crate::migrate::lint) const NEW_COLUMN: &str = "add a column of a plain type without a default, set its default for new rows in a second \
                          statement, and fill the old rows in portions";
const NEW_EXPRESSION: &str =
    "add a plain column instead, fill it in portions while a trigger keeps it right, and swap the names";
const MOVE_INDEX: &str =
    "use REINDEX (TABLESPACE …) INDEX CONCURRENTLY, in a file of its own that begins with `-- pgdb: no-transaction`";

/// Type names that stand for a sequence, a default and NOT NULL.
const SERIAL: [&str; 6] = ["smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"];

fn rewrite(node: &SyntaxNode, relation: Option<String>, what: &str, help: &'static str) -> Danger {
    let message = format!("{what} under an ACCESS EXCLUSIVE lock: nobody reads or writes it until that is done.");
    Danger::new(TABLE_REWRITE, node, relation, message, help)
}

/// `CLUSTER`, in its three forms.
pub(super) fn cluster(cluster: &ast::Cluster) -> Danger {
    let old = cluster.cluster_legacy().and_then(|old| old.on_path()).and_then(|on| on.table_name_ref());
    let table = text(cluster.table_name_ref().or(old));
    rewrite(cluster.syntax(), table, "CLUSTER writes the whole table anew", SHRINK)
}

/// `VACUUM FULL`, of each table by itself.
pub(super) fn vacuum(vacuum: &ast::Vacuum) -> Vec<Danger> {
    if !vacuum.is_full() {
        return Vec::new();
    }
    let Some(tables) = vacuum.table_and_columns_list() else {
        return vec![rewrite(vacuum.syntax(), None, "VACUUM FULL writes every table anew, each", SHRINK)];
    };
    let of = |table: ast::TableAndColumns| {
        let relation = table.table_relation_name();
        let only = relation.as_ref().is_some_and(|relation| relation.only_token().is_some());
        let name = text(relation.and_then(|relation| relation.table_name_ref()));
        rewrite(table.syntax(), name, "VACUUM FULL writes the whole table anew", SHRINK).alone(only)
    };
    tables.table_and_columnss().map(of).collect()
}

/// `SET TABLESPACE`, of a table or of all that are in another one.
pub(super) fn tablespace(node: &SyntaxNode, relation: Option<String>) -> Danger {
    rewrite(node, relation, "SET TABLESPACE copies all of the table's files", NEW_TABLE).alone(true)
}

/// `ALTER INDEX … SET TABLESPACE`.
pub(super) fn index(alter: &ast::AlterIndex) -> Option<Danger> {
    let what = "SET TABLESPACE copies the index's files";
    let one = match alter.action() {
        Some(ast::AlterIndexAction::SetTablespace(set)) => Some((set.syntax().clone(), text(alter.index_ref()))),
        _ => alter.all_in_tablespace().map(|all| (all.syntax().clone(), None)),
    };
    one.map(|(node, index)| rewrite(&node, index, what, MOVE_INDEX))
}

/// One action of `ALTER TABLE`.
pub(super) fn action(action: &ast::AlterTableAction, table: Option<String>) -> Option<Danger> {
    let of = |what, help| rewrite(action.syntax(), table.clone(), what, help);
    // What a table is kept as is not handed down to its partitions.
    let kept = |what| of(what, NEW_TABLE).alone(true);
    match action {
        ast::AlterTableAction::SetLogged(_) => Some(kept("SET LOGGED writes the whole table anew")),
        ast::AlterTableAction::SetUnlogged(_) => Some(kept("SET UNLOGGED writes the whole table anew")),
        ast::AlterTableAction::SetAccessMethod(_) => Some(kept("SET ACCESS METHOD writes the whole table anew")),
        ast::AlterTableAction::SetTablespace(set) => Some(tablespace(set.syntax(), table)),
        ast::AlterTableAction::AddColumn(add) if is_serial(add) && !is_key(add) => {
            Some(of("A serial column gives each row a number, which writes the whole table anew", NEW_COLUMN))
        }
        ast::AlterTableAction::AlterColumn(alter) => match alter.option() {
            Some(ast::AlterColumnOption::SetExpression(_)) => {
                Some(of("SET EXPRESSION of a stored column writes the whole table anew", NEW_EXPRESSION))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether its type stands for a sequence, a default and NOT NULL.
pub(in crate::migrate::lint) fn is_serial(add: &ast::AddColumn) -> bool {
    let Some(ast::Type::PathType(path)) = add.ty() else { return false };
    let name = text(path.path_ref()).map(|name| parts(&name)).unwrap_or_default();
    matches!(name.as_slice(), [name] if SERIAL.contains(&name.as_str()))
}

/// Of a primary key squawk tells.
fn is_key(add: &ast::AddColumn) -> bool {
    add.constraints().any(|constraint| matches!(constraint, ast::Constraint::PrimaryKeyConstraint(_)))
}
