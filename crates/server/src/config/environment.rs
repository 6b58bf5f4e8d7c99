//! Secrets that come in through the environment, read in one place.

use secrecy::SecretString;

/// The secrets of the environment. They stay out of [`super::Options`], which may be printed.
#[derive(Debug, Clone, Default)]
pub struct EnvSecrets {
    /// `PGDB_TOKEN`: may do everything.
    pub pgdb_token: Option<SecretString>,
    /// `API_AUTH_TOKEN`: may do what the preview surface offers.
    pub api_auth_token: Option<SecretString>,
    /// `INTERNAL_API_KEY`: may do what the REST surface offers.
    pub internal_api_key: Option<SecretString>,
    /// `PGDB_MASTER_KEY`: seals secrets; several keys separated by commas, the one for new secrets first.
    pub master_key: Option<SecretString>,
}

impl EnvSecrets {
    /// Reads the environment. An empty variable counts as absent.
    pub fn from_env() -> Self {
        let read = |name| {
            let text = std::env::var(name).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| SecretString::from(text.to_owned()))
        };
        Self {
            pgdb_token: read("PGDB_TOKEN"),
            api_auth_token: read("API_AUTH_TOKEN"),
            internal_api_key: read("INTERNAL_API_KEY"),
            master_key: read("PGDB_MASTER_KEY"),
        }
    }

    /// The tokens that were given, with the names of their variables.
    pub fn tokens(&self) -> impl Iterator<Item = (&'static str, &SecretString)> {
        [
            ("PGDB_TOKEN", self.pgdb_token.as_ref()),
            ("API_AUTH_TOKEN", self.api_auth_token.as_ref()),
            ("INTERNAL_API_KEY", self.internal_api_key.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, token)| Some((name, token?)))
    }
}
