//! Small files that only their owner may read, written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a secret file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It could not be read or written.
    #[error("could not use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("{} can be read by others than its owner (mode {mode:03o}); run: chmod 600 '{}'", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no text.
    #[error("{} is not a text file", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret file; `None` when there is none. One that others may read is refused.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, SecretFileError> {
    let io_error = |source| SecretFileError::Io { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let mode = file.metadata().map_err(io_error)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    match file.read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(SecretFileError::NotText { path: path.to_owned() })
        }
        Err(error) => Err(io_error(error)),
    }
}

/// Writes a file that only its owner may read. A crash leaves the old file or the new one, nothing between.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), SecretFileError> {
    let io_error = |source| SecretFileError::Io { path: path.to_owned(), source };
    replace(path, content, 0o600).map_err(io_error)
}

/// Writes a file with a mode by renaming a finished one into place.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default();
    name.push(".new");
    let draft = path.with_file_name(name);
    // A draft of a crashed attempt could have other permissions: it is made anew.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("token");
        assert!(matches!(read_secret(&path), Ok(None)));
        write_secret(&path, b"abc").map_err(io::Error::other)?;
        assert_eq!(read_secret(&path).map_err(io::Error::other)?.map(|text| text.to_string()), Some("abc".to_owned()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640))?;
        let message = read_secret(&path).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("mode 640") && message.contains("chmod 600"), "{message}");
        Ok(())
    }
}
