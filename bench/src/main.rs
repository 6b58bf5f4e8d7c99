//! What the benches compare with. For HTTP: `bare FILE` serves a file's bytes from memory through axum and prints its
//! address; `load ADDRESS PATH TOKEN CONNECTIONS SECONDS` asks over kept connections and prints answers per second. For
//! migrations: `migrate FOLDER` and `migrate-in-one FOLDER`, see [`floor`].

mod floor;

use axum::http::header;
use axum::routing::get;
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["migrate", folder] => floor::migrate(folder, false).await,
        ["migrate-in-one", folder] => floor::migrate(folder, true).await,
        ["bare", file] => bare(std::fs::read(file)?).await,
        ["load", address, path, token, connections, seconds] => {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
            load(address, request, connections.parse()?, Duration::from_secs_f64(seconds.parse()?)).await
        }
        _ => Err("usage: pgdb-bench migrate|migrate-in-one FOLDER | bare FILE | load ADDRESS PATH TOKEN CONNECTIONS SECONDS".into()),
    }
}

async fn bare(bytes: Vec<u8>) -> Result<(), Failed> {
    let body = axum::body::Bytes::from(bytes);
    let handler = move || {
        let body = body.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], body) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().route("/v1/status", get(handler))).await?;
    Ok(())
}

async fn load(address: &str, request: String, connections: usize, span: Duration) -> Result<(), Failed> {
    let begin = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        clients.push(tokio::spawn(ask(stream, request.clone(), begin + span)));
    }
    let mut answers = 0;
    for client in clients {
        answers += client.await??;
    }
    println!("{:.0}", f64::from(answers) / begin.elapsed().as_secs_f64());
    Ok(())
}

/// Asks until `end`; every answer has to be a 200 with a known length.
async fn ask(mut stream: TcpStream, request: String, end: Instant) -> Result<u32, Failed> {
    let mut buffer = vec![0; 256 * 1024];
    let mut answers = 0;
    while Instant::now() < end {
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| filled < whole) {
            if filled == buffer.len() {
                buffer.resize(filled * 2, 0);
            }
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Err("the connection was closed".into());
            }
            filled += read;
            if whole.is_none() {
                whole = length(&buffer[..filled])?;
            }
        }
        answers += 1;
    }
    Ok(answers)
}

/// Head and body together, once the head is there.
fn length(bytes: &[u8]) -> Result<Option<usize>, Failed> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("not a 200: {head}").into());
    }
    let body = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("no content-length")?;
    Ok(Some(end + 4 + body.trim().parse::<usize>()?))
}
