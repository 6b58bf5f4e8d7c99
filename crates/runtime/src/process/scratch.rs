//! Folders for what client programs read and write on the way, such as dumps. They hold people's data: nobody but the
//! servers' user and root may enter them.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::files::{ensure_owned_dir, exists, remove_tree};
use crate::process::layout::{Layout, check_name};
use std::fs;
use std::path::{Path, PathBuf};

/// Makes the folder.
pub(crate) fn make(layout: &Layout, account: &Account, name: &str) -> Result<PathBuf, RuntimeError> {
    check_name(name)?;
    let folder = layout.scratch.join(name);
    ensure_owned_dir(&folder, account)?;
    Ok(folder)
}

/// Moves a file into the folder, where it may be already.
pub(crate) fn lend(layout: &Layout, account: &Account, file: &Path, name: &str) -> Result<PathBuf, RuntimeError> {
    let folder = make(layout, account, name)?;
    let not_a_file = || RuntimeError::Unsupported(format!("{} is not a file", file.display()));
    let lent = folder.join(file.file_name().ok_or_else(not_a_file)?);
    if exists(file)? {
        fs::rename(file, &lent).map_err(RuntimeError::io("move", file))?;
    }
    account.own(&lent)?;
    Ok(lent)
}

/// Removes the folder with all that is in it.
pub(crate) fn remove(layout: &Layout, name: &str) -> Result<(), RuntimeError> {
    check_name(name)?;
    remove_tree(&layout.scratch.join(name))
}
