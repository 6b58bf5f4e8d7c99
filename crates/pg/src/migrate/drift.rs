//! Drift: what the schema of a database has and its files do not make, and the other way round. Pure.

use super::dump::{ObjectName, objects};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What is different about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// The database has it, the files do not make it.
    Added,
    /// The files make it, the database does not have it.
    Missing,
    /// Both have it, and it is not the same.
    Different,
}

impl DriftKind {
    /// `added`, `missing` or `different`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Missing => "missing",
            Self::Different => "different",
        }
    }
}

/// One object that is not as the files make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// What it is.
    pub object: ObjectName,
    /// What is different.
    pub kind: DriftKind,
    /// Lines that only one side has begin with `+` (the database) or `-` (the files), all others with a space.
    pub lines: Vec<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectName { kind, schema, name } = &self.object;
        let dot = if schema.is_empty() { "" } else { "." };
        write!(f, "{}: {kind} {schema}{dot}{name}", self.kind.word())
    }
}

/// Compares two dumps of a schema, object by object, whatever their order.
pub fn compare(database: &str, files: &str) -> Vec<Drift> {
    let (have, want) = (by_name(database), by_name(files));
    let mut drifts = Vec::new();
    for (object, text) in &have {
        let (kind, lines) = match want.get(object) {
            None => (DriftKind::Added, marked('+', text)),
            Some(wanted) if wanted != text => (DriftKind::Different, difference(wanted, text)),
            Some(_) => continue,
        };
        drifts.push(Drift { object: object.clone(), kind, lines });
    }
    for (object, text) in want.iter().filter(|(object, _)| !have.contains_key(object)) {
        drifts.push(Drift { object: object.clone(), kind: DriftKind::Missing, lines: marked('-', text) });
    }
    drifts.sort_by(|a, b| (&a.object.schema, &a.object.name).cmp(&(&b.object.schema, &b.object.name)));
    drifts
}

fn by_name(dump: &str) -> BTreeMap<ObjectName, String> {
    let mut all: BTreeMap<ObjectName, String> = BTreeMap::new();
    for (name, text) in objects(dump) {
        let whole = all.entry(name).or_default();
        whole.push_str(&text);
        whole.push('\n');
    }
    all
}

fn marked(mark: char, text: &str) -> Vec<String> {
    text.lines().map(|line| format!("{mark}{line}")).collect()
}

/// The lines of both, in order, with what they share once, as the database writes it. A comma at the end makes no difference:
/// it only says that there is a next line.
fn difference(files: &str, database: &str) -> Vec<String> {
    let lines = marked_by(files, database, |one, other| bare(one) == bare(other));
    // In a function's body it is all the difference that there is.
    if lines.iter().all(|line| line.starts_with(' ')) {
        marked_by(files, database, |one, other| one == other)
    } else {
        lines
    }
}

fn bare(line: &str) -> &str {
    line.strip_suffix(',').unwrap_or(line)
}

/// By the longest common sequence.
fn marked_by(files: &str, database: &str, same: fn(&str, &str) -> bool) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (files.lines().collect(), database.lines().collect());
    // What is the same at both ends need not be searched.
    let begin = old.iter().zip(&new).take_while(|(a, b)| same(a, b)).count();
    let same_end = old[begin..].iter().rev().zip(new[begin..].iter().rev()).take_while(|(a, b)| same(a, b)).count();
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    let (left, right) = (&old[begin..old_end], &new[begin..new_end]);

    let mut lines: Vec<String> = new[..begin].iter().map(|line| format!(" {line}")).collect();
    if left.len() * right.len() > 4_000_000 {
        // Too much to search: one after the other says as much.
        lines.extend(left.iter().map(|line| format!("-{line}")));
        lines.extend(right.iter().map(|line| format!("+{line}")));
    } else {
        lines.extend(common(left, right, same));
    }
    lines.extend(new[new_end..].iter().map(|line| format!(" {line}")));
    lines
}

fn common(left: &[&str], right: &[&str], same: fn(&str, &str) -> bool) -> Vec<String> {
    let width = right.len() + 1;
    // How long a sequence the rest of both shares.
    let mut shared = vec![0_u32; (left.len() + 1) * width];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            shared[i * width + j] = if same(left[i], right[j]) {
                shared[(i + 1) * width + j + 1] + 1
            } else {
                shared[(i + 1) * width + j].max(shared[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < left.len() || j < right.len() {
        if i < left.len() && j < right.len() && same(left[i], right[j]) {
            lines.push(format!(" {}", right[j]));
            (i, j) = (i + 1, j + 1);
        } else if i < left.len() && (j == right.len() || shared[(i + 1) * width + j] >= shared[i * width + j + 1]) {
            lines.push(format!("-{}", left[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", right[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, text: &str) -> String {
        format!("\n--\n-- Name: {name}; Type: {kind}; Schema: shop; Owner: -\n--\n\n{text}\n\n")
    }

    #[test]
    fn objects_are_compared_whatever_their_order() {
        let table = object("TABLE", "orders", "CREATE TABLE shop.orders (\n    id bigint,\n    day date\n);");
        let index = object("INDEX", "by_day", "CREATE INDEX by_day ON shop.orders USING btree (day);");
        let (one, other) = (format!("SET x;\n{table}{index}"), format!("{index}{table}"));
        assert_eq!(compare(&one, &other), []);
        let changed =
            object("TABLE", "orders", "CREATE TABLE shop.orders (\n    id bigint,\n    note text,\n    day date\n);");
        let view = object("VIEW", "latest", "CREATE VIEW shop.latest AS\n SELECT 1;");
        let drifts = compare(&format!("{changed}{view}"), &other);
        let told: Vec<String> = drifts.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["missing: INDEX shop.by_day", "added: VIEW shop.latest", "different: TABLE shop.orders"]);
        assert_eq!(
            drifts[2].lines,
            [" CREATE TABLE shop.orders (", "     id bigint,", "+    note text,", "     day date", " );"]
        );
        assert_eq!(drifts[1].lines, ["+CREATE VIEW shop.latest AS", "+ SELECT 1;"]);
    }

    #[test]
    fn lines_that_only_one_side_has_are_marked() {
        assert_eq!(difference("a\nb\nc\nd", "a\nx\nc\ny\nd"), [" a", "-b", "+x", " c", "+y", " d"]);
        assert_eq!(difference("a\nb", "a\nb\nc"), [" a", " b", "+c"]);
        assert_eq!(difference("", "c"), ["+c"]);
        // A new last column changes the comma of the one before.
        assert_eq!(
            difference("(\n id,\n total\n)", "(\n id,\n total,\n note\n)"),
            [" (", "  id,", "  total,", "+ note", " )"]
        );
        assert_eq!(difference("x,\ny", "x\ny"), ["-x,", "+x", " y"]);
    }
}
