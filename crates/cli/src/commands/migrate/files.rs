//! A folder's migrations, as they are sent to a daemon.

use anyhow::Context as _;
use pgdb_api::migrations::{FILES_LIMIT, SqlFile};
use pgdb_core::migration::checksum::Checksum;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::DEFAULT_SCHEMA;
use pgdb_server::migrations::directory;
use std::fs;
use std::path::{Path, PathBuf};

/// The migrations of a folder, with their texts as they are. A name that cannot be used is an error: the file would be
/// missing in many databases before anybody noticed.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<SqlFile>> {
    let found = directory::read(folder)?;
    anyhow::ensure!(found.left_out.is_empty(), "{}", found.left_out.join("; "));
    anyhow::ensure!(!found.files.is_empty(), "{} holds no .sql file", folder.display());
    let files: Vec<SqlFile> = found.files.iter().map(|file| with_text(folder, file)).collect::<Result<_, _>>()?;
    let bytes: usize = files.iter().map(|file| file.sql.len()).sum();
    anyhow::ensure!(
        bytes < FILES_LIMIT,
        "the files hold {} MB, and at most {} MB can be sent; `pgdb migrate run` has no such limit, and a template can be \
         made from a database that was filled: pgdb template create --help",
        bytes / 1_000_000,
        FILES_LIMIT / 1_000_000
    );
    Ok(files)
}

/// The file's text with its byte order mark, which is part of its checksum.
fn with_text(folder: &Path, file: &File) -> anyhow::Result<SqlFile> {
    let key = &file.key;
    if let Err(error) = &file.content {
        anyhow::bail!("{key}: {error}");
    }
    for path in places(folder, key.schema(), key.file()) {
        if let Ok(bytes) = fs::read(&path)
            && Checksum::of(&bytes) == file.checksum
        {
            let sql = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
            return Ok(SqlFile { name: key.to_string(), sql });
        }
    }
    anyhow::bail!("{key} was changed while it was read; try again")
}

/// Where a file of this key can be: in a folder, or beside the folders.
fn places(folder: &Path, schema: &str, file: &str) -> Vec<PathBuf> {
    let mut places = vec![folder.join(schema).join(file), folder.join(format!("{schema}_{file}"))];
    if schema == DEFAULT_SCHEMA {
        places.push(folder.join(file));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sent_as_they_are() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("gcp")).expect("a folder");
        for (name, text) in [("gcp/1.sql", "\u{feff}SELECT 1"), ("aws_2.sql", "SELECT 2"), ("3.sql", "SELECT 3")] {
            fs::write(root.path().join(name), text).expect(name);
        }
        let sent: Vec<(String, String)> =
            read(root.path()).expect("read").into_iter().map(|file| (file.name, file.sql)).collect();
        let expected = [("aws/2.sql", "SELECT 2"), ("gcp/1.sql", "\u{feff}SELECT 1"), ("public/3.sql", "SELECT 3")];
        assert_eq!(sent, expected.map(|(name, sql)| (name.to_owned(), sql.to_owned())));
    }

    #[test]
    fn what_cannot_be_sent_is_told() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(read(root.path()).expect_err("empty").to_string().contains("holds no .sql file"));
        fs::write(root.path().join("gcp_1.sql"), [0xff]).expect("written");
        assert!(read(root.path()).expect_err("no text").to_string().contains("gcp/1.sql"));
    }
}
