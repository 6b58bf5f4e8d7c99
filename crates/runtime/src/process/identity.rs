//! Gives a copied data directory an identity of its own.
//!
//! A system identifier tells PostgreSQL, its backup tools and its replicas that two data directories hold the
//! same history. Copies of the prepared directory do not, so each must have another one. It stands in
//! `global/pg_control`, which has a checksum, and in the first page of every write-ahead log segment.

use crate::error::RuntimeError;
use crate::process::files::{NO_FOLLOW, names};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of `pg_control` among which its checksum can be; the struct has about 300.
const CRC_SEARCH: std::ops::RangeInclusive<usize> = 200..=600;
/// `XLP_LONG_HEADER`: the page header that names the system identifier.
const LONG_HEADER: u16 = 0x0002;
/// Bytes of the long page header up to the end of its system identifier.
const HEADER_LEN: usize = 32;

/// Replaces the system identifier in a data directory whose server has been shut down cleanly.
pub(crate) fn set_system_identifier(data: &Path, new: u64) -> Result<(), RuntimeError> {
    let path = data.join("global/pg_control");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NO_FOLLOW)
        .open(&path)
        .map_err(RuntimeError::io("open", &path))?;
    let mut control = Vec::new();
    file.read_to_end(&mut control).map_err(RuntimeError::io("read", &path))?;
    let old = patch_control(&mut control, new).ok_or_else(|| {
        RuntimeError::Unsupported(format!("{} has no checksum where one is expected", path.display()))
    })?;

    let wal = data.join("pg_wal");
    for name in names(&wal)? {
        if name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            patch_segment_file(&wal.join(name), old, new)?;
        }
    }
    file.write_all_at(&control, 0).map_err(RuntimeError::io("write", &path))
}

fn patch_segment_file(path: &Path, old: u64, new: u64) -> Result<(), RuntimeError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NO_FOLLOW)
        .open(path)
        .map_err(RuntimeError::io("open", path))?;
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0).map_err(RuntimeError::io("read", path))?;
    match patch_segment(&mut header, old, new) {
        Segment::Patched => file.write_all_at(&header, 0).map_err(RuntimeError::io("write", path)),
        // Made ahead of its use.
        Segment::Empty => Ok(()),
        Segment::Foreign => Err(RuntimeError::Unsupported(format!(
            "{} does not belong to the data directory that it is in",
            path.display()
        ))),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Patched,
    Empty,
    Foreign,
}

/// Patches the first page header of a segment.
fn patch_segment(header: &mut [u8; HEADER_LEN], old: u64, new: u64) -> Segment {
    if header.iter().all(|byte| *byte == 0) {
        return Segment::Empty;
    }
    let info = u16::from_ne_bytes([header[2], header[3]]);
    if info & LONG_HEADER == 0 || header[24..32] != old.to_ne_bytes() {
        return Segment::Foreign;
    }
    header[24..32].copy_from_slice(&new.to_ne_bytes());
    Segment::Patched
}

/// Patches `pg_control` and returns the old identifier; nothing when its checksum is not found.
fn patch_control(control: &mut [u8], new: u64) -> Option<u64> {
    let end = find_crc(control)?;
    let old = u64::from_ne_bytes(control.get(..8)?.try_into().ok()?);
    control[..8].copy_from_slice(&new.to_ne_bytes());
    // The secret behind the salts that SCRAM shows for roles that do not exist is the last member before the
    // checksum (18 has three bytes of padding after it). Copies that shared it would show the same salt for the
    // same missing role, which tells who exists on a neighbour. Any secret that differs will do.
    for (byte, mask) in control[end - 32..end - 24].iter_mut().zip(new.to_ne_bytes()) {
        *byte ^= mask;
    }
    let crc = crc32c::crc32c(&control[..end]);
    control[end..end + 4].copy_from_slice(&crc.to_ne_bytes());
    Some(old)
}

/// Where the checksum stands: right behind the bytes that it covers. Majors differ in how many these are.
fn find_crc(control: &[u8]) -> Option<usize> {
    CRC_SEARCH
        .step_by(4)
        .find(|&end| control.get(end..end + 4).is_some_and(|crc| crc == crc32c::crc32c(&control[..end]).to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..8192_u32).map(|n| if (n as usize) < len { (n * 7 + 3) as u8 } else { 0 }).collect();
        let crc = crc32c::crc32c(&bytes[..len]);
        bytes[len..len + 4].copy_from_slice(&crc.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_checksum_is_found_and_made_anew() {
        for len in [288, 292, 300] {
            let mut bytes = control(len);
            let before = bytes.clone();
            let old = patch_control(&mut bytes, 0x0123_4567_89ab_cdef).expect("patched");
            assert_eq!(old.to_ne_bytes(), before[..8]);
            assert_eq!(bytes[..8], 0x0123_4567_89ab_cdef_u64.to_ne_bytes());
            assert_eq!(find_crc(&bytes), Some(len));
            assert_eq!(bytes[8..len - 32], before[8..len - 32]);
            assert_ne!(bytes[len - 32..len - 24], before[len - 32..len - 24]);
        }
    }

    #[test]
    fn a_damaged_control_file_is_left_alone() {
        let mut bytes = control(292);
        bytes[100] ^= 1;
        let before = bytes.clone();
        assert_eq!(patch_control(&mut bytes, 5), None);
        assert_eq!(bytes, before);
        assert_eq!(patch_control(&mut [0; 3], 5), None);
    }

    #[test]
    fn only_a_segment_of_the_same_system_is_patched() {
        let mut header = [0; HEADER_LEN];
        assert_eq!(patch_segment(&mut header, 1, 2), Segment::Empty);
        header[2] = 0x02;
        header[24..32].copy_from_slice(&1_u64.to_ne_bytes());
        let ours = header;
        assert_eq!(patch_segment(&mut header, 1, 2), Segment::Patched);
        assert_eq!(header[24..32], 2_u64.to_ne_bytes());
        assert_eq!(patch_segment(&mut ours.clone(), 9, 2), Segment::Foreign);
        let mut short = ours;
        short[2] = 0;
        assert_eq!(patch_segment(&mut short, 1, 2), Segment::Foreign);
    }
}
