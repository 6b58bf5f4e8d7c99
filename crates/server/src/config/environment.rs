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
    /// `PGPASSWORD`: of the operator on the server that previews are made on.
    pub preview_password: Option<SecretString>,
    /// `DB_PREVIEW_APP_PASSWORD_SECRET`: what the passwords of previews are derived from.
    pub preview_app_secret: Option<SecretString>,
    /// `PGDB_GITHUB_WEBHOOK_SECRET`: what GitHub signs its deliveries with.
    pub github_webhook_secret: Option<SecretString>,
}

impl EnvSecrets {
    /// Reads the environment. An empty variable counts as absent.
    pub fn from_env() -> Self {
        let read = |name| {
            let text = std::env::var(name).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| SecretString::from(text.to_owned()))
        };
        // Passwords, which may begin or end with a space.
        let exact = |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(SecretString::from);
        Self {
            pgdb_token: read("PGDB_TOKEN"),
            api_auth_token: read("API_AUTH_TOKEN"),
            internal_api_key: read("INTERNAL_API_KEY"),
            master_key: read("PGDB_MASTER_KEY"),
            preview_password: exact("PGPASSWORD"),
            preview_app_secret: exact("DB_PREVIEW_APP_PASSWORD_SECRET"),
            github_webhook_secret: read("PGDB_GITHUB_WEBHOOK_SECRET"),
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
