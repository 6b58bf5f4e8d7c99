//! The checksums that other tools keep of a file, to see whether it is still what they ran.

use super::names::description;
use sha2::{Digest, Sha384};
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// sqlx: SHA-384 of the file, in hexadecimal.
pub(super) fn sqlx(text: &str) -> String {
    Sha384::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Flyway: CRC-32 of the lines without their ends, as a signed number in decimal.
pub(super) fn flyway(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let crc = text.split(['\n', '\r']).fold(!0, |crc, line| crc32(crc, line.as_bytes()));
    (!crc).cast_signed().to_string()
}

/// refinery: SipHash 1-3 of name, version and text. The version's width depends on how it was built, so both are good.
pub(super) fn refinery(file: &str, text: &str) -> Option<[String; 2]> {
    let number = file.strip_prefix('V')?.split_once("__")?.0.parse::<i64>().ok()?;
    let name = description(file)?;
    let name = &name[..name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())];
    let hashed = |version: &dyn Fn(&mut SipHasher13)| {
        let mut hasher = SipHasher13::new();
        name.hash(&mut hasher);
        version(&mut hasher);
        text.hash(&mut hasher);
        hasher.finish().to_string()
    };
    let narrow = i32::try_from(number).unwrap_or_default();
    Some([hashed(&|hasher| narrow.hash(hasher)), hashed(&|hasher| number.hash(hasher))])
}

/// CRC-32 as in zip and Ethernet, one bit after the other: files of migrations are small.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_tools() {
        assert_eq!(!crc32(!0, b"123456789"), 0xCBF4_3926, "the check value of CRC-32");
        let one = flyway("CREATE TABLE a (id int);\nSELECT 1;\n");
        assert_eq!(one, flyway("\u{feff}CREATE TABLE a (id int);\r\nSELECT 1;"), "ends of lines do not count");
        assert_ne!(one, flyway("CREATE TABLE b (id int);\nSELECT 1;\n"));
        assert!(sqlx("").starts_with("38b060a751ac9638"), "SHA-384 of nothing");
        let [narrow, wide] = refinery("V1__first.sql", "SELECT 1;").expect("a name of refinery's");
        assert_ne!(narrow, wide);
        assert_eq!(refinery("first.sql", ""), None);
    }
}
