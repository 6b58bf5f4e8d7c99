//! Who we are to a registry of images: what `docker login` has written down.

use crate::error::RuntimeError;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Docker's own registry, under the name that its client keeps credentials by.
const HUB: &str = "https://index.docker.io/v1/";

/// What the engine is to say to the registry of an image; nothing where `config.json` in the folder knows nothing of it.
///
/// Read anew each time, for it can change, and with the programs that it names (`credsStore`, `credHelpers`).
pub(crate) async fn credentials(folder: Option<&Path>, image: &str) -> Result<Option<DockerCredentials>, RuntimeError> {
    let Some(file) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let server = server(image).to_owned();
    let looked = tokio::task::spawn_blocking(move || look(file, server)).await;
    looked.unwrap_or_else(|error| Err(RuntimeError::Unsupported(error.to_string())))
}

fn look(file: PathBuf, server: String) -> Result<Option<DockerCredentials>, RuntimeError> {
    if !file.exists() {
        return Ok(None);
    }
    let opened = File::open(&file).map_err(RuntimeError::io("read", &file))?;
    let found = match get_credential_from_reader(BufReader::new(opened), &server) {
        Ok(found) => found,
        Err(CredentialRetrievalError::NoCredentialConfigured) => return Ok(None),
        // A helper says so when it has none; what else it says can be a secret.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            return Ok(None);
        }
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            return Err(unreadable(&file, &server, &format!("the program docker-credential-{helper} failed")));
        }
        Err(error) => return Err(unreadable(&file, &server, &error.to_string())),
    };
    let mut credentials = DockerCredentials { serveraddress: Some(server), ..DockerCredentials::default() };
    match found {
        DockerCredential::IdentityToken(token) => credentials.identitytoken = Some(token),
        DockerCredential::UsernamePassword(user, password) => {
            credentials.username = Some(user);
            credentials.password = Some(password);
        }
    }
    Ok(Some(credentials))
}

fn unreadable(file: &Path, server: &str, why: &str) -> RuntimeError {
    let file = file.display();
    RuntimeError::Unsupported(format!(
        "no credentials for {server} can be read from {file}: {why}; try `docker login` again"
    ))
}

/// The registry of an image: what stands before its first `/`, if that can be a host.
fn server(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_from_folders() {
        for (image, expected) in [
            ("postgres:16", HUB),
            ("bitnami/postgresql:16", HUB),
            ("docker.io/library/postgres:16", HUB),
            ("registry.example.org/postgres:16", "registry.example.org"),
            ("localhost/postgres:16", "localhost"),
            ("127.0.0.1:5000/a/b:16", "127.0.0.1:5000"),
        ] {
            assert_eq!(server(image), expected, "{image}");
        }
    }

    #[test]
    fn what_docker_login_writes_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        let look = |server: &str| look(file.clone(), server.to_owned());
        assert!(look("a.example.org").expect("no file").is_none());
        // `ann:s3cret`
        let text = r#"{"auths": {"a.example.org": {"auth": "YW5uOnMzY3JldA=="}, "b.example.org": {"identitytoken": "t"}},
            "credHelpers": {"c.example.org": "pgdb-nowhere"}}"#;
        std::fs::write(&file, text).expect("written");
        let found = look("a.example.org").expect("read").expect("credentials");
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("ann"), Some("s3cret")));
        let found = look("b.example.org").expect("read").expect("a token");
        assert_eq!(found.identitytoken.as_deref(), Some("t"));
        assert!(look("d.example.org").expect("read").is_none());
        assert!(look("c.example.org").is_err_and(|error| error.to_string().contains("c.example.org")));
        std::fs::write(&file, "{").expect("written");
        assert!(look("a.example.org").is_err_and(|error| error.to_string().contains("docker login")));
    }
}
