//! Who fills a database: the role that a dump and people's scripts run as. Never a superuser of ours, for both are
//! somebody's programs.

use super::server::{EXTERNAL, Server};
use super::world::PreviewWorld;
use crate::config::TargetConfig;
use crate::instances::world::{not_found, pg};
use crate::operations::StepError;
use pgdb_pg::migrate::session::Login;
use pgdb_pg::{Client, Target, connect_for_scripts};
use pgdb_runtime::spec::{OtherServer, ServerSpec, ToolServer};
use secrecy::SecretString;
use std::time::Duration;

const LOGIN: Duration = Duration::from_secs(15);

/// A role that fills databases, and how it logs in.
pub struct Loader {
    /// The role.
    pub role: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// Whether it may install any extension.
    pub superuser: bool,
    target: Target,
    place: Place,
}

/// The server as client programs find it.
enum Place {
    Own(Box<ServerSpec>),
    Other(OtherServer),
}

impl Loader {
    /// A session in a database, for what people have written.
    pub async fn connect(&self, db: &str) -> Result<Client, StepError> {
        connect_for_scripts(&self.target, &self.role, self.password.as_ref(), db, LOGIN).await.map_err(pg)
    }

    /// How it logs in to a database.
    pub fn login(&self, db: &str) -> Login {
        Login {
            target: self.target.clone(),
            user: self.role.clone(),
            password: self.password.clone(),
            db: db.to_owned(),
            timeout: LOGIN,
        }
    }

    /// Whether nobody is above it: then there is no role that could keep a ledger from it.
    pub fn is_operator(&self) -> bool {
        self.superuser || matches!(self.place, Place::Other(_))
    }

    /// The server, for client programs.
    pub fn tool_server(&self) -> ToolServer<'_> {
        match &self.place {
            Place::Own(spec) => ToolServer::Own(spec),
            Place::Other(other) => ToolServer::Other(other),
        }
    }
}

impl PreviewWorld {
    /// Who fills databases on a server: the operator, or on an instance of ours its own role.
    pub async fn loader(&self, server: &Server) -> Result<Loader, StepError> {
        if server.key != EXTERNAL {
            let missing = || not_found(server.instance.as_deref().unwrap_or(&server.key));
            let instance = self.instances.by_id(&server.key).await?.ok_or_else(missing)?;
            return Ok(Loader {
                role: instance.user.clone(),
                password: Some(self.instances.password(&instance)?),
                superuser: instance.superuser,
                target: self.client_target(server).await?,
                place: Place::Own(Box::new(self.instances.spec(&instance)?)),
            });
        }
        let TargetConfig::External(external) = &self.config.target else {
            return Err(StepError::lasting("preview_target_missing", "no external server is configured any more"));
        };
        let session = self.session(server).await?;
        let (major, superuser) = (session.major(), pgdb_pg::handover::is_superuser(&session).await.map_err(pg)?);
        session.release();
        let other = OtherServer {
            host: external.host.clone(),
            port: external.port,
            sslmode: external.tls.sslmode().to_owned(),
            sslrootcert: external.sslrootcert.clone(),
            major,
        };
        Ok(Loader {
            role: external.user.clone(),
            password: self.operator_password.clone(),
            superuser,
            target: self.client_target(server).await?,
            place: Place::Other(other),
        })
    }
}
