//! The data of stopped servers: making it, putting it aside, taking it back, removing it.

use crate::error::RuntimeError;
use crate::process::account::Account;
use crate::process::copy::copy_tree;
use crate::process::files::{
    data_major, ensure_dir, ensure_owned_dir, exists, names, read_text, remove_file, remove_tree, sync_file_system,
    sync_parent,
};
use crate::process::identity::set_system_identifier;
use crate::process::layout::{Layout, Place, check_name};
use crate::process::procs;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names whose data it is, beside kept data.
const ORIGIN: &str = "origin";

/// Copies prepared data into a server's place, with an identity of its own.
pub(crate) fn create(
    place: &Place,
    prepared: &Path,
    major: u16,
    system_identifier: u64,
    account: &Account,
    reflink: bool,
) -> Result<(), RuntimeError> {
    if is_created(place, major)? {
        return Ok(());
    }
    ensure_dir(&place.root, 0o711)?;
    ensure_owned_dir(&place.log, account)?;
    remove_tree(&place.partial)?;
    fs::write(&place.unsynced, boot_id()).map_err(RuntimeError::io("write", &place.unsynced))?;
    let copied = copy_tree(prepared, &place.partial, account, reflink)
        .and_then(|()| set_system_identifier(&place.partial, system_identifier));
    if let Err(error) = copied {
        // A full disk is not left full.
        remove_tree(&place.partial).ok();
        return Err(error);
    }
    fs::rename(&place.partial, &place.data).map_err(RuntimeError::io("rename", &place.partial))
}

/// Whether the data is there and whole. Data that was copied, never started and not made durable before the
/// machine went down is neither, whatever its directory looks like: it is removed.
pub(crate) fn is_created(place: &Place, major: u16) -> Result<bool, RuntimeError> {
    if !exists(&place.data)? {
        return Ok(false);
    }
    if let Some(boot) = read_text(&place.unsynced)?
        && boot != boot_id()
        && !exists(&place.start_log)?
    {
        tracing::warn!(id = place.id, "the machine went down before a copy was durable; copying again");
        remove_tree(&place.data)?;
        return Ok(false);
    }
    match data_major(&place.data)? {
        Some(found) if found == major => Ok(true),
        Some(found) => {
            let detail = format!("it holds data of PostgreSQL {found}, not {major}");
            Err(RuntimeError::NotOurs { path: place.data.clone(), detail })
        }
        None => Ok(false),
    }
}

/// Makes created data durable.
pub(crate) fn sync(place: &Place) -> Result<(), RuntimeError> {
    if !exists(&place.unsynced)? {
        return Ok(());
    }
    sync_file_system(&place.root)?;
    remove_file(&place.unsynced)?;
    sync_parent(&place.unsynced)
}

/// Removes all that a server has. Renamed first, so that a half-removed directory never looks like data.
pub(crate) fn remove(layout: &Layout, place: &Place) -> Result<(), RuntimeError> {
    refuse_running(place)?;
    remove_tree(&place.socket_dir)?;
    if !exists(&place.root)? {
        return Ok(());
    }
    let trash = layout.free_trash(&place.id)?;
    fs::rename(&place.root, &trash).map_err(RuntimeError::io("move away", &place.root))?;
    sync_parent(&place.root)?;
    remove_tree(&trash)
}

/// Empties the trash: whatever is in it was on its way out when we were killed.
pub(crate) fn empty_trash(layout: &Layout) -> Result<(), RuntimeError> {
    for name in names(&layout.trash)? {
        remove_tree(&layout.trash.join(name))?;
    }
    Ok(())
}

/// Puts data aside under the first free name of `volume`, `volume-2`, … and returns that name. Never replaces
/// what is kept already, and leaves out the `reserved` names.
pub(crate) fn keep(
    layout: &Layout,
    place: &Place,
    volume: &str,
    reserved: &BTreeSet<String>,
) -> Result<String, RuntimeError> {
    check_name(volume)?;
    refuse_running(place)?;
    let have = exists(&place.data)?;
    let Some(name) = choose(layout, place, volume, reserved, have)? else {
        return Err(RuntimeError::NotOurs { path: place.data.clone(), detail: "there is no data to keep".to_owned() });
    };
    let folder = layout.kept.join(&name);
    if have {
        ensure_dir(&folder, 0o711)?;
        let origin = folder.join(ORIGIN);
        fs::write(&origin, &place.id).map_err(RuntimeError::io("write", &origin))?;
        // Kept data is no longer somebody's running deployment; it must be durable by itself.
        sync(place)?;
        let target = folder.join("data");
        fs::rename(&place.data, &target).map_err(RuntimeError::io("move", &place.data))?;
        sync_file_system(&folder)?;
    }
    remove(layout, place)?;
    Ok(name)
}

