//! What is asked, checked before anything is done.

use crate::problem::Problem;
use pgdb_api::templates::TemplateDefinition;
use pgdb_pg::url::{ParsedUrl, parse};

/// How many tables are dumped at the same time, at most.
const MAX_JOBS: u32 = 32;
/// Patterns and checks, at most.
const MAX_ITEMS: usize = 10_000;

/// Checks a definition. `{"source_url": …}` and the like are named where they are wrong.
pub(super) fn definition(definition: &TemplateDefinition) -> Result<(), Problem> {
    for (field, url) in [("source_url", &definition.source_url), ("admin_url", &definition.admin_url)] {
        if let Some(url) = url.as_ref().filter(|url| !url.is_empty()) {
            self::url(field, url)?;
        }
    }
    if definition.jobs.is_some_and(|jobs| !(1..=MAX_JOBS).contains(&jobs)) {
        return Err(Problem::invalid("invalid_value", format!("jobs: give 1 to {MAX_JOBS}")));
    }
    for (field, items) in [("exclude_table_data", &definition.exclude_table_data), ("checks", &definition.checks)] {
        for item in items.iter().flatten() {
            text(field, item)?;
        }
        if items.as_ref().is_some_and(|items| items.len() > MAX_ITEMS) {
            return Err(Problem::invalid("invalid_value", format!("{field}: at most {MAX_ITEMS}")));
        }
    }
    definition.mask.as_deref().filter(|mask| !mask.trim().is_empty()).map_or(Ok(()), |mask| text("mask", mask))
}

/// A URL that the daemon connects to for whoever has sent it. A socket of the daemon's machine lets the daemon's account
/// in, and with it every instance's superuser, without a password.
pub(crate) fn url(field: &str, url: &str) -> Result<ParsedUrl, Problem> {
    let refused = |why: String| Problem::invalid("invalid_value", format!("{field}: {why}"));
    let url = parse(url).map_err(|error| refused(error.to_string()))?;
    if url.host.starts_with(['/', '@']) {
        return Err(refused("a socket of the daemon's machine cannot be used; name a host".to_owned()));
    }
    Ok(url)
}

fn text(field: &str, text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() || text.contains('\0') {
        return Err(Problem::invalid("invalid_value", format!("{field}: an entry is empty, or holds a NUL byte")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_named_by_its_field_and_not_shown() {
        let wrong = TemplateDefinition { admin_url: Some("mysql://root:hunter2@x/y".to_owned()), ..Default::default() };
        let problem = definition(&wrong).expect_err("wrong");
        assert!(problem.message.starts_with("admin_url: ") && !problem.message.contains("hunter2"), "{problem:?}");
    }
}
