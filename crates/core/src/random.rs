//! Where randomness comes from, and the shapes drawn from it.

use secrecy::SecretString;

/// A source of cryptographically secure random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

const LOWER_ALNUM: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `len` characters of `a-z0-9`, each equally likely.
pub fn lower_alnum(entropy: &dyn Entropy, len: usize) -> String {
    pick(entropy, LOWER_ALNUM, len)
}

/// A URL-safe secret of 43 characters (258 bits), used for passwords and tokens.
pub fn secret(entropy: &dyn Entropy) -> SecretString {
    pick(entropy, URL_SAFE, 43).into()
}

fn pick(entropy: &dyn Entropy, alphabet: &[u8], len: usize) -> String {
    // Rejection sampling: a plain remainder would favour the first characters.
    let bound = 256 - 256 % alphabet.len();
    let mut out = String::with_capacity(len);
    let mut buffer = [0u8; 64];
    while out.len() < len {
        entropy.fill(&mut buffer);
        for byte in buffer {
            if out.len() < len && usize::from(byte) < bound {
                out.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    struct Counter(AtomicU8);
    impl Entropy for Counter {
        fn fill(&self, buffer: &mut [u8]) {
            for byte in buffer {
                *byte = self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn every_character_is_equally_likely() {
        let drawn = lower_alnum(&Counter(AtomicU8::new(0)), 252 * 4);
        for expected in LOWER_ALNUM {
            let count = drawn.bytes().filter(|byte| byte == expected).count();
            assert_eq!(count, 28, "{}", char::from(*expected));
        }
    }
}
