//! A folder whose whole content may be replaced while it is read, as that of a mounted ConfigMap.

use super::writes::{Stamp, Writes};
use crate::migrations::directory::{self, Found, ReadError};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a mounted volume calls the folder that holds its present content. It is a link, and an update is a new folder
/// that takes the link's place.
const PRESENT: &str = "..data";
/// How often to begin again when the content is replaced while it is read.
const TRIES: usize = 20;

/// What reading a folder has come to.
#[derive(Debug)]
pub(super) enum Reading {
    /// All that is in it.
    Whole(Found),
    /// There is no such folder.
    Absent,
    /// Why it cannot be read at this moment.
    Busy(String),
}

/// Reads what is in a folder now, whole: never some files from before an update and some from after it, and no file that
/// is being written. Blocks.
pub(super) fn read(root: &Path, writes: &Writes) -> Result<Reading, ReadError> {
    let named = |source| ReadError { path: root.to_owned(), source };
    for _ in 0..TRIES {
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(named(io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reading::Absent),
            Err(error) => return Err(named(error)),
        }
        let outcome =
            content_folder(root).map_err(named).and_then(|folder| Ok((read_once(root, &folder, writes)?, folder)));
        match outcome {
            Ok((reading, folder)) if content_folder(root).is_ok_and(|now| now == folder) => return Ok(reading),
            Ok(_) => {}
            // Removed between being found and being read.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reading::Busy(format!("the content of {} is replaced faster than it can be read", root.display())))
}

fn read_once(root: &Path, folder: &Path, writes: &Writes) -> Result<Reading, ReadError> {
    if folder != root {
        // A volume's folder is whole before it gets its place.
        return directory::read(folder).map(Reading::Whole);
    }
    let mut written: Option<PathBuf> = None;
    let found = directory::read_with(root, &mut |path| {
        if written.is_some() {
            // Nothing of it will be used.
            return Ok(Vec::new());
        }
        let mut file = File::open(path)?;
        let (before, mut bytes) = (Stamp::of(&file.metadata()?), Vec::new());
        file.read_to_end(&mut bytes)?;
        if Stamp::of(&file.metadata()?) != before || !writes.are_over(path, &before) {
            written = Some(path.to_owned());
        }
        Ok(bytes)
    })?;
    Ok(match written {
        Some(path) => Reading::Busy(format!("{} is being written", path.display())),
        None => Reading::Whole(found),
    })
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
    use std::time::{Duration, UNIX_EPOCH};

    /// Keys with what the files hold.
    fn content(root: &Path) -> Vec<(String, String)> {
        let Reading::Whole(found) = read(root, &Writes::default()).expect("readable") else { panic!("not whole") };
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
        fs::write(&path, text).expect("written");
        // Long ago, so that nobody is taken to write it still.
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("dated");
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
        let absent = read(&root.path().join("absent"), &Writes::default()).expect("no error");
        assert!(matches!(absent, Reading::Absent), "{absent:?}");
    }

    #[test]
    fn what_is_there_and_cannot_be_listed_is_not_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("file");
        fs::write(&file, "").expect("written");
        read(&file, &Writes::default()).expect_err("no folder");
        let around = root.path().join("around");
        symlink("around", &around).expect("a link");
        read(&around, &Writes::default()).expect_err("a link to itself");
    }

    #[test]
    fn a_file_that_was_written_just_now_is_waited_for() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "aws/001_a.sql", "done");
        fs::write(root.path().join("gcp_001_a.sql"), "CREATE TABLE half ();").expect("written");
        let busy = read(root.path(), &Writes::default()).expect("no error");
        assert!(matches!(&busy, Reading::Busy(why) if why.ends_with("gcp_001_a.sql is being written")), "{busy:?}");
        write(root.path(), "gcp_001_a.sql", "done");
        assert_eq!(content(root.path()), pairs(&[("aws/001_a.sql", "done"), ("gcp/001_a.sql", "done")]));
    }

    #[test]
    fn what_never_ends_is_not_read() {
        let root = tempfile::tempdir().expect("a folder");
        symlink("/dev/zero", root.path().join("gcp_001_endless.sql")).expect("a link");
        nix::unistd::mkfifo(&root.path().join("gcp_002_pipe.sql"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let Reading::Whole(found) = read(root.path(), &Writes::default()).expect("readable") else {
            panic!("not whole")
        };
        assert!(found.files.is_empty(), "{:?}", found.files);
        assert!(found.left_out.len() == 2 && found.left_out[0].contains("it is no file"), "{:?}", found.left_out);
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
                let Ok(Reading::Whole(found)) = read(root.path(), &Writes::default()) else { continue };
                assert_eq!(found.files.len(), 3);
                assert!(found.files.iter().all(|file| file.checksum == found.files[0].checksum), "{found:?}");
            }
        });
        assert!(content(root.path()).iter().all(|(_, text)| text == "199"));
    }
}
