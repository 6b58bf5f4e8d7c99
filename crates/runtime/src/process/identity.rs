//! A system identifier for every copy (adr 0003).
//!
//! Copies of one prepared directory would share its identifier, and then a standby or a WAL archive of one could be
//! taken for another's. So each copy gets its own, in the two places that hold it: `global/pg_control`, guarded by a
//! CRC-32C, and the long header of the first page of each WAL segment. The server compares the two at start.
//! `pg_createsubscriber` changes them in the same way.

use crate::RuntimeError;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `pg_control` holds its CRC within these bytes in every major from 13 to 18.
const CRC_FROM: usize = 200;
const CRC_TO: usize = 600;
/// `XLP_LONG_HEADER` in `xlp_info`.
const LONG_HEADER: u16 = 0x0002;
/// `xlp_sysid` in the long page header.
const WAL_IDENTIFIER: usize = 24;

/// Gives the data directory of a cleanly stopped server a new identifier. Done twice, it does nothing.
pub(super) fn set(data: &Path, identifier: u64) -> Result<(), RuntimeError> {
    let control_path = data.join("global/pg_control");
    let mut control = fs::read(&control_path).map_err(RuntimeError::io("read", &control_path))?;
    let old = word(&control, 0).ok_or_else(|| unknown(&control_path))?;
    // The WAL first: what is half done still shows the old identifier in pg_control, and is done again.
    set_in_wal(&data.join("pg_wal"), old, identifier)?;
    if old == identifier {
        return Ok(());
    }
    let crc_at = find_crc(&control).ok_or_else(|| unknown(&control_path))?;
    control[..8].copy_from_slice(&identifier.to_ne_bytes());
    let crc = crc32c::crc32c(&control[..crc_at]).to_ne_bytes();
    control[crc_at..crc_at + 4].copy_from_slice(&crc);
    let file = OpenOptions::new().write(true).open(&control_path).map_err(RuntimeError::io("open", &control_path))?;
    file.write_all_at(&control[..crc_at + 4], 0).map_err(RuntimeError::io("write", &control_path))
}

/// Where the CRC stands: the one place whose four bytes are the CRC of all bytes before them.
fn find_crc(control: &[u8]) -> Option<usize> {
    (CRC_FROM..=CRC_TO.min(control.len().saturating_sub(4)))
        .step_by(4)
        .find(|at| control[*at..*at + 4] == crc32c::crc32c(&control[..*at]).to_ne_bytes())
}

fn set_in_wal(wal: &Path, old: u64, identifier: u64) -> Result<(), RuntimeError> {
    for entry in fs::read_dir(wal).map_err(RuntimeError::io("read the folder", wal))?.flatten() {
        let name = entry.file_name();
        let segment = name.len() == 24 && name.to_string_lossy().bytes().all(|byte| byte.is_ascii_hexdigit());
        if !segment {
            continue;
        }
        let path = entry.path();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(RuntimeError::io("open", &path))?;
        let mut header = [0u8; WAL_IDENTIFIER + 8];
        file.read_exact_at(&mut header, 0).map_err(RuntimeError::io("read", &path))?;
        let long = u16::from_ne_bytes([header[2], header[3]]) & LONG_HEADER != 0;
        // A segment that was made ahead is empty, or holds another one's old pages; the server writes it anew.
        if long && word(&header, WAL_IDENTIFIER) == Some(old) {
            file.write_all_at(&identifier.to_ne_bytes(), WAL_IDENTIFIER as u64)
                .map_err(RuntimeError::io("write", &path))?;
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_ne_bytes(bytes))
}

fn unknown(path: &Path) -> RuntimeError {
    let detail = "its form is not one that pgdb knows".to_owned();
    RuntimeError::NotOurs { path: path.to_owned(), detail }
}
