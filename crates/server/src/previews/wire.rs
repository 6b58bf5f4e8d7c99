//! A preview as it is sent.

use super::record::PreviewRecord;
use super::server::EXTERNAL;
use super::world::PreviewWorld;
use crate::config::TargetConfig;
use crate::problem::Problem;
use pgdb_api::previews::Preview;
use pgdb_core::url::ConnectionUrl;
use pgdb_pg::TlsMode;
use secrecy::ExposeSecret;

/// Where clients reach a server.
struct Address {
    on: Option<String>,
    host: String,
    port: u16,
    sslmode: &'static str,
}

impl PreviewWorld {
    /// A preview as it is sent, with its password if `reveal`.
    pub(super) async fn wire(&self, preview: &PreviewRecord, reveal: bool) -> Result<Preview, Problem> {
        let address = self.address(&preview.target).await?;
        let password = match self.server_of(&preview.target).await? {
            Some(server) if reveal => Some(self.password(&server, &preview.db, &preview.role).await?.password),
            _ => None,
        };
        let url = ConnectionUrl {
            user: &preview.role,
            password: password.as_ref(),
            host: &address.host,
            port: address.port,
            db: &preview.db,
            sslmode: address.sslmode,
        };
        Ok(Preview {
            template: preview.template.clone(),
            number: preview.number,
            state: preview.state.as_str().to_owned(),
            reason: preview.reason.clone(),
            database_url: url.to_text(),
            on: address.on,
            host: address.host,
            port: address.port,
            db_name: preview.db.clone(),
            app_user: preview.role.clone(),
            app_password: password.map(|password| password.expose_secret().to_owned()).unwrap_or_default(),
            protected: preview.protected,
            labels: preview.labels.clone(),
            created_at: preview.created_at,
            used_at: preview.used_at,
            expires_at: preview.lifetime.end(),
            generation: preview.generation,
        })
    }

    async fn address(&self, target: &str) -> Result<Address, Problem> {
        let unknown = |on| Address { on, host: String::new(), port: 0, sslmode: "disable" };
        if target != EXTERNAL {
            let Some(instance) = self.instances.by_id(target).await? else { return Ok(unknown(None)) };
            let host = self.instances.config.public_host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
            let sslmode = if instance.tls { "require" } else { "disable" };
            return Ok(Address { on: Some(instance.name), host, port: instance.port, sslmode });
        }
        Ok(match &self.config.target {
            TargetConfig::External(external) => Address {
                on: None,
                host: external.host.clone(),
                port: external.port,
                // Which file an authority is in is this machine's business, not a client's.
                sslmode: match &external.tls {
                    TlsMode::VerifyCa(_) | TlsMode::VerifyFull(_) => "require",
                    other => other.sslmode(),
                },
            },
            TargetConfig::Instance(_) => unknown(None),
        })
    }
}
