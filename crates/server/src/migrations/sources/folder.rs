//! A folder whose whole content may be replaced while it is read, as that of a mounted ConfigMap.

use crate::migrations::directory::{self, Found, ReadError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a mounted volume calls the folder that holds its present content. It is a link, and an update is a new folder
/// that takes the link's place.
const PRESENT: &str = "..data";
/// How often to begin again when the content is replaced while it is read.
const TRIES: usize = 20;

/// Reads what is in a folder now, whole: never some files from before an update and some from after it. Nothing when
/// there is no such folder. Blocks.
pub(super) fn read(root: &Path) -> Result<Option<Found>, ReadError> {
    let named = |source| ReadError { path: root.to_owned(), source };
    let mut replaced = named(io::Error::other("its content is replaced faster than it can be read"));
    for _ in 0..TRIES {
        if !root.is_dir() {
            return Ok(None);
        }
        let outcome = content_folder(root).map_err(named).and_then(|folder| Ok((directory::read(&folder)?, folder)));
        match outcome {
            Ok((found, folder)) if content_folder(root).is_ok_and(|now| now == folder) => return Ok(Some(found)),
            Ok(_) => {}
            // Removed between being listed and being read.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => replaced = error,
            Err(error) => return Err(error),
        }
    }
    Err(replaced)
}

/// The folder with the files themselves.
fn content_folder(root: &Path) -> io::Result<PathBuf> {
    let present = root.join(PRESENT);
    if present.is_symlink() { fs::canonicalize(present) } else { Ok(root.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Keys with what the files hold.
    fn content(root: &Path) -> Vec<(String, String)> {
        let found = read(root).expect("readable").expect("there");
        assert_eq!(found.left_out, Vec::<String>::new());
        let text = |file: &pgdb_core::migration::file::File| file.content.as_ref().expect("text").sql.clone();
        found.files.iter().map(|file| (file.key.to_string(), text(file))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn a_mount_is_read_through_its_present_folder() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "..2026_1/gcp_001_a.sql", "old");
        write(root.path(), "..2026_2/gcp_001_a.sql", "new");
        write(root.path(), "..2026_2/aws/001_a.sql", "with a path");
        symlink("..2026_2", root.path().join("..data")).expect("a link");
        // As the volume has them; `stale` was left behind and is not in the present folder.
        for name in ["gcp_001_a.sql", "stale_1.sql", "aws"] {
            symlink(format!("..data/{name}"), root.path().join(name)).expect("a link");
        }
        assert_eq!(content(root.path()), pairs(&[("aws/001_a.sql", "with a path"), ("gcp/001_a.sql", "new")]));
    }

    #[test]
    fn a_plain_folder_is_read_as_it_is_and_none_is_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "gcp_001_a.sql", "flat");
        write(root.path(), "aws/001_a.sql", "tree");
        assert_eq!(content(root.path()), pairs(&[("aws/001_a.sql", "tree"), ("gcp/001_a.sql", "flat")]));
        assert!(read(&root.path().join("absent")).expect("no error").is_none());
    }

    #[test]
    fn what_never_ends_is_not_read() {
        let root = tempfile::tempdir().expect("a folder");
        symlink("/dev/zero", root.path().join("gcp_001_endless.sql")).expect("a link");
        nix::unistd::mkfifo(&root.path().join("gcp_002_pipe.sql"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert_eq!(content(root.path()), []);
    }

    #[test]
    fn content_that_is_swapped_all_the_time_is_never_mixed() {
        let root = tempfile::tempdir().expect("a folder");
        let generation = |number: u32| {
            let folder = format!("..g{number}");
            for key in ["a_1.sql", "b_1.sql", "c_1.sql"] {
                write(root.path(), &format!("{folder}/{key}"), &number.to_string());
            }
            symlink(&folder, root.path().join("..data_tmp")).expect("a link");
            fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).expect("swapped");
        };
        generation(0);
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                for number in 1..200 {
                    generation(number);
                    fs::remove_dir_all(root.path().join(format!("..g{}", number - 1))).expect("removed");
                }
            });
            while !swapping.is_finished() {
                // Too fast to be read at all is an honest answer.
                let Ok(Some(found)) = read(root.path()) else { continue };
                assert_eq!(found.files.len(), 3);
                assert!(found.files.iter().all(|file| file.checksum == found.files[0].checksum), "{found:?}");
            }
        });
        assert!(content(root.path()).iter().all(|(_, text)| text == "199"));
    }
}