/// The name to keep data under: the one that an earlier try chose before it was killed, else the first free one.
/// Nothing when there is neither data nor such a try.
fn choose(
    layout: &Layout,
    place: &Place,
    volume: &str,
    reserved: &BTreeSet<String>,
    have: bool,
) -> Result<Option<String>, RuntimeError> {
    for name in names(&layout.kept)? {
        let numbered = name.strip_prefix(volume).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let folder = layout.kept.join(&name);
        let origin = if numbered { read_text(&folder.join(ORIGIN))? } else { None };
        // With data on both sides it was kept, and the server made anew: that is not this try.
        if origin.as_deref() == Some(&place.id) && exists(&folder.join("data"))? != have {
            return Ok(Some(name));
        }
    }
    if !have {
        return Ok(None);
    }
    for n in 1_u32.. {
        let name = if n == 1 { volume.to_owned() } else { format!("{volume}-{n}") };
        if !reserved.contains(&name) && !exists(&layout.kept.join(&name).join("data"))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The major of data that is kept under a name.
pub(crate) fn kept(layout: &Layout, volume: &str) -> Result<Option<u16>, RuntimeError> {
    check_name(volume)?;
    data_major(&layout.kept.join(volume).join("data"))
}

/// Takes kept data into use.
pub(crate) fn restore(
    layout: &Layout,
    place: &Place,
    volume: &str,
    major: u16,
    account: &Account,
) -> Result<(), RuntimeError> {
    check_name(volume)?;
    let folder = layout.kept.join(volume);
    let kept = folder.join("data");
    let Some(found) = data_major(&kept)? else {
        if is_created(place, major)? {
            return remove_tree(&folder);
        }
        let detail = "there is no data kept under this name".to_owned();
        return Err(RuntimeError::NotOurs { path: folder, detail });
    };
    if found != major {
        let detail = format!("the data kept under {volume} is of PostgreSQL {found}; deploy it with --version {found}");
        return Err(RuntimeError::Unsupported(detail));
    }
    if exists(&place.data)? {
        let detail = format!("it already holds data, and would be replaced by what is kept under {volume}");
        return Err(RuntimeError::NotOurs { path: place.data.clone(), detail });
    }
    let owner = fs::symlink_metadata(&kept).map_err(RuntimeError::io("look at", &kept))?.uid();
    if owner != account.uid {
        let detail = format!("it belongs to the user with id {owner}, not to {}", account.name);
        return Err(RuntimeError::NotOurs { path: kept, detail });
    }
    ensure_dir(&place.root, 0o711)?;
    ensure_owned_dir(&place.log, account)?;
    remove_tree(&place.partial)?;
    remove_file(&place.unsynced)?;
    fs::rename(&kept, &place.data).map_err(RuntimeError::io("move", &kept))?;
    sync_parent(&place.data)?;
    remove_tree(&folder)
}

/// Ids of which there is data, a socket folder or a process.
pub(crate) fn inventory(layout: &Layout) -> Result<Vec<String>, RuntimeError> {
    let mut ids = names(&layout.instances)?;
    ids.extend(names(&layout.run)?);
    ids.extend(names(&layout.short_run).unwrap_or_default());
    for dir in procs::working_dirs(&layout.instances) {
        let id = dir.strip_prefix(&layout.instances).ok().and_then(|below| below.components().next());
        ids.extend(id.and_then(|id| id.as_os_str().to_str()).map(str::to_owned));
    }
    ids.retain(|id| check_name(id).is_ok());
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// Bytes on the disk below a folder. Files that vanish meanwhile do not count.
pub(crate) fn disk_usage(dir: &Path) -> Result<u64, RuntimeError> {
    let mut bytes = 0;
    let mut open: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(RuntimeError::io("list", &dir)(error)),
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes += meta.blocks() * 512;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

fn refuse_running(place: &Place) -> Result<(), RuntimeError> {
    match procs::postmaster(&place.data) {
        Some(server) => Err(RuntimeError::Unsupported(format!(
            "process {} still serves {}; stop it first",
            server.pid,
            place.data.display()
        ))),
        None => Ok(()),
    }
}

/// Differs after each start of the machine. Empty where the kernel does not tell, which never differs.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
