//! What is asked, checked before anything is done.

use crate::problem::Problem;
use pgdb_api::previews::EnsurePreview;
use pgdb_core::duration::parse_seconds;
use pgdb_core::preview::PrNumber;
use serde_json::Value;
use std::collections::BTreeMap;

/// Labels of a preview at most, and bytes of their names and values.
const LABELS: usize = 20;
const LABEL_NAME: usize = 63;
const LABEL_VALUE: usize = 500;

/// How long a preview is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// As long as nobody deletes it.
    Never,
    /// So many seconds from now.
    Seconds(u64),
}

/// What an ensure asks for beside the preview itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How long it is to live; the default when nothing is said.
    pub ttl: Option<Ttl>,
    /// New labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A pull request's number, as a number or as digits.
pub fn number(given: &Value) -> Result<PrNumber, Problem> {
    match given {
        Value::String(text) => digits(text),
        Value::Number(number) => digits(&number.to_string()),
        other => Err(invalid_number(&other.to_string())),
    }
}

/// A pull request's number as digits.
pub fn digits(given: &str) -> Result<PrNumber, Problem> {
    given.parse().map_err(|_| invalid_number(given))
}

fn invalid_number(given: &str) -> Problem {
    let shown: String = given.chars().take(40).collect();
    let message = format!("pr_number: '{}' is no positive integer of at most 10 digits", shown.escape_debug());
    Problem::invalid("invalid_pr_number", message)
}

/// Refuses the fields that the original daemon has disabled.
pub fn disabled_fields(request: &EnsurePreview) -> Result<(), Problem> {
    for (field, given) in [("template_db", &request.template_db), ("owner", &request.owner)] {
        if given.is_some() {
            let message = format!("'{field}' is disabled in requests; the daemon's configuration says it");
            return Err(Problem::invalid("field_disabled", message));
        }
    }
    Ok(())
}

/// What an ensure asks for beside the preview itself.
pub fn wanted(request: &EnsurePreview) -> Result<Wanted, Problem> {
    let ttl = request.ttl.as_deref().map(ttl).transpose()?;
    if let Some(labels) = &request.labels {
        check_labels(labels)?;
    }
    Ok(Wanted { ttl, labels: request.labels.clone() })
}

/// How long a preview is to live.
pub fn ttl(text: &str) -> Result<Ttl, Problem> {
    /// A hundred years.
    const LONGEST: u64 = 3_153_600_000;
    if text == "never" {
        return Ok(Ttl::Never);
    }
    match parse_seconds(text) {
        Ok(seconds) if seconds <= LONGEST => Ok(Ttl::Seconds(seconds)),
        Ok(_) => Err(Problem::invalid("invalid_value", "ttl: more than a hundred years; write never")),
        Err(why) => Err(Problem::invalid("invalid_value", format!("ttl: {why}, or never"))),
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    let refused = |why: String| Err(Problem::invalid("invalid_value", format!("labels: {why}")));
    if labels.len() > LABELS {
        return refused(format!("there are {}, and at most {LABELS} are taken", labels.len()));
    }
    for (name, value) in labels {
        if name.is_empty() || name.len() > LABEL_NAME || name.chars().any(char::is_control) {
            return refused(format!("a name has 1 to {LABEL_NAME} bytes and no control characters"));
        }
        if value.len() > LABEL_VALUE || value.chars().any(char::is_control) {
            return refused(format!("a value has at most {LABEL_VALUE} bytes and no control characters"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_taken_in_both_forms_and_nothing_else_is() {
        for good in [json!(123), json!("123")] {
            assert_eq!(number(&good).expect("taken").get(), 123, "{good}");
        }
        for bad in
            [json!(0), json!(-1), json!(1.5), json!("1.0"), json!("abc"), json!(""), json!("1; DROP"), json!(null)]
        {
            assert_eq!(number(&bad).expect_err("refused").code, "invalid_pr_number", "{bad}");
        }
        assert!(number(&json!(true)).is_err() && number(&json!([1])).is_err() && number(&json!("٣")).is_err());
    }

    #[test]
    fn ttl_and_labels_are_bounded() {
        assert_eq!(ttl("2h").expect("taken"), Ttl::Seconds(7200));
        assert_eq!(ttl("never").expect("taken"), Ttl::Never);
        assert!(ttl("soon").is_err() && ttl("99999999d").is_err());
        let many = (0..21).map(|n| (n.to_string(), String::new())).collect();
        assert!(check_labels(&many).is_err());
        assert!(check_labels(&BTreeMap::from([("a\nb".to_owned(), String::new())])).is_err());
    }
}
