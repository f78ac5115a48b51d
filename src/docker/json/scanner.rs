//! Scans JSON text. Nothing here recurses: nesting is kept in a list, with the same limit as in Go.

use super::value::{JsonError, MAX_DEPTH, Member, Object};

/// The value of a string token. What Go cannot represent (lone surrogates, bytes that are not UTF-8) becomes U+FFFD.
pub(crate) fn decode_string(token: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = &token[1..token.len() - 1];
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (escape, tail) = rest
            .split_first()
            .expect("the scanner saw a byte after each backslash");
        rest = tail;
        let plain = match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let letter = decode_unicode(&mut rest);
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => *other,
        };
        bytes.push(plain);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads what follows `\u`, and a second escape if the first is the high half of a pair.
fn decode_unicode(rest: &mut &[u8]) -> char {
    let unit = |text: &[u8]| {
        let digits = std::str::from_utf8(text.get(..4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(rest).expect("the scanner saw four digits");
    *rest = &rest[4..];
    let second = rest.strip_prefix(b"\\u").and_then(unit);
    if let Some(second) = second
        && let Some(Ok(letter)) = char::decode_utf16([first, second]).next()
        && letter > '\u{ffff}'
    {
        *rest = &rest[6..];
        return letter;
    }
    char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A position in a text.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    /// Scans an object and records its members.
    pub(super) fn object(&mut self) -> Result<Object<'a>, JsonError> {
        self.skip_space();
        self.expect(b'{')?;
        let inside = self.at;
        let mut members = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Object {
                text: self.text,
                members,
                inside,
            });
        }
        loop {
            self.skip_space();
            let key_at = self.at;
            let key = decode_string(self.key()?);
            self.skip_space();
            let start = self.at;
            self.value()?;
            members.push(Member {
                key,
                key_at,
                value: start..self.at,
            });
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Object {
                        text: self.text,
                        members,
                        inside,
                    });
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    /// Scans a member's name and the colon.
    fn key(&mut self) -> Result<&'a [u8], JsonError> {
        self.skip_space();
        let start = self.at;
        self.string()?;
        let token = &self.text[start..self.at];
        self.skip_space();
        self.expect(b':')?;
        Ok(token)
    }

    /// Scans one value of any kind.
    fn value(&mut self) -> Result<(), JsonError> {
        let mut closers = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    if closers.len() == MAX_DEPTH {
                        return Err(JsonError::TooDeep { at: self.at });
                    }
                    let closer = if open == b'{' { b'}' } else { b']' };
                    self.skip_space();
                    if self.peek() != Some(closer) {
                        closers.push(closer);
                        self.member_name(closer)?;
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.syntax()),
            }
            if !self.next_element(&mut closers)? {
                return Ok(());
            }
        }
    }

    /// Closes the brackets that end here and skips the comma before the next element. `false`: the outermost value is
    /// complete.
    fn next_element(&mut self, closers: &mut Vec<u8>) -> Result<bool, JsonError> {
        while let Some(&closer) = closers.last() {
            self.skip_space();
            let byte = self.peek();
            if byte == Some(b',') {
                self.at += 1;
                self.member_name(closer)?;
                return Ok(true);
            }
            if byte != Some(closer) {
                return Err(self.syntax());
            }
            self.at += 1;
            closers.pop();
        }
        Ok(false)
    }

    fn member_name(&mut self, closer: u8) -> Result<(), JsonError> {
        if closer == b'}' {
            self.key()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                        return Err(self.syntax());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.syntax())
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(())
    }

    /// Skips white space.
    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The syntax error for this position.
    pub(super) fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}
