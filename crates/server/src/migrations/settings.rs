//! What the watcher is told, and what it does where it is told nothing.

use pgdb_pg::Target;
use pgdb_pg::migrate::session::Login;
use pgdb_pg::url::{self, UrlError};
use pgdb_runtime::kubernetes::Access;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;

/// Where the database is when nothing says so. Its password is known to all the world and guards nothing.
const DATABASE_URL: &str = "postgresql://pact:pact@localhost:5432/pact_mock_servers";
const NAMESPACE: &str = "secret-manager-controller-pact-broker";
const CONFIGMAP_NAME: &str = "postgres-migrations";
const CONFIGMAP_PATH: &str = "/migrations-configmap";
const MIGRATIONS_DIR: &str = "/shared/postgres-migrations";
const HEALTH_PORT: u16 = 1239;
/// How long a login may take; it is tried again after that.
const LOGIN: Duration = Duration::from_secs(5);

/// A place that migrations come from, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A ConfigMap, through the Kubernetes API.
    Api,
    /// A mounted ConfigMap.
    Mount,
    /// A folder with a folder for each schema.
    Directory,
}

impl Origin {
    /// All, the strongest first.
    pub const ALL: [Self; 3] = [Self::Api, Self::Mount, Self::Directory];

    /// One word, as it is typed and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Mount => "mount",
            Self::Directory => "directory",
        }
    }
}

/// What was given, by flags or the environment. An empty text counts as nothing.
#[derive(Debug, Default)]
pub struct Options {
    /// `DATABASE_URL`.
    pub database_url: Option<SecretString>,
    /// `POSTGRES_HOST`: the host in the place of the one in the default URL.
    pub postgres_host: Option<String>,
    /// `POSTGRES_PORT`: a number, or what Kubernetes sets for a service called `postgres` (`tcp://ADDRESS:PORT`).
    pub postgres_port: Option<String>,
    /// `NAMESPACE`.
    pub namespace: Option<String>,
    /// `CONFIGMAP_NAME`.
    pub configmap_name: Option<String>,
    /// `CONFIGMAP_PATH`.
    pub configmap_path: Option<PathBuf>,
    /// `MIGRATIONS_DIR`.
    pub migrations_dir: Option<PathBuf>,
    /// `HEALTH_PORT`: a number; what Kubernetes sets for a service called `health` is not meant.
    pub health_port: Option<String>,
    /// A file that says where the API server is.
    pub kubeconfig: Option<PathBuf>,
    /// The only places to look at; all when empty.
    pub only: Vec<Origin>,
}

/// What this process is in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// A pod: `KUBERNETES_SERVICE_HOST` is set.
    pub in_cluster: bool,
    /// `KUBECONFIG` is set.
    pub kubeconfig: bool,
}

/// Something given that cannot be used. Never quotes a URL.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL, or it lacks something.
    #[error("DATABASE_URL: {0}")]
    DatabaseUrl(#[source] UrlError),
    /// Not a number from 1 to 65535.
    #[error("{variable}: '{given}' is no port")]
    Port {
        /// The variable.
        variable: &'static str,
        /// What was given, shortened.
        given: String,
    },
    /// Kubernetes would not have such a name.
    #[error("{variable}: '{given}' is no name that Kubernetes knows (lower-case letters, digits, '-' and '.')")]
    Name {
        /// The variable.
        variable: &'static str,
        /// What was given, shortened.
        given: String,
    },
}

/// Everything the watcher needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The database to keep up to date.
    pub database: Login,
    /// How to reach the API server; nothing when it is not to be asked.
    pub access: Option<Access>,
    /// Where the ConfigMap is.
    pub namespace: String,
    /// Its name.
    pub configmap_name: String,
    /// Where it is mounted; nothing when that is not to be looked at.
    pub mount: Option<PathBuf>,
    /// The folder of schemas; nothing when it is not to be looked at.
    pub directory: Option<PathBuf>,
    /// Where `/liveness`, `/readiness` and `/metrics` are.
    pub health_port: u16,
}

