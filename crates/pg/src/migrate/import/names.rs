//! What a file's name says to each tool.

use super::Tool;

/// What a tool takes a file for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// Run once, in the order of versions.
    Version(Version),
    /// Run whenever it changes; the text is its description.
    Repeatable(String),
    /// Nothing of the tool's. The ways back of its migrations never come here: no source gives them.
    Stranger,
}

/// A version as a list of numbers, without zeros at the end: `1.0` and `1` are the same to Flyway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(Vec<u64>);

impl Version {
    /// Reads `20240131120000`, `001`, `1.2` or `1_2`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> = text.split(['.', '_']).map(|part| part.parse().ok()).collect();
        let mut numbers = numbers?;
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        Some(Self(numbers))
    }
}

/// Reads the name of a file, without its folder.
pub(super) fn named(tool: Tool, file: &str) -> Named {
    let Some(stem) = file.strip_suffix(".sql") else { return Named::Stranger };
    match tool {
        Tool::Sqlx => numbered(stem),
        Tool::GolangMigrate => stem.strip_suffix(".up").map_or(Named::Stranger, numbered),
        Tool::Dbmate => {
            let digits = stem.find(|c: char| !c.is_ascii_digit()).unwrap_or(stem.len());
            Version::parse(&stem[..digits]).map_or(Named::Stranger, Named::Version)
        }
        Tool::Refinery => prefixed(stem, &['V']).map_or(Named::Stranger, Named::Version),
        Tool::Flyway => match stem.strip_prefix("R__") {
            Some(description) => Named::Repeatable(description.replace('_', " ")),
            None => prefixed(stem, &['V', 'B']).map_or(Named::Stranger, Named::Version),
        },
    }
}

/// The words between the version and the end, as refinery's checksum wants them.
pub(super) fn description(file: &str) -> Option<&str> {
    file.strip_suffix(".sql")?.split_once("__").map(|(_, words)| words)
}

/// `123_words`.
fn numbered(stem: &str) -> Named {
    let version = stem.split_once('_').and_then(|(digits, _)| digits.parse().ok());
    version.map_or(Named::Stranger, |number| Named::Version(Version(vec![number])))
}

/// `V1_2__words`.
fn prefixed(stem: &str, prefixes: &[char]) -> Option<Version> {
    let (version, _) = stem.strip_prefix(prefixes)?.split_once("__")?;
    Version::parse(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Named {
        Named::Version(Version::parse(text).expect("a version"))
    }

    #[test]
    fn each_tool_reads_its_own_names() {
        for (tool, file, expected) in [
            (Tool::Sqlx, "20240131120000_users.sql", version("20240131120000")),
            (Tool::Sqlx, "0002_users.up.sql", version("2")),
            (Tool::Sqlx, "README.md", Named::Stranger),
            (Tool::GolangMigrate, "000003_more.up.sql", version("3")),
            (Tool::GolangMigrate, "000003_more.sql", Named::Stranger),
            (Tool::Dbmate, "20240131120000_users.sql", version("20240131120000")),
            (Tool::Dbmate, "users.sql", Named::Stranger),
            (Tool::Refinery, "V7__first.sql", version("7")),
            (Tool::Refinery, "first.sql", Named::Stranger),
            (Tool::Flyway, "V1_2__first_thing.sql", version("1.2")),
            (Tool::Flyway, "V1.2.0__first_thing.sql", version("1.2")),
            (Tool::Flyway, "B5__all_so_far.sql", version("5")),
            (Tool::Flyway, "R__all_views.sql", Named::Repeatable("all views".to_owned())),
        ] {
            assert_eq!(named(tool, file), expected, "{tool} {file}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let order = |a: &str, b: &str| Version::parse(a).cmp(&Version::parse(b));
        assert!(order("2", "10").is_lt() && order("1.9", "1.10").is_lt() && order("1", "1.0").is_eq());
        assert_eq!(Version::parse("1.x"), None);
    }
}
