//! Which tables a file makes itself: nobody uses them yet, so they can be locked and written anew.

use super::allow::own_range;
use crate::migrate::split::words;
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{Parse, SourceFile, SyntaxNode};

/// The tables and materialized views that a file makes, each with the place where it does.
pub(super) struct Made(Vec<(usize, String)>);

impl Made {
    /// What may be there already (`IF NOT EXISTS`) is not made by the file.
    pub(super) fn read(parsed: &Parse<SourceFile>) -> Self {
        let mut made = Vec::new();
        for statement in parsed.tree().stmts() {
            let name = match &statement {
                ast::Stmt::CreateTable(make) if make.if_not_exists().is_none() => text(make.table_name()),
                ast::Stmt::CreateTableAs(make) if make.if_not_exists().is_none() => text(make.table_name()),
                ast::Stmt::CreateMaterializedView(make) if make.if_not_exists().is_none() => text(make.view()),
                ast::Stmt::SelectInto(make) => text(make.into_clause().and_then(|into| into.table_name())),
                _ => None,
            };
            made.extend(name.map(|name| (own_range(statement.syntax()).start, name)));
        }
        Self(made)
    }

    /// Whether the file has made this table before it comes to this place.
    pub(super) fn has(&self, relation: &str, at: usize) -> bool {
        self.0.iter().any(|(from, name)| *from < at && is_same(name, relation))
    }
}

/// A name as the file writes it.
pub(super) fn text(node: Option<impl AstNode>) -> Option<String> {
    let text = |node: &SyntaxNode| node.text().to_string().trim().to_owned();
    node.map(|node| text(node.syntax())).filter(|name| !name.is_empty())
}

/// Whether two names may be of one table: one of them may lack the schema.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (parts(one), parts(other));
    one.ends_with(&other) || other.ends_with(&one)
}

/// A name's parts as PostgreSQL reads them.
pub(super) fn parts(name: &str) -> Vec<String> {
    let part = |word: &str| match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_lowercase(),
    };
    words(name).filter(|word| *word != ".").map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_postgresql_reads_them() {
        for (one, other) in [("t", "T"), ("shop.t", "t"), ("\"t\"", "T"), ("\"a\"\"b\"", "x . \"a\"\"b\"")] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [("t", "u"), ("\"T\"", "t"), ("a.t", "b.t"), ("t", "t.u")] {
            assert!(!is_same(one, other) && !is_same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn what_may_be_there_already_is_not_made() {
        let text = "CREATE TABLE a (id int); CREATE TABLE IF NOT EXISTS b (id int); CREATE TABLE s.c AS SELECT 1; \
                    CREATE MATERIALIZED VIEW d AS SELECT 1; SELECT 1 INTO e; SELECT 1;";
        let made = Made::read(&SourceFile::parse(text));
        let known = ["a", "b", "c", "s.c", "d", "e", "f"].map(|name| made.has(name, text.len()));
        assert_eq!(known, [true, false, true, true, true, true, false]);
        assert!(!made.has("c", text.find("CREATE TABLE s").expect("it is there")), "not before it is made");
    }
}