impl Options {
    /// Fills in what was not given.
    pub fn resolve(self, surroundings: Surroundings) -> Result<Settings, SettingsError> {
        let access = self.access(surroundings);
        let may = |origin| self.only.is_empty() || self.only.contains(&origin);
        // The system tells of files by their whole paths.
        let folder = |given: &Option<PathBuf>, default: &str| {
            let path = given.clone().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| default.into());
            std::path::absolute(&path).unwrap_or(path)
        };
        Ok(Settings {
            database: self.database()?,
            access,
            namespace: name("NAMESPACE", self.namespace.as_deref(), NAMESPACE)?,
            configmap_name: name("CONFIGMAP_NAME", self.configmap_name.as_deref(), CONFIGMAP_NAME)?,
            mount: may(Origin::Mount).then(|| folder(&self.configmap_path, CONFIGMAP_PATH)),
            directory: may(Origin::Directory).then(|| folder(&self.migrations_dir, MIGRATIONS_DIR)),
            health_port: self.health_port()?.unwrap_or(HEALTH_PORT),
        })
    }

    /// A person's kubeconfig is used when something says that a cluster is meant, for it may lead anywhere.
    fn access(&self, surroundings: Surroundings) -> Option<Access> {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !self.only.is_empty() && !self.only.contains(&Origin::Api) {
            return None;
        }
        if let Some(path) = self.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()) {
            return Some(Access::Kubeconfig(Some(path)));
        }
        if surroundings.kubeconfig {
            return Some(Access::Kubeconfig(None));
        }
        if surroundings.in_cluster {
            return Some(Access::InCluster);
        }
        let meant = said(&self.namespace) || said(&self.configmap_name) || self.only.contains(&Origin::Api);
        meant.then_some(Access::Kubeconfig(None))
    }

    fn database(&self) -> Result<Login, SettingsError> {
        let given = self.database_url.as_ref().map(ExposeSecret::expose_secret).filter(|url| !url.is_empty());
        let parsed = url::parse(given.unwrap_or(DATABASE_URL)).map_err(SettingsError::DatabaseUrl)?;
        let mut login = Login { timeout: LOGIN, ..parsed.into() };
        if given.is_none()
            && let Target::Tcp { host, port, .. } = &mut login.target
        {
            if let Some(elsewhere) = self.postgres_host.as_ref().filter(|host| !host.is_empty()) {
                host.clone_from(elsewhere);
            }
            let given = self.postgres_port.as_deref().unwrap_or_default();
            let given = if is_from_a_service(given) { given.rsplit(':').next().unwrap_or_default() } else { given };
            *port = self::port("POSTGRES_PORT", given)?.unwrap_or(*port);
        }
        Ok(login)
    }

    fn health_port(&self) -> Result<Option<u16>, SettingsError> {
        let given = self.health_port.as_deref().filter(|given| !is_from_a_service(given));
        port("HEALTH_PORT", given.unwrap_or_default())
    }
}

/// For a service called `x`, Kubernetes sets `X_PORT=tcp://ADDRESS:PORT` in every pod beside it.
fn is_from_a_service(text: &str) -> bool {
    text.starts_with("tcp://") || text.starts_with("udp://")
}

fn port(variable: &'static str, given: &str) -> Result<Option<u16>, SettingsError> {
    if given.is_empty() {
        return Ok(None);
    }
    match given.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(SettingsError::Port { variable, given: given.chars().take(80).collect() }),
    }
}

