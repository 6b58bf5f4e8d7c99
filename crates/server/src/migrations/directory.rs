//! A folder tree `schema/NNN_name.sql`; files beside the folders carry their schema in their names.

use pgdb_core::migration::file::File;
use pgdb_core::migration::key::{InvalidKey, Key, is_candidate};
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
/// `.sql` are passed over without a word. What is called like a migration and lies deeper, or is no file, and a file or a
/// folder that cannot be read, is left out with a word, and the others are there: an error means that nothing is known of
/// any.
pub fn read(root: &Path) -> Result<Found, ReadError> {
    read_with(root, &mut |path| fs::read(path))
}

/// The same, with one's own way to read a file.
pub(super) fn read_with(root: &Path, reader: &mut Reader<'_>) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let listed = entries(root, &mut found).map_err(|source| ReadError { path: root.to_owned(), source })?;
    for (name, path, is_folder) in listed {
        if !is_folder {
            found.take(&name, Key::flat(&name), &path, reader);
            continue;
        }
        match entries(&path, &mut found) {
            Ok(inside) => {
                for (file, path, is_folder) in inside {
                    if is_folder {
                        found.leave_out_deeper(&path, DEEPEST);
                    } else {
                        found.take(&file, Key::new(&name, &file), &path, reader);
                    }
                }
            }
            Err(error) => found.unreadable(&path, &error),
        }
    }
    // `gcp_1.sql` beside `gcp/1.sql`: one key, and two files that want it.
    Ok(found.in_order(|key| format!("there are two files for '{key}', one in a folder and one beside it")))
}

/// How many levels below a schema's folder are looked through for what is left out.
const DEEPEST: usize = 8;

/// Gives a file's bytes.
pub(super) type Reader<'a> = dyn FnMut(&Path) -> io::Result<Vec<u8>> + 'a;

impl Found {
    fn take(&mut self, name: &str, key: Result<Key, InvalidKey>, path: &Path, reader: &mut Reader<'_>) {
        if !is_candidate(name) {
            return;
        }
        match key.map(|key| (key, reader(path))) {
            Ok((key, Ok(bytes))) => self.files.push(File::new(key, bytes)),
            Ok((_, Err(error))) => self.unreadable(path, &error),
            Err(error) => self.left_out.push(error.to_string()),
        }
    }

    /// Leaves out what is called like a migration in a folder in which there are none. Links are not followed.
    fn leave_out_deeper(&mut self, folder: &Path, levels: usize) {
        let Ok(listed) = fs::read_dir(folder) else { return };
        for entry in listed.flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && levels > 0 && !name.starts_with('.') => {
                    self.leave_out_deeper(&path, levels - 1);
                }
                Ok(kind) if !kind.is_dir() && is_candidate(&name) => self.left_out.push(format!(
                    "{} is not used as a migration: it lies deeper than SCHEMA/NAME.sql",
                    path.display()
                )),
                _ => {}
            }
        }
    }

    /// Leaves out what cannot be read, unless it is not there any more: it was removed since it was listed.
    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let gone = error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err();
        if !gone {
            self.left_out.push(format!("could not read {}: {error}", path.display()));
        }
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

/// Names, paths and whether they are folders; links are followed, and what is neither file nor folder is left out.
fn entries(folder: &Path, found: &mut Found) -> io::Result<Vec<(String, PathBuf, bool)>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        match kind(&entry) {
            Ok(kind) if kind.is_dir() || kind.is_file() => listed.push((name, path, kind.is_dir())),
            Ok(_) if is_candidate(&name) => {
                found.left_out.push(format!("{} is not used as a migration: it is no file", path.display()));
            }
            Ok(_) => {}
            // A link to nowhere matters when it is called like a migration, or as folders are.
            Err(error) if is_candidate(&name) || !name.contains('.') => found.unreadable(&path, &error),
            Err(_) => {}
        }
    }
    Ok(listed)
}

fn kind(entry: &fs::DirEntry) -> io::Result<fs::FileType> {
    let kind = entry.file_type()?;
    if kind.is_symlink() { Ok(fs::metadata(entry.path())?.file_type()) } else { Ok(kind) }
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
        assert!(
            found.left_out.iter().any(|word| word.contains("two files for 'gcp/001_a.sql'")),
            "{:?}",
            found.left_out
        );
        let deeper = |word: &String| word.contains("gcp/deep/1.sql is not used") && word.contains("deeper");
        assert!(found.left_out.iter().any(deeper) && found.left_out.len() == 2, "{:?}", found.left_out);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/at/all")).expect_err("not there");
        assert_eq!(error.to_string(), "could not read /nowhere/at/all");
    }

    #[test]
    fn what_cannot_be_read_is_told_and_hides_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("gcp")).expect("a folder");
        fs::write(at("gcp/001_a.sql"), "").expect("written");
        symlink("nowhere", at("gcp/002_dangling.sql")).expect("a link");
        symlink("nowhere", at("gcp/notes.md")).expect("a link");
        symlink("loop_1.sql", at("loop_1.sql")).expect("a link");
        fs::write(at("gcp_003_c.sql"), "").expect("written");
        let found = read_with(root.path(), &mut |path| {
            // Who runs this test may be allowed to read everything.
            if path.ends_with("gcp_003_c.sql") { Err(io::ErrorKind::PermissionDenied.into()) } else { fs::read(path) }
        })
        .expect("read");
        assert_eq!(found.files.iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), ["gcp/001_a.sql"]);
        let told =
            |name: &str| found.left_out.iter().any(|word| word.contains(name) && word.contains("could not read"));
        assert!(told("gcp/002_dangling.sql") && told("loop_1.sql") && told("gcp_003_c.sql"), "{:?}", found.left_out);
        assert_eq!(found.left_out.len(), 3);
    }
}
