//! The tokens that are there before any other.

use crate::config::EnvSecrets;
use crate::config::strength;
use crate::files::{self, SecretFileError};
use pgdb_core::random::{self, Entropy};
use pgdb_core::scope::{Scope, Scopes};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A token that was given from outside.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Where it came from; the actor in the audit log.
    pub(super) name: &'static str,
    pub(super) hash: [u8; 32],
    pub(super) scopes: Scopes,
    /// Whether it is beyond guessing.
    pub(super) strong: bool,
}

impl Bootstrap {
    /// A token under the name of where it came from.
    pub fn new(name: &'static str, token: &SecretString, scope: Scope) -> Self {
        Self {
            name,
            hash: Sha256::digest(token.expose_secret().as_bytes()).into(),
            scopes: Scopes::new([scope]),
            strong: strength::is_strong(token.expose_secret()),
        }
    }

    /// The tokens of the environment; with none of them that may do everything, also the one in `data_dir/token`, made when
    /// it is not there: who is on this machine could else not use its command line.
    pub fn collect(secrets: &EnvSecrets, data_dir: &Path, entropy: &dyn Entropy) -> Result<Vec<Self>, SecretFileError> {
        let mut given: Vec<Self> = secrets
            .tokens()
            .map(|(name, token)| {
                let scope = match name {
                    "API_AUTH_TOKEN" => Scope::Previews,
                    "INTERNAL_API_KEY" => Scope::Rest,
                    _ => Scope::Admin,
                };
                Self::new(name, token, scope)
            })
            .collect();
        if given.iter().any(|token| token.scopes.allow(Scope::Admin)) {
            return Ok(given);
        }
        let path = data_dir.join("token");
        let kept = files::read_secret(&path)?
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .map(SecretString::from);
        let token = match kept {
            Some(token) => token,
            None => {
                let token = random::secret(entropy);
                files::write_secret(&path, token.expose_secret().as_bytes())?;
                token
            }
        };
        given.push(Self::new("token-file", &token, Scope::Admin));
        Ok(given)
    }
}
