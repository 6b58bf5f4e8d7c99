//! squawk's findings as they are told here: without those that PostgreSQL does not bear out, each with the table or the
//! index that it is about.

use super::allow::own_range;
use super::defaults::is_cheap;
use super::made::{Made, parts, text};
use super::rules::{IS_REPEATED, Rank};
use super::weigh::{Check, Grows, Scope};
use super::{Finding, own, place, plain};
use squawk_linter::{Rule, Violation};
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{Parse, SourceFile, SyntaxNode};

const VOLATILE: &str = "A default that may be another for each row writes the whole table anew under an ACCESS EXCLUSIVE \
                        lock: nobody reads or writes it until that is done.";
const EXCLUSION: &str = "The index of an exclusion constraint is made under an ACCESS EXCLUSIVE lock: nobody reads or \
                         writes the table until that is done.";
const NO_EXCLUSION: &str = "PostgreSQL takes neither NOT VALID nor an index made before: give the constraint to a new table, \
                            copy the rows in portions while a trigger keeps them alike, and swap the names";

/// What to tell of it, each with its place; nothing if it is none.
pub(super) fn mend(
    violation: &Violation,
    rank: Rank,
    parsed: &Parse<SourceFile>,
    made: &Made,
    sql: &str,
) -> Vec<(usize, Finding)> {
    let at = usize::from(violation.text_range.start());
    let mut finding = plain(&violation.code.to_string(), rank.severity, place(sql, at), violation.message.clone());
    finding.help = rank.help.map(str::to_owned).or_else(|| violation.help.clone());
    finding.ask.grows = rank.grows;
    let Some(statement) = around(parsed, at) else { return vec![(at, finding)] };
    if !correct(&mut finding, violation.code, &statement, at) {
        return Vec::new();
    }
    if let (Rule::RequireConcurrentIndexDeletion, ast::Stmt::DropIndex(drop)) = (violation.code, &statement) {
        let each = drop.index_refs().filter_map(|index| {
            let at = own_range(index.syntax()).start;
            (finding.line, finding.column) = place(sql, at);
            Some((at, of_index(finding.clone(), text(Some(index)), made, at)?))
        });
        return each.collect();
    }
    let finding = match relation(statement.syntax()) {
        Some((name, scope)) => {
            finding.ask.scope = scope;
            of_table(finding, name, made, at)
        }
        None => of_index(finding, index(&statement), made, at),
    };
    finding.map(|finding| (at, finding)).into_iter().collect()
}

/// Puts right what squawk does not see; false if there is nothing to tell.
fn correct(finding: &mut Finding, rule: Rule, statement: &ast::Stmt, at: usize) -> bool {
    let statement = statement.syntax();
    match rule {
        Rule::AddingFieldWithDefault => {
            if let Some(generated) = here::<ast::GeneratedConstraint>(statement, at) {
                return !is_virtual(&generated);
            }
            let expression = |default: ast::DefaultConstraint| default.expr();
            let mut expressions =
                statement.descendants().filter_map(ast::DefaultConstraint::cast).filter_map(expression);
            let default = expressions.find(|expression| own_range(expression.syntax()).start == at);
            VOLATILE.clone_into(&mut finding.message);
            finding.help = Some(own::NEW_COLUMN.to_owned());
            !default.is_some_and(|default| is_cheap(default.syntax()))
        }
        // It brings its numbers along.
        Rule::AddingRequiredField => !here::<ast::AddColumn>(statement, at).is_some_and(|add| own::is_serial(&add)),
        Rule::AddingNotNullableField => {
            let set = here::<ast::SetNotNull>(statement, at);
            let column = set.and_then(|set| set.syntax().parent()).and_then(ast::AlterColumn::cast);
            let column = text(column.and_then(|column| column.column_name_ref()));
            let column = column.and_then(|column| parts(&column).pop());
            finding.ask.check = column.map_or(Check::No, Check::NotNull);
            true
        }
        Rule::ConstraintMissingNotValid => {
            match here::<ast::AddConstraint>(statement, at).and_then(|add| add.constraint()) {
                // Other rules tell what to do about these, which cannot be NOT VALID.
                Some(ast::Constraint::PrimaryKeyConstraint(_) | ast::Constraint::UniqueConstraint(_)) => return false,
                Some(ast::Constraint::ExcludeConstraint(_)) => {
                    EXCLUSION.clone_into(&mut finding.message);
                    finding.help = Some(NO_EXCLUSION.to_owned());
                }
                _ => {}
            }
            true
        }
        Rule::PreferRobustStmts => {
            IS_REPEATED.clone_into(&mut finding.message);
            true
        }
        _ => true,
    }
}

/// With the table that it is about. One that the file makes is nobody's yet; only what fails on its first row is told,
/// if it is made with rows, whatever the database says.
fn of_table(mut finding: Finding, table: String, made: &Made, at: usize) -> Option<Finding> {
    if made.has(&table, at) {
        match finding.ask.grows {
            Grows::No => {}
            Grows::Rows if made.has_filled(&table, at) => finding.ask.grows = Grows::No,
            Grows::Rows | Grows::Size => return None,
        }
    }
    finding.relation = Some(table);
    Some(finding)
}

/// With the index that it is about, or with its table where the file makes the index.
fn of_index(mut finding: Finding, index: Option<String>, made: &Made, at: usize) -> Option<Finding> {
    if let Some(table) = index.as_deref().and_then(|index| made.table_of(index, at)) {
        return of_table(finding, table.to_owned(), made, at);
    }
    finding.relation = index;
    finding.ask.scope = Scope::Indexed;
    Some(finding)
}

fn around(parsed: &Parse<SourceFile>, at: usize) -> Option<ast::Stmt> {
    parsed.tree().stmts().find(|statement| {
        let range = statement.syntax().text_range();
        usize::from(range.start()) <= at && at < usize::from(range.end())
    })
}

/// The outermost node of its kind that begins here.
fn here<T: AstNode>(statement: &SyntaxNode, at: usize) -> Option<T> {
    statement.descendants().filter(|node| own_range(node).start == at).find_map(T::cast)
}

/// The first table that a statement names, and whether it is meant without those below it.
fn relation(statement: &SyntaxNode) -> Option<(String, Scope)> {
    statement.descendants().find_map(|node| {
        let name = text(ast::TableNameRef::cast(node.clone()));
        let name = name.or_else(|| text(ast::RelationNameRef::cast(node.clone())))?;
        let around = node.parent().and_then(ast::TableRelationName::cast);
        let only = around.is_some_and(|around| around.only_token().is_some());
        Some((name, if only { Scope::Alone } else { Scope::All }))
    })
}

/// The first index that a statement names.
fn index(statement: &ast::Stmt) -> Option<String> {
    text(statement.syntax().descendants().find_map(ast::IndexRef::cast))
}

/// Whether a column is computed when it is read. squawk takes it for one that is stored, which PostgreSQL 18 no longer does
/// of itself.
fn is_virtual(generated: &ast::GeneratedConstraint) -> bool {
    let Some(ast::GeneratedAs::GeneratedStored(computed)) = generated.generated_as() else { return false };
    !matches!(computed.generated_kind(), Some(ast::GeneratedKind::Stored(_)))
}
