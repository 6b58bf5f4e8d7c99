//! What steps, reconcilers and the service act through: rows, servers, and the passwords of previews.

use super::record::PasswordMark;
use super::rests::Rests;
use super::server::Server;
use super::templates;
use crate::config::{EnvSecrets, PreviewConfig};
use crate::instances::World;
use crate::problem::Problem;
use crate::secrets::{PREVIEW_SECRET, Sealer};
use crate::store::Store;
use pgdb_core::random::{self, Entropy};
use pgdb_core::time::Clock;
use pgdb_pg::scram;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Deliveries that are read at the same time.
const DELIVERIES: usize = 4;

/// Everything that acts on previews shares this.
pub struct PreviewWorld {
    /// Our state.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Configuration.
    pub config: PreviewConfig,
    /// Instances, which previews can be made on.
    pub instances: Arc<World>,
    sealer: Arc<Sealer>,
    pub(super) operator_password: Option<SecretString>,
    /// What GitHub signs its deliveries with; without it there is no webhook.
    pub(super) webhook_secret: Option<SecretString>,
    /// Held while a delivery is read: it can be large, and anybody can send one.
    pub(super) deliveries: Semaphore,
    /// What passwords are derived from, where the environment says.
    given_secret: Option<SecretString>,
    /// The same where it does not, by server.
    kept_secrets: Mutex<HashMap<String, SecretString>>,
    pub(super) servers: Mutex<HashMap<String, Arc<Server>>>,
    /// Something has happened that the reconciler wants to know.
    pub(super) changed: Notify,
    /// Ensures that were asked for, and those that somebody waits for at this moment.
    pub(super) ensures: AtomicU64,
    pub(super) waiting: AtomicU64,
    /// What failed lately.
    pub(super) rests: Rests,
    /// Names this run of the daemon.
    pub(super) run_id: String,
}

/// A role's password with what is kept and what is sent of it.
pub struct RolePassword {
    /// The password.
    pub password: SecretString,
    /// A digest of it.
    pub fingerprint: String,
}

impl RolePassword {
    fn new(password: SecretString) -> Self {
        let digest = Sha256::new().chain_update("pgdb preview password\n").chain_update(password.expose_secret());
        let fingerprint = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { password, fingerprint }
    }

    /// A new verifier, and the mark of a role that has it.
    pub fn verifier(&self) -> (String, PasswordMark) {
        let verifier = scram::verifier(&self.password);
        let salt = scram::salt(&verifier).map(str::to_owned);
        (verifier, PasswordMark { fingerprint: Some(self.fingerprint.clone()), salt })
    }
}

impl PreviewWorld {
    /// Puts the parts together.
    pub fn new(instances: Arc<World>, config: PreviewConfig, secrets: &EnvSecrets) -> Self {
        Self {
            store: instances.store.clone(),
            clock: Arc::clone(&instances.clock),
            entropy: Arc::clone(&instances.entropy),
            sealer: Arc::clone(&instances.sealer),
            config,
            operator_password: secrets.preview_password.clone(),
            webhook_secret: secrets.github_webhook_secret.clone(),
            deliveries: Semaphore::new(DELIVERIES),
            given_secret: secrets.preview_app_secret.clone().or_else(|| secrets.api_auth_token.clone()),
            kept_secrets: Mutex::default(),
            servers: Mutex::default(),
            changed: Notify::new(),
            ensures: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            rests: Rests::default(),
            run_id: random::lower_alnum(&*instances.entropy, 16),
            instances,
        }
    }

    /// Seals a secret for a row.
    pub fn seal(&self, aad: &str, secret: &SecretString) -> Result<Vec<u8>, Problem> {
        self.sealer.seal(&*self.entropy, aad, secret)
    }

    /// Opens what was sealed for a row.
    pub fn unseal(&self, aad: &str, sealed: &[u8]) -> Result<SecretString, Problem> {
        self.sealer.open_sealed(aad, sealed)
    }

    /// The password of a preview's role.
    pub async fn password(&self, server: &Server, db: &str, role: &str) -> Result<RolePassword, Problem> {
        let secret = match &self.given_secret {
            Some(secret) => secret.clone(),
            None => self.kept_secret(&server.key).await?,
        };
        Ok(RolePassword::new(pgdb_core::preview::derive_password(&secret, db, role)))
    }

    /// The secret of a server that the environment gives none for; made at the first use.
    async fn kept_secret(&self, key: &str) -> Result<SecretString, Problem> {
        if let Some(secret) = self.kept_secrets.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(secret.clone());
        }
        let aad = PREVIEW_SECRET.aad(key);
        let wanted = key.to_owned();
        let sealed = match self.store.read(move |connection| templates::secret(connection, &wanted)).await? {
            Some(sealed) => sealed,
            None => {
                let new = self.sealer.seal(&*self.entropy, &aad, &random::secret(&*self.entropy))?;
                let key = key.to_owned();
                // Of several at once the first one's is kept.
                self.store.write(move |connection| templates::keep_secret(connection, &key, &new)).await?
            }
        };
        let secret = self.sealer.open_sealed(&aad, &sealed)?;
        self.kept_secrets.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), secret.clone());
        Ok(secret)
    }
}
