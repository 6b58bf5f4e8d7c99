//! Just enough HTTP/1.1, so that an answer can be held, halved or left out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) authorization: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The next request; nothing when the client is gone.
    pub(crate) fn read(&mut self) -> Option<Request> {
        let mut first = String::new();
        self.stream.read_line(&mut first).ok().filter(|length| *length > 0)?;
        let mut words = first.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut authorization, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.clone_into(&mut authorization),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Request { method, target, authorization, body })
    }

    fn head(status: u16, length: usize) -> String {
        // The end of the limit is when the whole quota is back: nobody waits for that, for the next request is let in soon.
        let (remaining, reset) = if status == 429 { (0, 4_102_444_800_u64) } else { (3599, 1) };
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nRateLimit-Limit: 3600\r\n\
             RateLimit-Remaining: {remaining}\r\nRateLimit-Reset: {reset}\r\n\r\n"
        )
    }

    /// Whether it could be sent.
    pub(crate) fn answer(&mut self, status: u16, body: &str) -> bool {
        let text = if status == 204 { Self::head(status, 0) } else { Self::head(status, body.len()) + body };
        self.stream.get_mut().write_all(text.as_bytes()).is_ok()
    }

    /// Less than was promised.
    pub(crate) fn answer_half(&mut self, status: u16, body: &str) {
        let half = &body.as_bytes()[..body.len() / 2];
        let head = Self::head(status, body.len().max(1));
        let _ = self.stream.get_mut().write_all(&[head.as_bytes(), half].concat());
    }

    /// Until the client gives up.
    pub(crate) fn wait_for_its_end(&mut self) {
        let _ = self.stream.read(&mut [0]);
    }
}