/// A name that goes into the path of a request.
fn name(variable: &'static str, given: Option<&str>, default: &str) -> Result<String, SettingsError> {
    let name = given.filter(|given| !given.is_empty()).unwrap_or(default);
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.len() <= 253
        && name.starts_with(ends)
        && name.ends_with(ends)
        && name.chars().all(|c| ends(c) || c == '-' || c == '.');
    if good {
        Ok(name.to_owned())
    } else {
        Err(SettingsError::Name { variable, given: name.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(options: Options, surroundings: Surroundings) -> Settings {
        options.resolve(surroundings).expect("good settings")
    }

    #[test]
    fn with_nothing_given_it_is_the_original() {
        let settings = resolved(Options::default(), Surroundings::default());
        assert_eq!(settings.database.target.to_string(), "localhost:5432");
        assert_eq!((settings.database.user.as_str(), settings.database.db.as_str()), ("pact", "pact_mock_servers"));
        assert_eq!(settings.database.password.as_ref().expect("a password").expose_secret(), "pact");
        assert_eq!(settings.namespace, "secret-manager-controller-pact-broker");
        assert_eq!(settings.configmap_name, "postgres-migrations");
        assert_eq!(settings.mount.as_deref(), Some("/migrations-configmap".as_ref()));
        assert_eq!(settings.directory.as_deref(), Some("/shared/postgres-migrations".as_ref()));
        assert_eq!((settings.health_port, settings.access), (1239, None));
    }

    #[test]
    fn host_and_port_are_those_of_the_default_url_alone() {
        let elsewhere =
            || Options { postgres_host: Some("db".into()), postgres_port: Some("6543".into()), ..Options::default() };
        assert_eq!(resolved(elsewhere(), Surroundings::default()).database.target.to_string(), "db:6543");
        let with_url = Options { database_url: Some("postgres://app@there:7/shop".to_owned().into()), ..elsewhere() };
        let database = resolved(with_url, Surroundings::default()).database;
        assert_eq!((database.target.to_string().as_str(), database.db.as_str()), ("there:7", "shop"));
        let empty = Options { database_url: Some(String::new().into()), ..Options::default() };
        assert_eq!(resolved(empty, Surroundings::default()).database.user, "pact");
    }

    #[test]
    fn what_kubernetes_sets_for_services_is_no_error() {
        let injected = || Some("tcp://10.96.0.7:6543".to_owned());
        let options = Options { postgres_port: injected(), health_port: injected(), ..Options::default() };
        let settings = resolved(options, Surroundings::default());
        assert_eq!((settings.database.target.to_string().as_str(), settings.health_port), ("localhost:6543", 1239));
        for bad in ["0", "70000", "x", "-1"] {
            let options = Options { health_port: Some(bad.to_owned()), ..Options::default() };
            assert!(options.resolve(Surroundings::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_api_is_asked_where_a_cluster_is_meant() {
        let pod = Surroundings { in_cluster: true, kubeconfig: false };
        assert_eq!(resolved(Options::default(), pod).access, Some(Access::InCluster));
        let told = Surroundings { in_cluster: true, kubeconfig: true };
        assert_eq!(resolved(Options::default(), told).access, Some(Access::Kubeconfig(None)));
        let named = Options { namespace: Some("default".into()), ..Options::default() };
        assert_eq!(resolved(named, Surroundings::default()).access, Some(Access::Kubeconfig(None)));
        let file = Options { kubeconfig: Some("/k".into()), ..Options::default() };
        assert_eq!(resolved(file, told).access, Some(Access::Kubeconfig(Some("/k".into()))));
        let only = Options { only: vec![Origin::Directory], ..Options::default() };
        let settings = resolved(only, told);
        assert_eq!((settings.access, settings.mount), (None, None));
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for bad in ["../secrets", "a/b", "A", "-a", "a?x=y", "a b"] {
            let options = Options { configmap_name: Some(bad.into()), ..Options::default() };
            assert!(options.resolve(Surroundings::default()).is_err(), "{bad}");
        }
        let url = Options { database_url: Some("postgres://x:secret@".to_owned().into()), ..Options::default() };
        let error = url.resolve(Surroundings::default()).expect_err("no host");
        assert!(!format!("{error:?}{error}").contains("secret"));
    }
}
