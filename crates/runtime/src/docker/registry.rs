//! Who we are to a registry of images: what `docker login` has written down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

/// Docker's own registry, under the name that its client keeps credentials by.
const HUB: &str = "https://index.docker.io/v1/";

/// How long a program that keeps credentials may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the engine is to say to the registry of an image; nothing where `config.json` in the folder knows nothing of it, or
/// cannot be read: most images are everybody's.
///
/// Read anew each time, for it can change, and with the programs that it names (`credsStore`, `credHelpers`).
pub(crate) async fn credentials(folder: Option<&Path>, image: &str) -> Option<DockerCredentials> {
    let file = folder?.join("config.json");
    let server = server(image).to_owned();
    let shown = file.display().to_string();
    let looking = tokio::task::spawn_blocking(move || look(&file, server));
    let found = match tokio::time::timeout(LIMIT, looking).await {
        Ok(found) => found.unwrap_or_else(|error| Err(error.to_string())),
        Err(_) => Err("a program that it names does not end".to_owned()),
    };
    found.unwrap_or_else(|why| {
        tracing::warn!(image, file = shown, why, "no credentials can be read; asking the registry without");
        None
    })
}

fn look(file: &Path, server: String) -> Result<Option<DockerCredentials>, String> {
    if !file.exists() {
        return Ok(None);
    }
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let found = match get_credential_from_reader(BufReader::new(opened), &server) {
        Ok(found) => found,
        Err(CredentialRetrievalError::NoCredentialConfigured) => return Ok(None),
        // What a helper says can be a secret.
        Err(CredentialRetrievalError::HelperFailure { helper, stdout, .. }) => {
            let none = stdout.contains("credentials not found");
            return if none { Ok(None) } else { Err(format!("the program docker-credential-{helper} failed")) };
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut credentials = DockerCredentials { serveraddress: Some(server), ..DockerCredentials::default() };
    match found {
        DockerCredential::IdentityToken(token) => credentials.identitytoken = Some(token),
        DockerCredential::UsernamePassword(user, password) => {
            credentials.username = Some(user);
            credentials.password = Some(password);
        }
    }
    Ok(Some(readable(credentials)))
}

/// The same with something in a field that nobody reads, if it needs that: the client library sends them in an alphabet of
/// which engines do not know two characters, and then they take all of it for nothing. A password of many `>`, `?` or `~` can
/// still not be sent.
fn readable(credentials: DockerCredentials) -> DockerCredentials {
    let padded = |spaces: usize| DockerCredentials { email: Some(" ".repeat(spaces)), ..credentials.clone() };
    let plain = |credentials: &DockerCredentials| {
        serde_json::to_vec(credentials).is_ok_and(|json| !STANDARD.encode(json).contains(['+', '/']))
    };
    let fitting = std::iter::once(credentials.clone()).chain((1..=3).map(padded)).find(plain);
    fitting.unwrap_or(credentials)
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
        let look = |server: &str| look(&file, server.to_owned());
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
        assert!(look("c.example.org").is_err(), "a program that is not there");
        std::fs::write(&file, "{").expect("written");
        assert!(look("a.example.org").is_err());
    }

    #[test]
    fn passwords_are_sent_so_that_engines_read_them() {
        for password in ["pa~ss", "a?b", "x>y", "plain"] {
            let given = DockerCredentials { password: Some(password.to_owned()), ..DockerCredentials::default() };
            let sent = readable(given);
            let text = STANDARD.encode(serde_json::to_vec(&sent).expect("JSON"));
            assert!(sent.password.as_deref() == Some(password) && !text.contains(['+', '/']), "{password}: {text}");
        }
    }
}
