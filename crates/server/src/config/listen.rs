//! Where the daemon listens, and what a weak token allows.

use super::ConfigError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

/// The port when none is given.
pub const DEFAULT_PORT: u16 = 8080;

/// One place to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Every address of the machine, IPv4 and IPv6.
    Everywhere(u16),
    /// One address.
    At(SocketAddr),
}

impl Listen {
    /// The port.
    pub fn port(self) -> u16 {
        match self {
            Self::Everywhere(port) => port,
            Self::At(address) => address.port(),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        matches!(self, Self::At(address) if address.ip().is_loopback())
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, "*:{port}"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

/// Reads `:PORT`, `ADDRESS:PORT`, `[IPV6]:PORT` or `NAME:PORT`.
fn parse(text: &str) -> Result<Vec<Listen>, ConfigError> {
    let wrong = |why: &str| ConfigError::Listen { given: text.chars().take(80).collect(), why: why.to_owned() };
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| wrong("after ':' comes a port from 0 to 65535"))?;
        return Ok(vec![Listen::Everywhere(port)]);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![Listen::At(address)]);
    }
    if text.parse::<u16>().is_ok() {
        return Err(wrong("write ':PORT' for every address, or 127.0.0.1:PORT for this machine alone"));
    }
    let found: Vec<Listen> =
        text.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.map(Listen::At).collect();
    if found.is_empty() { Err(wrong("the name has no address")) } else { Ok(found) }
}

/// What `listen` and `port` come to, and a warning when it is less than was asked for.
///
/// `listen` wins over `port`. With neither, only this machine can reach the daemon. With a weak token `:PORT`
/// means this machine too, and any other address of the network is refused.
pub(super) fn resolve(
    listen: Option<&str>,
    port: Option<u16>,
    extra: &[String],
    weak_token: Option<&str>,
) -> Result<(Vec<Listen>, Option<String>), ConfigError> {
    let main = match (listen, port) {
        (Some(text), _) => parse(text)?,
        (None, Some(port)) => vec![Listen::Everywhere(port)],
        (None, None) => vec![loopback(DEFAULT_PORT)],
    };
    let mut all = main;
    for text in extra {
        all.extend(parse(text)?);
    }
    let Some(token) = weak_token else { return Ok((all, None)) };
    let mut warning = None;
    for listen in &mut all {
        match *listen {
            Listen::Everywhere(port) => {
                *listen = loopback(port);
                warning = Some(format!(
                    "{token} has less than 128 bits, so pgdb listens on 127.0.0.1:{port} alone; for a token that may \
                     face a network run: openssl rand -hex 32"
                ));
            }
            Listen::At(address) if !address.ip().is_loopback() => {
                return Err(ConfigError::WeakToken { token: token.to_owned(), address });
            }
            Listen::At(_) => {}
        }
    }
    Ok((all, warning))
}

fn loopback(port: u16) -> Listen {
    Listen::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(listen: Option<&str>, port: Option<u16>, weak: Option<&str>) -> Result<Vec<String>, String> {
        resolve(listen, port, &[], weak)
            .map(|(all, _)| all.iter().map(ToString::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn listen_wins_over_port_and_neither_means_this_machine() {
        assert_eq!(texts(None, None, None), Ok(vec!["127.0.0.1:8080".to_owned()]));
        assert_eq!(texts(None, Some(9), None), Ok(vec!["*:9".to_owned()]));
        assert_eq!(texts(Some("10.0.0.1:7"), Some(9), None), Ok(vec!["10.0.0.1:7".to_owned()]));
        assert_eq!(texts(Some("[::1]:7"), None, None), Ok(vec!["[::1]:7".to_owned()]));
        assert!(texts(Some("8080"), None, None).is_err_and(|message| message.contains("':PORT'")));
        assert!(texts(Some(":99999"), None, None).is_err());
    }

    #[test]
    fn a_weak_token_never_faces_a_network() {
        assert_eq!(texts(Some(":8080"), None, Some("PGDB_TOKEN")), Ok(vec!["127.0.0.1:8080".to_owned()]));
        assert_eq!(texts(None, Some(80), Some("PGDB_TOKEN")), Ok(vec!["127.0.0.1:80".to_owned()]));
        assert_eq!(texts(Some("127.0.0.2:1"), None, Some("PGDB_TOKEN")), Ok(vec!["127.0.0.2:1".to_owned()]));
        for open in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
            let message = texts(Some(open), None, Some("PGDB_TOKEN")).err().unwrap_or_default();
            assert!(message.contains("PGDB_TOKEN") && message.contains(open), "{message}");
        }
        let extra = ["0.0.0.0:1239".to_owned()];
        assert!(resolve(None, None, &extra, Some("PGDB_TOKEN")).is_err());
    }
}
