//! SCRAM-SHA-256 verifiers made on our side, so that a password never reaches a server in the clear.

use postgres_protocol::password;
use secrecy::{ExposeSecret, SecretString};

const PREFIX: &str = "SCRAM-SHA-256$";

/// What `ALTER ROLE … PASSWORD` is given in place of the password: `SCRAM-SHA-256$4096:SALT$STORED:SERVER`.
///
/// Each call draws a new salt; keep the result when a later look should find the same. It lets nobody log in,
/// but passwords can be tried against it, so it is not for logs either.
pub fn verifier(password: &SecretString) -> String {
    password::scram_sha_256(password.expose_secret().as_bytes())
}

/// The salt of a verifier, in base64.
pub fn salt(verifier: &str) -> Option<&str> {
    verifier.strip_prefix(PREFIX)?.split('$').next()?.split_once(':').map(|(_, salt)| salt)
}

/// Whether PostgreSQL would store `text` as it is. Anything else it would take for a password.
pub(crate) fn is_verifier(text: &str) -> bool {
    let Some((head, keys)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('$')) else { return false };
    let Some((iterations, salt)) = head.split_once(':') else { return false };
    let Some((stored, server)) = keys.split_once(':') else { return false };
    iterations.parse::<u32>().is_ok_and(|count| count > 0)
        && decoded(salt).is_some_and(|bytes| !bytes.is_empty())
        && [stored, server].into_iter().all(|key| decoded(key).is_some_and(|bytes| bytes.len() == 32))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_that_postgresql_stores() {
        let made = verifier(&"correct horse".into());
        assert!(made.starts_with("SCRAM-SHA-256$4096:"), "{made}");
        assert!(is_verifier(&made), "{made}");
        assert!(!made.contains("horse"));
        assert_ne!(made, verifier(&"correct horse".into()), "a salt of its own");
    }

    #[test]
    fn tells_a_password_from_a_verifier() {
        for clear in ["", "secret", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:c2FsdA==$short:short", "md5abc"] {
            assert!(!is_verifier(clear), "{clear}");
        }
    }
}
