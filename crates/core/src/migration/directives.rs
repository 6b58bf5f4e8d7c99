//! What a file says about itself in its first lines.
//!
//! The first lines are those before the first one that is neither empty nor a comment that begins with `--`.

use serde::Serialize;

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Directives {
    /// Statement by statement, without a transaction around them.
    pub no_transaction: bool,
    /// Run whenever its checksum changes.
    pub repeatable: bool,
    /// Findings of the lint that are meant to be.
    pub allows: Vec<Allow>,
}

/// `-- pgdb: allow(rule) reason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// The lint's name of the rule.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The line it stands in, from 1.
    pub line: usize,
}

/// Something that begins like a directive of ours and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: '{text}' is no directive; there are no-transaction, repeatable and allow(RULE) REASON")]
pub struct UnknownDirective {
    /// From 1.
    pub line: usize,
    /// What stands after `-- pgdb:`.
    pub text: String,
}

/// Reads the first lines.
pub fn parse(text: &str) -> Result<Directives, UnknownDirective> {
    let mut found = Directives::default();
    for (index, comment) in head(text) {
        if let Some(ours) = comment.strip_prefix("pgdb:") {
            let ours = ours.trim();
            match ours {
                "no-transaction" => found.no_transaction = true,
                "repeatable" => found.repeatable = true,
                _ => {
                    let unknown = || UnknownDirective { line: index + 1, text: ours.chars().take(80).collect() };
                    found.allows.push(allow(ours, index + 1).ok_or_else(unknown)?);
                }
            }
        } else if comment == "no-transaction" {
            found.no_transaction = true;
        } else if let Some(options) = comment.strip_prefix("migrate:up") {
            found.no_transaction |= options.split_whitespace().any(|option| option == "transaction:false");
        }
    }
    Ok(found)
}

/// Where the way back begins in a file that holds both directions (`-- migrate:up` … `-- migrate:down`): the offset of
/// that line. What follows it is never run.
pub fn way_back(text: &str) -> Option<usize> {
    let (up, down) = head(text).find_map(|(_, comment)| {
        [("migrate:up", "migrate:down"), ("+goose Up", "+goose Down")]
            .into_iter()
            .find(|(up, _)| comment.strip_prefix(up).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    })?;
    debug_assert_ne!(up, down);
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().strip_prefix("--").is_some_and(|comment| comment.trim_start().starts_with(down)) {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

/// The comments of the first lines, each with the number of its line from 0.
fn head(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index, line.trim()));
    let first = lines.take_while(|(_, line)| line.is_empty() || line.starts_with("--"));
    first.filter_map(|(index, line)| Some((index, line.strip_prefix("--")?.trim())))
}

fn allow(text: &str, line: usize) -> Option<Allow> {
    let (rule, reason) = text.strip_prefix("allow(")?.split_once(')')?;
    let rule = rule.trim();
    (!rule.is_empty()).then(|| Allow { rule: rule.to_owned(), reason: reason.trim().to_owned(), line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_stand_in_the_first_comments() {
        for text in [
            "-- pgdb: no-transaction\nVACUUM;",
            "--pgdb:no-transaction\r\nVACUUM;",
            "\n-- Why this is here.\n\n-- no-transaction\nVACUUM;",
            "-- migrate:up transaction:false\nVACUUM;",
        ] {
            assert!(parse(text).expect(text).no_transaction, "{text:?}");
        }
        for text in ["", "SELECT 1;\n-- no-transaction", "-- migrate:up", "-- no-transactions", "/* no-transaction */"]
        {
            assert_eq!(parse(text), Ok(Directives::default()), "{text:?}");
        }
        assert!(parse("-- pgdb: repeatable").expect("good").repeatable);
    }

    #[test]
    fn a_slip_of_the_pen_is_told() {
        let error = parse("-- Hello\n-- pgdb: no-transction\n").expect_err("no such directive");
        assert_eq!((error.line, error.text.as_str()), (2, "no-transction"));
        assert!(parse("-- pgdb: allow() because").is_err());
    }

    #[test]
    fn what_is_allowed_keeps_its_reason() {
        let found =
            parse("-- pgdb: allow(require-concurrent-index-creation) the table is new\nSELECT 1").expect("good");
        let allow = &found.allows[0];
        assert_eq!(
            (allow.rule.as_str(), allow.reason.as_str()),
            ("require-concurrent-index-creation", "the table is new")
        );
    }

    #[test]
    fn the_way_back_is_found_where_there_is_a_way_there() {
        let text = "-- migrate:up\nCREATE TABLE a ();\n-- migrate:down\nDROP TABLE a;\n";
        let at = way_back(text).expect("a way back");
        assert_eq!(&text[..at], "-- migrate:up\nCREATE TABLE a ();\n");
        assert_eq!(way_back("-- migrate:up transaction:false\nSELECT 1;\n  --migrate:down\n"), Some(42));
        assert!(way_back("-- +goose Up\nSELECT 1;\n-- +goose Down\n").is_some());
        assert_eq!(way_back("SELECT 1;\n-- migrate:down\n"), None);
        assert_eq!(way_back("-- migrate:up\nSELECT 1;\n"), None);
    }
}
