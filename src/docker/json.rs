//! A strict scanner for JSON objects that tells *where* each value lies, read the way Go's decoder reads it.
//!
//! A container's config must change in one value and in no other byte, so a parser that builds values and prints them
//! again is of no use. Keys are compared as Go does: without regard to case, a later one replaces an earlier one, `null`
//! changes nothing. Nesting is followed with a list, never by recursion.

use std::ops::Range;

use thiserror::Error;

/// The deepest nesting that Go's decoder accepts. Source: Go 1.15 `encoding/json/scanner.go`, `maxNestingDepth`.
const MAX_DEPTH: usize = 10_000;

/// What is wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Zero bytes, which is what a power cut leaves of a file that was just written.
    #[error("is empty")]
    Empty,
    /// Not JSON, from this byte on.
    #[error("is not JSON at byte {at}")]
    Syntax {
        /// Position in bytes from 0.
        at: usize,
    },
    /// Brackets nested deeper than Docker itself accepts.
    #[error("is nested deeper than {MAX_DEPTH} levels at byte {at}")]
    TooDeep {
        /// Position in bytes from 0.
        at: usize,
    },
    /// A value of another type than Docker writes there.
    #[error("{key}: is not {expected}")]
    WrongType {
        /// The member's name as Docker spells it.
        key: &'static str,
        /// What Docker writes there.
        expected: &'static str,
    },
    /// A member that must be there is not.
    #[error("{key}: is missing")]
    Missing {
        /// The member's name as Docker spells it.
        key: &'static str,
    },
}

/// A member of an object.
#[derive(Clone, Debug)]
pub(super) struct Member {
    key: String,
    /// Where the value's text lies in the file.
    pub(super) value: Range<usize>,
}

impl Member {
    /// Whether Go's decoder would put it in the field `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.key.chars().map(fold).eq(name.chars().map(fold))
    }
}

/// Go folds ASCII case, and the two letters beyond ASCII whose simple case folding is an ASCII letter.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// An object whose text was found to be sound, with the places of its members.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    text: &'a [u8],
    members: Vec<Member>,
    /// The byte after the opening brace.
    pub(super) inside: usize,
}

impl<'a> Object<'a> {
    /// Reads a text that is one object and nothing else but white space.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        if text.is_empty() {
            return Err(JsonError::Empty);
        }
        let mut scanner = Scanner { text, at: 0 };
        let object = scanner.object()?;
        scanner.skip_space();
        if scanner.at < text.len() {
            return Err(scanner.syntax());
        }
        Ok(object)
    }

    /// Its members in file order.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The last value of `key` that is not `null`.
    pub(super) fn raw(&self, key: &str) -> Option<&'a [u8]> {
        self.all(key).last()
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a [u8]> {
        let texts = self.members.iter().filter(move |member| member.is(key));
        texts
            .map(|member| &self.text[member.value.clone()])
            .filter(|value| *value != b"null")
    }

    /// A string. Every occurrence must be one, for Go gives up at the first that is not.
    pub(super) fn string(&self, key: &'static str) -> Result<Option<String>, JsonError> {
        let mut last = None;
        for value in self.all(key) {
            if value[0] != b'"' {
                return Err(JsonError::WrongType {
                    key,
                    expected: "a string",
                });
            }
            last = Some(decode_string(value));
        }
        Ok(last)
    }

    /// A truth value.
    pub(super) fn boolean(&self, key: &'static str) -> Result<Option<bool>, JsonError> {
        match self.raw(key) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(JsonError::WrongType {
                key,
                expected: "true or false",
            }),
        }
    }

    /// A whole number. `0.0` and `1e3` are refused, as Go does for integer fields.
    pub(super) fn integer(&self, key: &'static str) -> Result<Option<i64>, JsonError> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        number.map(Some).ok_or(JsonError::WrongType {
            key,
            expected: "a whole number",
        })
    }

    /// An object. Go decodes several of one name into the same value, so their members are put together.
    pub(super) fn object(&self, key: &'static str) -> Result<Option<Object<'a>>, JsonError> {
        let mut merged: Option<Object<'a>> = None;
        for member in self.members.iter().filter(|member| member.is(key)) {
            match self.text[member.value.start] {
                b'n' => continue,
                b'{' => {}
                _ => {
                    return Err(JsonError::WrongType {
                        key,
                        expected: "an object",
                    });
                }
            }
            let mut scanner = Scanner {
                text: self.text,
                at: member.value.start,
            };
            let object = scanner.object()?;
            match &mut merged {
                None => merged = Some(object),
                Some(merged) => merged.members.extend(object.members),
            }
        }
        Ok(merged)
    }
}

