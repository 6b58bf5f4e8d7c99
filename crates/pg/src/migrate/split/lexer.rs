//! The parts of a text of SQL, as PostgreSQL's own scanner sees them, as far as it takes to find where statements end.

use std::ops::Range;

/// A part that matters. White space and comments lie between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or a name without quotes.
    Word(Range<usize>),
    /// `;`
    Semicolon(usize),
    /// `(`
    Open(usize),
    /// `)`
    Close(usize),
    /// `\`, which has no meaning in SQL.
    Backslash(usize),
    /// Anything else: a string, a name in quotes, a number, a sign.
    Other(Range<usize>),
}

impl Token {
    /// Where it begins and ends.
    pub(super) fn span(&self) -> Range<usize> {
        match self {
            Self::Word(span) | Self::Other(span) => span.clone(),
            Self::Semicolon(at) | Self::Open(at) | Self::Close(at) | Self::Backslash(at) => *at..at + 1,
        }
    }
}

/// Goes through a text. What is not closed (a string, a comment) reaches to the end.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// Goes on from elsewhere: behind the data of a COPY.
    pub(super) fn jump(&mut self, at: usize) {
        self.at = at;
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Goes to just behind the next `needle`, or to the end.
    fn skip_past(&mut self, needle: &str) {
        self.at = match self.text.get(self.at..).and_then(|rest| rest.find(needle)) {
            Some(found) => self.at + found + needle.len(),
            None => self.bytes.len(),
        };
    }

    fn skip_blank(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => self.skip_line(),
                (b'/', b'*') => self.skip_comment(),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && !matches!(self.bytes[self.at], b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Comments of this kind can stand in one another.
    fn skip_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Goes behind the quote that ends what begins at the present one; two in a row are one that is meant.
    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        while self.at < self.bytes.len() {
            if self.bytes[self.at] == quote {
                self.at += 1;
                if self.peek(0) != quote {
                    return;
                }
            }
            self.at += 1;
        }
    }

    /// The same, for a string in which a backslash takes away the next character's meaning. Such a string can be
    /// carried on in a further line, where backslashes mean the same.
    fn skip_escaped(&mut self) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\\' => self.at += 2,
                b'\'' if self.peek(1) == b'\'' => self.at += 2,
                b'\'' => {
                    self.at += 1;
                    match self.continuation() {
                        Some(quote) => self.at = quote + 1,
                        None => return,
                    }
                }
                _ => self.at += 1,
            }
        }
        self.at = self.bytes.len();
    }

    /// Where the quote is that carries a string on: only white space with a line break and `--` comments lie between.
    fn continuation(&self) -> Option<usize> {
        let mut ahead = Self { text: self.text, bytes: self.bytes, at: self.at };
        let mut line_break = false;
        loop {
            match (ahead.peek(0), ahead.peek(1)) {
                (b'\n' | b'\r', _) => {
                    line_break = true;
                    ahead.at += 1;
                }
                (b' ' | b'\t' | 0x0b | 0x0c, _) => ahead.at += 1,
                (b'-', b'-') => ahead.skip_line(),
                (b'\'', _) if line_break => return Some(ahead.at),
                _ => return None,
            }
        }
    }

    /// Goes behind `$tag$ … $tag$` if that begins here, else behind the `$`.
    fn skip_dollar(&mut self) {
        let begin = self.at;
        self.at += 1;
        if !self.peek(0).is_ascii_digit() {
            while is_name(self.peek(0)) && self.peek(0) != b'$' {
                self.at += 1;
            }
            if self.peek(0) == b'$' {
                self.at += 1;
                let tag = &self.text[begin..self.at];
                self.skip_past(tag);
                return;
            }
        }
        self.at = begin + 1;
    }

    fn word(&mut self) -> Token {
        let begin = self.at;
        let prefixed = |ahead: usize| self.peek(ahead) == b'\'';
        match self.bytes[begin] {
            b'e' | b'E' if prefixed(1) => {
                self.at += 1;
                self.skip_escaped();
                return Token::Other(begin..self.at);
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if prefixed(1) => {
                self.at += 1;
                self.skip_quoted(b'\'');
                return Token::Other(begin..self.at);
            }
            _ => {}
        }
        while is_name(self.peek(0)) {
            self.at += 1;
        }
        Token::Word(begin..self.at)
    }
}

/// Whether a byte can stand in a name, not counting its begin.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let begin = self.at;
        let byte = *self.bytes.get(begin)?;
        let one = |lexer: &mut Self, token: fn(usize) -> Token| {
            lexer.at += 1;
            token(begin)
        };
        Some(match byte {
            b';' => one(self, Token::Semicolon),
            b'(' => one(self, Token::Open),
            b')' => one(self, Token::Close),
            b'\\' => one(self, Token::Backslash),
            b'\'' | b'"' => {
                self.skip_quoted(byte);
                Token::Other(begin..self.at)
            }
            b'$' => {
                self.skip_dollar();
                Token::Other(begin..self.at)
            }
            // A digit that begins a number, with what belongs to it: `1e5` is no name.
            b'0'..=b'9' => {
                while self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_' | b'.') {
                    self.at += 1;
                }
                Token::Other(begin..self.at)
            }
            _ if is_name(byte) => self.word(),
            _ => {
                self.at += 1;
                Token::Other(begin..self.at)
            }
        })
    }
}
