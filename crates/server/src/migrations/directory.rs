//! A folder tree `schema/NNN_name.sql`; files beside the folders carry their schema in their names.

use pgdb_core::migration::file::File;
use pgdb_core::migration::key::{Key, is_candidate};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a source held.
#[derive(Debug, Default)]
pub struct Found {
    /// The migrations, in the order of their keys; each key once.
    pub files: Vec<File>,
    /// Names that are not used, each with the reason; sentences.
    pub left_out: Vec<String>,
}

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read {}", path.display())]
pub struct ReadError {
    /// What could not be read.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Reads a tree of two levels.
///
/// Names that begin with a dot (`..data` of a mounted ConfigMap, an editor's files) and files that do not end with
/// `.sql` are passed over without a word; so is what lies deeper.
pub fn read(root: &Path) -> Result<Found, ReadError> {
    let mut found = Found::default();
    for (name, path, is_folder) in entries(root)? {
        if !is_folder {
            found.take(&name, Key::flat(&name), &path)?;
            continue;
        }
        for (file, path, is_folder) in entries(&path)? {
            if !is_folder {
                found.take(&file, Key::new(&name, &file), &path)?;
            }
        }
    }
    // `gcp_1.sql` beside `gcp/1.sql`: one key, and two files that want it.
    Ok(found.in_order(|key| format!("there are two files for '{key}', one in a folder and one beside it")))
}

impl Found {
    fn take(
        &mut self,
        name: &str,
        key: Result<Key, pgdb_core::migration::key::InvalidKey>,
        path: &Path,
    ) -> Result<(), ReadError> {
        if !is_candidate(name) {
            return Ok(());
        }
        match key {
            Ok(key) => self.files.push(File::new(key, fs::read(path).map_err(explain(path))?)),
            Err(error) => self.left_out.push(error.to_string()),
        }
        Ok(())
    }

    /// Puts the files into the order of their keys. Of several with one key the first stays; `double` is what is told
    /// of the others.
    pub(super) fn in_order(mut self, double: impl Fn(&Key) -> String) -> Self {
        self.files.sort_by(|one, other| one.key.cmp(&other.key));
        let left_out = &mut self.left_out;
        self.files.dedup_by(|later, earlier| {
            let is_double = later.key == earlier.key;
            if is_double {
                left_out.push(double(&later.key));
            }
            is_double
        });
        self
    }
}

/// Names, paths and whether they are folders; links are followed, and what is neither file nor folder is passed over.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, ReadError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(explain(folder))? {
        let entry = entry.map_err(explain(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let mut kind = entry.file_type().map_err(explain(&path))?;
        if kind.is_symlink() {
            kind = fs::metadata(&path).map_err(explain(&path))?.file_type();
        }
        if kind.is_dir() || kind.is_file() {
            found.push((name, path, kind.is_dir()));
        }
    }
    Ok(found)
}

fn explain(path: &Path) -> impl Fn(io::Error) -> ReadError {
    move |source| ReadError { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn folders_are_schemas_and_flat_names_carry_theirs() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        for folder in ["gcp", "aws", ".git", "gcp/deep"] {
            fs::create_dir(at(folder)).expect(folder);
        }
        for name in ["gcp/002_b.sql", "gcp/001_a.sql", "aws/001_a.sql", "aws/notes.md", "gcp/deep/1.sql", ".git/1.sql"]
        {
            fs::write(at(name), name).expect(name);
        }
        fs::write(at("azure_001_a.sql"), "").expect("a flat file");
        fs::write(at("gcp_001_a.sql"), "another").expect("a double");
        fs::write(at("gcp/003_c.down.sql"), "").expect("a way back");
        symlink(at("aws/notes.md"), at("gcp/004_link.sql")).expect("a link");
        let found = read(root.path()).expect("read");
        let keys: Vec<&str> = found.files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!(keys, ["aws/001_a.sql", "azure/001_a.sql", "gcp/001_a.sql", "gcp/002_b.sql", "gcp/004_link.sql"]);
        assert!(found.left_out[0].contains("two files for 'gcp/001_a.sql'"), "{:?}", found.left_out);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/at/all")).expect_err("not there");
        assert_eq!(error.to_string(), "could not read /nowhere/at/all");
    }
}
