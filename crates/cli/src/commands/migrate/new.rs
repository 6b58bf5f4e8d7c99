//! `pgdb migrate new NAME`.

use super::Context;
use super::source::SourceArgs;
use crate::error::Usage;
use anyhow::Context as _;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::{DEFAULT_SCHEMA, Key};
use serde::Serialize;
use std::io::Write;

/// Make an empty file with the next number.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// What it does, such as add_orders; other signs than letters, digits and _ become _.
    name: String,
    #[command(flatten)]
    source: SourceArgs,
    /// The folder it belongs to.
    #[arg(long, value_name = "SCHEMA", default_value = DEFAULT_SCHEMA)]
    schema: String,
    /// A repeatable file, R__name.sql, which has no number.
    #[arg(long)]
    repeatable: bool,
}

#[derive(Debug, Serialize)]
struct Printed {
    key: String,
    path: String,
}

/// Digits of the first file of a schema.
const WIDTH: usize = 3;

impl New {
    pub(crate) fn run(self, cx: &Context<'_>) -> anyhow::Result<()> {
        let given = self.name.trim();
        if let Some((schema, rest)) = given.rsplit_once('/') {
            let schema = schema.rsplit('/').next().unwrap_or(schema);
            let why =
                format!("a name holds no '/'; the folder is said apart: pgdb migrate new '{rest}' --schema {schema}");
            return Err(Usage(why).into());
        }
        if !given.contains(char::is_alphanumeric) {
            return Err(Usage("a name is missing: what the file does, such as add_orders".to_owned()).into());
        }
        let number = given.split_once(['_', '-', ' ']).map_or("", |(first, _)| first);
        if !self.repeatable && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            cx.printer.warn(format!("the number comes by itself; '{number}' is a part of the name"));
        }
        let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '_' };
        let name: String = self.name.trim().trim_end_matches(".sql").chars().map(plain).collect();
        let files = if self.source.dir.exists() { self.source.find(cx)?.files } else { Vec::new() };
        let file = if self.repeatable {
            format!("R__{name}.sql")
        } else {
            format!("{}_{name}.sql", next_number(&files, &self.schema)?)
        };
        let key = Key::new(&self.schema, &file).map_err(|error| Usage(error.to_string()))?;
        let folder = self.source.dir.join(key.schema());
        std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let path = folder.join(key.file());
        let explain = || format!("could not write {}", path.display());
        let mut out = std::fs::File::create_new(&path).with_context(explain)?;
        writeln!(out, "-- {}", self.name.trim().replace(['\n', '\r'], " ")).with_context(explain)?;
        let printed = Printed { key: key.to_string(), path: path.display().to_string() };
        cx.printer.either(&printed, |printer| printer.line(&printed.path))
    }
}

/// One more than the largest number of the schema, with as many digits as that is written with.
fn next_number(files: &[File], schema: &str) -> anyhow::Result<String> {
    let mut next = 1u64;
    let mut width = WIDTH;
    for file in files.iter().filter(|file| file.key.schema() == schema) {
        let Some(number) = file.key.number() else { continue };
        let number: u64 =
            number.parse().with_context(|| format!("the number of '{}' is too large to count on", file.key))?;
        if number >= next {
            next = number + 1;
            let written = file.key.file().trim_start_matches(['V', 'v']);
            width = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
        }
    }
    let written = format!("{next:0width$}");
    // Files run in the order of the bytes of their names.
    anyhow::ensure!(
        written.len() == width,
        "after {} no number of {width} digits is left in '{schema}', and '{written}_…' would come before it; make a file whose \
         name comes after it by its bytes (n{written}_name.sql)",
        next - 1
    );
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_as_they_are_written() {
        let of = |keys: &[&str]| {
            let files: Vec<File> = keys.iter().map(|key| File::new(Key::parse(key).expect(key), Vec::new())).collect();
            next_number(&files, "a").map_err(|error| error.to_string())
        };
        let next = |keys: &[&str]| of(keys).expect("a number");
        assert_eq!(next(&[]), "001");
        assert_eq!(next(&["a/0009_x.sql", "b/99_x.sql", "a/R__x.sql"]), "0010");
        let error = of(&["a/999_x.sql"]).expect_err("it would come before it");
        assert!(error.contains("n1000_name.sql"), "{error}");
        assert_eq!(next(&["a/20261121120000_x.sql"]), "20261121120001");
    }
}
