//! HMAC-SHA256 (RFC 2104).

use ::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The code of a message, given in parts, under a key of any length.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
pub fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    message.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(key: &[u8], message: &[&[u8]]) -> String {
        hmac_sha256(key, message).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_vectors_of_rfc_4231_hold() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(b"Jefe", &[b"what do ya want for nothing?"]), expected);
        assert_eq!(hex(b"Jefe", &[b"what do ya ", b"want for nothing?"]), expected);
        let long_key = hex(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(long_key, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
