//! How hard a token is to guess.

/// What a token needs so that it may face a network.
pub const STRONG_BITS: u32 = 128;

/// A careful estimate of a secret's strength in bits: its length times the bits of a character, where the
/// alphabet is guessed from the characters that occur. It cannot know that words were used.
pub fn estimated_bits(secret: &str) -> u32 {
    let characters: Vec<char> = secret.chars().collect();
    let mut distinct = characters.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let any = |class: fn(&char) -> bool| distinct.iter().any(class);
    let others = distinct.iter().filter(|c| !c.is_ascii_alphanumeric()).count();
    let hex = distinct.iter().all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f' | '-'))
        || distinct.iter().all(|c| c.is_ascii_digit() || matches!(c, 'A'..='F' | '-'));
    let (length, mut alphabet) = if hex {
        // The dashes of a UUID stand in fixed places.
        (characters.iter().filter(|c| **c != '-').count(), 16)
    } else {
        let classes = [
            if any(char::is_ascii_lowercase) { 26 } else { 0 },
            if any(char::is_ascii_uppercase) { 26 } else { 0 },
            if any(char::is_ascii_digit) { 10 } else { 0 },
        ];
        (characters.len(), classes.iter().sum::<usize>() + others)
    };
    // Far fewer different characters than random text has: it was not drawn from the whole alphabet.
    if distinct.len() * 2 < alphabet.min(length) {
        alphabet = distinct.len();
    }
    if alphabet < 2 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
    let bits = (length as f64 * (alphabet as f64).log2()).floor() as u32;
    bits
}

/// Whether a token is strong enough to face a network.
pub fn is_strong(secret: &str) -> bool {
    estimated_bits(secret) >= STRONG_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_weak_and_what_openssl_makes_is_strong() {
        for weak in [
            "",
            "dev-token",
            "password123",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdef",
        ] {
            assert!(!is_strong(weak), "{weak} {}", estimated_bits(weak));
        }
        for strong in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "hT6vVn2cJx0q_Lw8-RrYb5MdKz1sUeGpAoBfCiEk7yQ",
            "4a0c0c6e-8b1f-4d5a-9e3b-2f7d6c1e9a05",
        ] {
            assert!(is_strong(strong), "{strong} {}", estimated_bits(strong));
        }
    }
}
