//! What is asked, checked before anything is done.

use crate::problem::Problem;
use pgdb_api::templates::{BuildTemplate, TemplateDefinition};
use pgdb_pg::url::{ParsedUrl, parse};
use sha2::{Digest, Sha256};

/// How many tables are dumped at the same time, at most.
const MAX_JOBS: u32 = 32;
/// Patterns, checks and files, at most.
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

/// Checks the files of a build and puts them in order, the seed last. Returns their digest.
pub(super) fn files(build: &mut BuildTemplate) -> Result<String, Problem> {
    if build.files.is_empty() || build.files.len() > MAX_ITEMS {
        return Err(Problem::invalid("invalid_value", format!("files: give 1 to {MAX_ITEMS}")));
    }
    build.files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut digest = Sha256::new();
    for pair in build.files.windows(2) {
        if pair[0].name == pair[1].name {
            let shown: String = pair[0].name.chars().take(80).collect();
            return Err(Problem::invalid("invalid_value", format!("files: '{}' is there twice", shown.escape_debug())));
        }
    }
    digest.update((build.files.len() as u64).to_be_bytes());
    build.files.extend(build.seed.take());
    for file in &build.files {
        if file.name.is_empty() || file.name.len() > 500 || file.sql.contains('\0') {
            return Err(Problem::invalid(
                "invalid_value",
                "files: a name is empty or too long, or a file holds a NUL byte",
            ));
        }
        for part in [&file.name, &file.sql] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgdb_api::templates::BuildFile;

    fn build(files: &[(&str, &str)]) -> BuildTemplate {
        let file = |(name, sql): &(&str, &str)| BuildFile { name: (*name).to_owned(), sql: (*sql).to_owned() };
        BuildTemplate { files: files.iter().map(file).collect(), seed: None, force: false }
    }

    #[test]
    fn files_are_put_in_order_and_their_digest_knows_names_and_texts() {
        let mut one = build(&[("b", "2"), ("a", "1")]);
        let digest = files(&mut one).expect("fine");
        assert_eq!(one.files[0].name, "a");
        assert_eq!(files(&mut build(&[("a", "1"), ("b", "2")])).expect("fine"), digest);
        for other in [&[("a", "1"), ("b", "3")][..], &[("a", "1b"), ("", "2")], &[("a", "1"), ("c", "2")]] {
            assert_ne!(files(&mut build(other)).ok(), Some(digest.clone()));
        }
        assert!(files(&mut build(&[("a", "1"), ("a", "2")])).is_err() && files(&mut build(&[])).is_err());
    }

    #[test]
    fn the_seed_is_the_last_one_whatever_the_files_are_called() {
        let all = [("é.sql", "1"), ("~z.sql", "2")];
        let mut seeded = build(&all);
        seeded.seed = Some(BuildFile { name: "seed.sql".to_owned(), sql: "3".to_owned() });
        let digest = files(&mut seeded).expect("fine");
        let names: Vec<&str> = seeded.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["~z.sql", "é.sql", "seed.sql"]);
        let unseeded = files(&mut build(&[all[0], all[1], ("seed.sql", "3")])).expect("fine");
        assert_ne!(unseeded, digest, "what is a seed is run at another time");
    }

    #[test]
    fn a_wrong_url_is_named_by_its_field_and_not_shown() {
        let wrong = TemplateDefinition { admin_url: Some("mysql://root:hunter2@x/y".to_owned()), ..Default::default() };
        let problem = definition(&wrong).expect_err("wrong");
        assert!(problem.message.starts_with("admin_url: ") && !problem.message.contains("hunter2"), "{problem:?}");
    }
}
