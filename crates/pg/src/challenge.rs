//! Telling whether a role's password was changed, without knowing it and without a login.
//!
//! Who begins a SCRAM login is told the salt of the role's verifier. PostgreSQL draws a new salt whenever a password is
//! set, and a verifier of ours carries the salt that we drew; so as long as the salt is ours, so is the password. The
//! login is broken off there: PostgreSQL takes that for a client that has gone away and logs nothing.

use crate::connect::{Target, TlsMode};
use crate::error::{Cause, PgError};
use crate::tls;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The longest answer of a server that begins a login.
const LONGEST: usize = 8192;

/// How a server begins a role's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// With SCRAM: the salt in base64, as it stands in the verifier.
    Salt(String),
    /// In some other way, or not for us; nothing can be said about the password.
    Unknown,
}

/// Begins a login and breaks it off. A role that does not exist has a salt too.
pub async fn challenge(target: &Target, role: &str, db: &str, timeout: Duration) -> Result<Challenge, PgError> {
    let asked = async {
        match target {
            Target::Socket { dir, port } => {
                ask(UnixStream::connect(dir.join(format!(".s.PGSQL.{port}"))).await?, role, db).await
            }
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                ask_over_tcp(stream, host, tls, role, db).await
            }
        }
    };
    let answered = time::timeout(timeout, asked).await;
    let cause = match answered {
        Ok(Ok(challenge)) => return Ok(challenge),
        Ok(Err(error)) => Cause::Network(error),
        Err(_) => Cause::TimedOut(timeout),
    };
    Err(PgError::CannotConnect { address: target.to_string(), cause: Box::new(cause) })
}

async fn ask_over_tcp(mut stream: TcpStream, host: &str, tls: &TlsMode, role: &str, db: &str) -> io::Result<Challenge> {
    let Some(encrypted) = tls::client_config(tls).map_err(io::Error::other)? else {
        return ask(stream, role, db).await;
    };
    let mut message = Default::default();
    frontend::ssl_request(&mut message);
    stream.write_all(&message).await?;
    match stream.read_u8().await? {
        b'S' => {
            let mut connector = MakeRustlsConnect::new(encrypted);
            let connector = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, host);
            let stream = connector.map_err(io::Error::other)?.connect(stream).await.map_err(io::Error::other)?;
            ask(stream, role, db).await
        }
        b'N' if *tls == TlsMode::Prefer => ask(stream, role, db).await,
        _ => Ok(Challenge::Unknown),
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, role: &str, db: &str) -> io::Result<Challenge> {
    // The first message of SCRAM names no password yet. It goes along with the greeting, so that there is one round
    // trip; a server that wants no SCRAM does not read it.
    let scram = ScramSha256::new(b"", ChannelBinding::unsupported());
    let mut message = Default::default();
    frontend::startup_message([("user", role), ("database", db)], &mut message)?;
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)?;
    stream.write_all(&message).await?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).unwrap_or(LONGEST).saturating_sub(4);
        if head[0] != b'R' || !(4..LONGEST).contains(&length) {
            return Ok(Challenge::Unknown);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match body[..4] {
            // AuthenticationSASL: its challenge follows.
            [0, 0, 0, 10] => {}
            [0, 0, 0, 11] => return Ok(salt(&body[4..]).map_or(Challenge::Unknown, Challenge::Salt)),
            _ => return Ok(Challenge::Unknown),
        }
    }
}

/// The salt of `r=NONCE,s=SALT,i=COUNT`.
fn salt(message: &[u8]) -> Option<String> {
    let message = std::str::from_utf8(message).ok()?;
    message.split(',').find_map(|field| field.strip_prefix("s=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_salt_is_found() {
        assert_eq!(salt(b"r=abc=,s=c2FsdA==,i=4096").as_deref(), Some("c2FsdA=="));
        assert_eq!(salt(b"e=other-error"), None);
    }
}