/// The value of a string token. What Go cannot represent (lone surrogates, bytes that are not UTF-8) becomes U+FFFD.
fn decode_string(token: &[u8]) -> String {
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

/// Reads what follows `\u`, and a second escape where the first is the high half of a pair.
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

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn object(&mut self) -> Result<Object<'a>, JsonError> {
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
            let key = decode_string(self.key()?);
            self.skip_space();
            let start = self.at;
            self.value()?;
            members.push(Member {
                key,
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

    /// Passes a member's name and the colon.
    fn key(&mut self) -> Result<&'a [u8], JsonError> {
        self.skip_space();
        let start = self.at;
        self.string()?;
        let token = &self.text[start..self.at];
        self.skip_space();
        self.expect(b':')?;
        Ok(token)
    }

    /// Passes one value of any kind.
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

    /// Closes what ends here and passes the comma before the next element. `false`: the outermost value is complete.
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

    fn skip_space(&mut self) {
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

    fn syntax(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_with_their_places() {
        let text = br#" {"a": [1,{"Driver":2}], "\u0044river" : "x\n" } "#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.members().len(), 2);
        assert!(object.members()[1].is("driver"));
        assert_eq!(&text[object.members()[1].value.clone()], br#""x\n""#);
        assert_eq!(object.string("Driver").unwrap().as_deref(), Some("x\n"));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[]",
            "{}x",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":.5}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":tru}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":{\"b\"]}",
            "{\"a\":1 \"b\":2}",
            "\u{feff}{}",
            "{\"a\":NaN}",
            "{\"a\":\"\\",
            "{\"a\":\"\\u00",
        ] {
            assert!(Object::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_go_accepts_is_accepted() {
        for text in [
            "{}",
            " {\t\r\n} ",
            "{\"a\":-0.5e+3}",
            "{\"a\":18446744073709551615}",
            "{\"\":null}",
            "{\"a\":[[],{},[{}]]}",
            "{\"a\":\"\\\"\\\\\\/\\u00e9\"}",
        ] {
            assert!(Object::parse(text.as_bytes()).is_ok(), "{text}");
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_ok());
    }

    #[test]
    fn a_later_key_of_any_case_wins_and_null_changes_nothing() {
        let object = Object::parse(br#"{"Name":"a","nAME":"b","name":null}"#).unwrap();
        assert_eq!(object.string("Name").unwrap().as_deref(), Some("b"));
        let object =
            Object::parse("{\"\u{17f}tate\":{\"Pid\":1},\"State\":{\"pid\":2}}".as_bytes())
                .unwrap();
        let state = object.object("State").unwrap().unwrap();
        assert_eq!(state.integer("Pid"), Ok(Some(2)));
    }

    #[test]
    fn values_of_the_wrong_type_are_named() {
        let object = Object::parse(br#"{"s":1,"i":0.0,"b":"true","o":[]}"#).unwrap();
        assert_eq!(
            object.string("s").unwrap_err().to_string(),
            "s: is not a string"
        );
        assert!(object.integer("i").is_err());
        assert!(object.boolean("b").is_err());
        assert!(object.object("o").is_err());
    }

    #[test]
    fn escapes_are_decoded_as_go_does() {
        for (token, text) in [
            (&br#""\ud83d\ude00""#[..], "\u{1f600}"),
            (br#""\ud83dx""#, "\u{fffd}x"),
            (br#""\ud83d\u0041""#, "\u{fffd}A"),
            (br#""\ude00""#, "\u{fffd}"),
            (br#""\u0041\u0042""#, "AB"),
            (b"\"\xff\"", "\u{fffd}"),
            (br#""\b\f\n\r\t\/""#, "\u{8}\u{c}\n\r\t/"),
        ] {
            assert_eq!(decode_string(token), text);
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let mut text = b"{\"a\":".to_vec();
        text.extend(vec![b'['; 5_000_000]);
        assert!(matches!(
            Object::parse(&text),
            Err(JsonError::TooDeep { .. })
        ));
    }
}
