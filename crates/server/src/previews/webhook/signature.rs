//! Whether a delivery was signed with our secret.

use pgdb_core::hmac::hmac_sha256;
use subtle::ConstantTimeEq;

/// The header that carries the signature.
pub(super) const HEADER: &str = "x-hub-signature-256";

/// What a header claims: `sha256=` and 64 hexadecimal digits.
pub(super) fn parse(header: &str) -> Option<[u8; 32]> {
    let digits = header.strip_prefix("sha256=")?;
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut claimed = [0u8; 32];
    for (index, byte) in claimed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(claimed)
}

/// Whether it is the signature of this body. Takes as long for a wrong one as for the right one.
pub(super) fn matches(secret: &[u8], body: &[u8], claimed: &[u8; 32]) -> bool {
    hmac_sha256(secret, &[body]).ct_eq(claimed).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"It's a Secret to Everybody";
    const SIGNED: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn githubs_documented_example_is_believed() {
        let claimed = parse(SIGNED).expect("a signature");
        assert!(matches(SECRET, b"Hello, World!", &claimed));
        assert!(!matches(SECRET, b"Hello, World?", &claimed));
        assert!(!matches(b"another secret", b"Hello, World!", &claimed));
        let mut flipped = claimed;
        flipped[31] ^= 1;
        assert!(!matches(SECRET, b"Hello, World!", &flipped));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let upper = format!("sha256={}", SIGNED["sha256=".len()..].to_uppercase());
        assert_eq!(parse(&upper), parse(SIGNED));
        let sha1 = SIGNED.replace("sha256=", "sha1=");
        let longer = format!("{SIGNED}0");
        let signed = SIGNED.replace("75", "+5");
        for bad in [
            "",
            "sha256=",
            &SIGNED[..SIGNED.len() - 1],
            &SIGNED["sha256=".len()..],
            &sha1,
            &longer,
            &signed,
            "sha256=é",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
