//! Where the files are.

use super::Context;
use super::lint::counted;
use crate::args::by_name_alone;
use crate::error::Usage;
use anyhow::Context as _;
use clap::Args;
use pgdb_core::migration::file::File;
use pgdb_core::migration::key::Key;
use pgdb_server::migrations::directory::{self, Found, ReadError};
use std::path::{Path, PathBuf};

/// Where the files are.
#[derive(Debug, Args)]
#[command(mut_args = by_name_alone)]
pub(crate) struct SourceArgs {
    /// The folder with the migrations, SCHEMA/NNN_name.sql.
    #[arg(long, env = "MIGRATIONS_DIR", value_name = "DIR", default_value = "migrations")]
    pub(crate) dir: PathBuf,
}

impl SourceArgs {
    /// The files in the order of their keys. Refuses to go on when one of the folder's has to be left out: whoever acts
    /// on all files must not take such a one for none.
    pub(crate) fn read(&self, cx: &Context<'_>) -> anyhow::Result<Vec<File>> {
        let found = self.find(cx)?;
        anyhow::ensure!(found.left_out.is_empty(), "nothing was done: {} cannot be used", count(&found.left_out));
        Ok(found.files)
    }

    /// The files in the order of their keys, and those that have to be left out, which are told.
    pub(crate) fn find(&self, cx: &Context<'_>) -> anyhow::Result<Found> {
        Self::told(cx, directory::read(&self.dir))
    }

    /// The same while something else is waited for, whose outcome is given too.
    pub(crate) async fn find_during<T>(
        &self,
        cx: &Context<'_>,
        other: impl Future<Output = T>,
    ) -> anyhow::Result<(Found, T)> {
        let dir = self.dir.clone();
        let reading = tokio::task::spawn_blocking(move || directory::read(&dir));
        let (found, outcome) = tokio::join!(reading, other);
        Ok((Self::told(cx, found?)?, outcome))
    }

    /// The key of the file that is named by it or by a path, which is one of `files`.
    pub(crate) fn known_key(&self, files: &[File], named: &str) -> anyhow::Result<String> {
        let known = |key: &str| files.iter().any(|file| file.key.as_str() == key);
        if known(named) {
            return Ok(named.to_owned());
        }
        let key = self.key(named);
        if known(&key) {
            return Ok(key);
        }
        let name = Path::new(named).file_name();
        let alike = files.iter().find(|file| name.is_some_and(|name| name == file.key.file()));
        let meant = alike.map(|file| format!("; did you mean '{}'?", file.key)).unwrap_or_default();
        Err(Usage(format!("there is no migration '{named}' in {}{meant}", self.dir.display())).into())
    }

    /// The key that a path below the folder stands for, as `new` prints it and a shell completes it. What is no such path
    /// is given back as it is.
    pub(crate) fn key(&self, named: &str) -> String {
        let below = |whole: fn(&Path) -> std::io::Result<PathBuf>| {
            let (path, dir) = (whole(Path::new(named)).ok()?, whole(&self.dir).ok()?);
            let parts: Option<Vec<&str>> = path.strip_prefix(dir).ok()?.iter().map(|part| part.to_str()).collect();
            match parts?.as_slice() {
                [schema, file] => Key::new(schema, file).ok(),
                [file] => Key::flat(file).ok(),
                _ => None,
            }
        };
        // As they are written first: where links lead is another folder's name for the file.
        let key = below(|path| std::path::absolute(path)).or_else(|| below(|path| path.canonicalize()));
        key.map_or_else(|| named.to_owned(), |key| key.to_string())
    }

    fn told(cx: &Context<'_>, found: Result<Found, ReadError>) -> anyhow::Result<Found> {
        let found = found.context(
            "there are no migrations to be had; name the folder with --dir, or make the first file with \
             `pgdb migrate new NAME`",
        )?;
        for sentence in &found.left_out {
            cx.printer.warn(sentence);
        }
        Ok(found)
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(left_out: &[String]) -> String {
    counted(left_out.len(), "file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_the_folder_stands_for_its_key() {
        let root = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(root.path(), root.path().join("other")).expect("a link");
        std::fs::write(root.path().join("3.sql"), "").expect("written");
        let source = SourceArgs { dir: root.path().join("migrations/../.") };
        std::fs::create_dir(root.path().join("migrations")).expect("a folder");
        let key = |named: &str| source.key(named);
        let below = |rest: &str| root.path().join("migrations/..").join(rest).display().to_string();
        assert_eq!(key(&below("shop/001_a.sql")), "shop/001_a.sql");
        assert_eq!(key(&below("shop_001_a.sql")), "shop/001_a.sql");
        assert_eq!(key(&root.path().join("other/3.sql").display().to_string()), "public/3.sql");
        for other in ["shop/001_a.sql", "001_a.sql", "/nowhere/shop/1.sql", &below("a/b/1.sql"), &below("1.txt"), ""] {
            assert_eq!(key(other), other);
        }
        let files = [File::new(Key::parse("shop/001_a.sql").expect("a key"), Vec::new())];
        assert_eq!(source.known_key(&files, &below("shop/001_a.sql")).expect("known"), "shop/001_a.sql");
        let told = source.known_key(&files, "001_a.sql").expect_err("no key").to_string();
        assert!(told.ends_with("; did you mean 'shop/001_a.sql'?"), "{told}");
        let told = source.known_key(&files, "shop/002.sql").expect_err("no file").to_string();
        assert!(told.starts_with("there is no migration 'shop/002.sql' in ") && !told.contains("mean"), "{told}");
    }
}
