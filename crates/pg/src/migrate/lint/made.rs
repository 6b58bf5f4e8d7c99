//! Which tables a file makes itself: nobody uses them yet, so they can be locked and written anew.

use super::allow::own_range;
use crate::migrate::split::words;
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{Parse, SourceFile, SyntaxNode};

/// The tables, materialized views and indexes that a file makes.
pub(super) struct Made {
    tables: Vec<Table>,
    indexes: Vec<Index>,
    names: Names,
}

struct Table {
    /// Where it is made.
    at: usize,
    name: String,
    /// Whether it is made of a query, with its rows.
    is_filled: bool,
}

struct Index {
    at: usize,
    name: Vec<String>,
    table: String,
}

impl Made {
    /// What may be there already (`IF NOT EXISTS`) is not made by the file.
    pub(super) fn read(parsed: &Parse<SourceFile>) -> Self {
        let mut made = Self { tables: Vec::new(), indexes: Vec::new(), names: Names::read(parsed) };
        for statement in parsed.tree().stmts() {
            let at = own_range(statement.syntax()).start;
            let with_data = |option| !matches!(option, Some(ast::DataOption::WithNoData(_)));
            let (name, is_filled) = match &statement {
                ast::Stmt::CreateTable(make) if make.if_not_exists().is_none() => (text(make.table_name()), false),
                ast::Stmt::CreateTableAs(make) if make.if_not_exists().is_none() => {
                    (text(make.table_name()), with_data(make.data_option()))
                }
                ast::Stmt::CreateMaterializedView(make) if make.if_not_exists().is_none() => (text(make.view()), true),
                ast::Stmt::SelectInto(make) => (text(make.into_clause().and_then(|into| into.table_name())), true),
                ast::Stmt::CreateIndex(make) if make.if_not_exists().is_none() => {
                    made.indexes.extend(Index::made(make, at));
                    continue;
                }
                _ => continue,
            };
            made.tables.extend(name.map(|name| Table { at, name, is_filled }));
        }
        made
    }

    /// Whether the file has made this table before it comes to this place.
    pub(super) fn has(&self, relation: &str, at: usize) -> bool {
        self.table(relation, at).is_some()
    }

    /// Whether that table may have rows from the beginning.
    pub(super) fn has_filled(&self, relation: &str, at: usize) -> bool {
        self.table(relation, at).is_some_and(|table| table.is_filled)
    }

    /// The table of an index that the file has made before it comes to this place.
    pub(super) fn table_of(&self, index: &str, at: usize) -> Option<&str> {
        let same = |one: &&Index| one.at < at && self.names.are_same(&one.name, &parts(index));
        self.indexes.iter().rfind(same).map(|one| one.table.as_str())
    }

    /// Whether two names are of one table.
    pub(super) fn is_same(&self, one: &str, other: &str) -> bool {
        self.names.are_same(&parts(one), &parts(other))
    }

    fn table(&self, relation: &str, at: usize) -> Option<&Table> {
        self.tables.iter().rfind(|table| table.at < at && self.is_same(&table.name, relation))
    }
}

impl Index {
    /// It lies in the schema of its table, which its name does not say.
    fn made(make: &ast::CreateIndex, at: usize) -> Option<Self> {
        let table = text(make.table_relation_name().and_then(|relation| relation.table_name_ref()))?;
        let mut name = parts(&table);
        name.pop();
        name.extend(parts(&text(make.index())?));
        Some(Self { at, name, table })
    }
}

/// How names without a schema are looked up in a file.
struct Names {
    /// Whether the file says where to look, so that such a name may be in any schema.
    are_anywhere: bool,
}

impl Names {
    fn read(parsed: &Parse<SourceFile>) -> Self {
        let names = |node: &SyntaxNode| node.text().to_string().to_lowercase().contains("search_path");
        let sets = |statement: ast::Stmt| match statement {
            ast::Stmt::Set(set) => {
                matches!(set.set_target(), Some(ast::SetTarget::SetSchemaValue(_))) || names(set.syntax())
            }
            ast::Stmt::Select(select) => names(select.syntax()),
            _ => false,
        };
        Self { are_anywhere: parsed.tree().stmts().any(sets) }
    }

    fn are_same(&self, one: &[String], other: &[String]) -> bool {
        let plain = |name: &[String]| match name {
            [schema, name] if schema == "public" => vec![name.clone()],
            _ => name.to_vec(),
        };
        match self.are_anywhere {
            true => one.ends_with(other) || other.ends_with(one),
            false => plain(one) == plain(other),
        }
    }
}

/// A name as the file writes it.
pub(super) fn text(node: Option<impl AstNode>) -> Option<String> {
    let text = |node: &SyntaxNode| node.text().to_string().trim().to_owned();
    node.map(|node| text(node.syntax())).filter(|name| !name.is_empty())
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
        let same = |text: &str, one: &str, other: &str| {
            let made = Made::read(&SourceFile::parse(text));
            assert_eq!(made.is_same(one, other), made.is_same(other, one), "{one} {other}");
            made.is_same(one, other)
        };
        let elsewhere =
            ["SET search_path = shop;", "SELECT set_config('search_path', 'shop', true);", "SET SCHEMA 'shop';"];
        for (one, other) in [("t", "T"), ("public.t", "t"), ("\"t\"", "T"), ("x.\"a\"\"b\"", "x . \"a\"\"b\"")] {
            assert!(same("SET x.y = 1; SELECT 1;", one, other), "{one} {other}");
        }
        for (one, other) in [("shop.t", "t"), ("shop.t", "public.t")] {
            assert!(!same("SET x.y = 1; SELECT 1;", one, other), "{one} {other}");
        }
        for text in elsewhere {
            assert!(same(text, "shop.t", "t") && !same(text, "a.t", "b.t"), "{text}");
        }
        for (one, other) in [("t", "u"), ("\"T\"", "t"), ("a.t", "b.t"), ("t", "t.u")] {
            assert!(!same("", one, other) && !same(elsewhere[0], one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_may_be_there_already_is_not_made() {
        let text = "CREATE TABLE a (id int); CREATE TABLE IF NOT EXISTS b (id int); CREATE TABLE s.c AS SELECT 1; \
                    CREATE MATERIALIZED VIEW d AS SELECT 1; SELECT 1 INTO e; CREATE TABLE f AS SELECT 1 WITH NO DATA; \
                    SELECT 1;";
        let made = Made::read(&SourceFile::parse(text));
        let names = ["a", "public.a", "b", "c", "s.c", "d", "e", "f", "g"];
        assert_eq!(
            names.map(|name| made.has(name, text.len())),
            [true, true, false, false, true, true, true, true, false]
        );
        assert_eq!(["a", "s.c", "e", "f"].map(|name| made.has_filled(name, text.len())), [false, true, true, false]);
        assert!(!made.has("s.c", text.find("CREATE TABLE s").expect("it is there")), "not before it is made");
    }

    #[test]
    fn an_index_is_known_by_the_schema_of_its_table() {
        let text = "CREATE INDEX i ON s.t (a); CREATE INDEX j ON u (a); CREATE INDEX IF NOT EXISTS k ON u (a); \
                    CREATE INDEX ON u (b);";
        let made = Made::read(&SourceFile::parse(text));
        let table_of = ["s.i", "i", "j", "public.J", "k"].map(|name| made.table_of(name, text.len()));
        assert_eq!(table_of, [Some("s.t"), None, Some("u"), Some("u"), None]);
        assert_eq!(made.table_of("j", text.find("CREATE INDEX j").expect("it is there")), None);
    }
}
