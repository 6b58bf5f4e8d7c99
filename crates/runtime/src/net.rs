//! Addresses, and whether a server behind one accepts connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The address by which this machine reaches what listens on `listen`.
pub(crate) fn reachable(listen: IpAddr) -> IpAddr {
    match listen {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// What a server answers to the first message of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It asks for a password, or refuses this role or database: it accepts connections.
    Ready,
    /// It starts, recovers or stops.
    NotYet,
}

/// Whether a PostgreSQL server accepts connections at this address. Nobody logs in: it is asked for a session, and its
/// first word tells. A port that accepts is not enough, for what forwards it accepts before the server does.
pub(crate) async fn accepts(host: &str, port: u16, user: &str) -> bool {
    const LIMIT: Duration = Duration::from_secs(2);
    let asking = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(&session_request(user)).await?;
        let mut answer = vec![0; 512];
        let mut len = 0;
        loop {
            let read = stream.read(&mut answer[len..]).await?;
            len += read;
            match understood(&answer[..len]) {
                Some(answer) => return std::io::Result::Ok(answer == Answer::Ready),
                None if read == 0 || len == answer.len() => return Ok(false),
                None => {}
            }
        }
    };
    matches!(tokio::time::timeout(LIMIT, asking).await, Ok(Ok(true)))
}

/// `StartupMessage` of protocol 3.0.
fn session_request(user: &str) -> Vec<u8> {
    let mut body = 196_608u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", "postgres", "application_name", "pgdb"] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let len = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [len.to_be_bytes().to_vec(), body].concat()
}

/// Reads the first message: `R` asks for a password, `E` says why not. Nothing while it is not whole.
fn understood(bytes: &[u8]) -> Option<Answer> {
    match bytes.first()? {
        b'R' => Some(Answer::Ready),
        b'E' => {
            let len = usize::try_from(u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?)).ok()?;
            let fields = bytes.get(5..=len)?;
            let code = fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
            // cannot_connect_now
            Some(if code == Some(b"57P03") { Answer::NotYet } else { Answer::Ready })
        }
        _ => Some(Answer::NotYet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> Vec<u8> {
        let body = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
        let len = u32::try_from(body.len() + 4).expect("short");
        [b"E".to_vec(), len.to_be_bytes().to_vec(), body.into_bytes()].concat()
    }

    #[test]
    fn a_server_that_starts_is_not_taken_for_a_ready_one() {
        assert_eq!(understood(&error("57P03")), Some(Answer::NotYet));
        assert_eq!(understood(&error("28000")), Some(Answer::Ready));
        assert_eq!(understood(b"R\0\0\0\x17"), Some(Answer::Ready));
        assert_eq!(understood(b""), None);
        let whole = error("57P03");
        for len in 1..whole.len() {
            assert_eq!(understood(&whole[..len]), None, "{len} bytes are not an answer yet");
        }
        assert_eq!(understood(b"HTTP/1.1 400"), Some(Answer::NotYet), "another program");
    }
}
