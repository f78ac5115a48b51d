//! A strict scanner for JSON objects that reports *where* each value is. It reads as Go's decoder does.
//!
//! A container's config must change in one value and in no other byte, so a parser that builds values and prints them
//! again is of no use. Keys are compared as in Go: case is ignored, a later key replaces an earlier one, and `null`
//! changes nothing. Nesting is tracked with a list, never by recursion.

use super::scanner::{Scanner, decode_string};
use super::value::{JsonError, Member, Object};

impl<'a> Object<'a> {
    /// The whole text that contains the object.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Reads a text that is one object and otherwise only white space.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
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

    /// Reads the object that a text begins with, and ignores what follows it, as Go's `json.Decoder` does. Docker reads
    /// containers' configs and the file of image names in this way. Source: moby v20.10 `container/container.go`,
    /// `FromDisk` and `readHostConfig`, and `reference/store.go`, `reload`.
    pub(crate) fn parse_first(text: &'a [u8]) -> Result<Self, JsonError> {
        if text.is_empty() {
            return Err(JsonError::Empty);
        }
        Scanner { text, at: 0 }.object()
    }

    /// Its members in file order.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The last value of `key` that is not `null`.
    pub(in crate::docker) fn raw(&self, key: &str) -> Option<&'a [u8]> {
        self.all(key).last()
    }

    /// The values of `key` that are not `null`, in file order.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &'a [u8]> {
        let texts = self.members.iter().filter(move |member| member.is(key));
        texts
            .map(|member| &self.text[member.value.clone()])
            .filter(|value| *value != b"null")
    }

    /// A string. Every occurrence must be one, because Go fails at the first that is not.
    pub(crate) fn string(&self, key: &'static str) -> Result<Option<String>, JsonError> {
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

    /// A boolean.
    pub(in crate::docker) fn boolean(&self, key: &'static str) -> Result<Option<bool>, JsonError> {
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

    /// An integer. Refuses `0.0` and `1e3`, as Go does for integer fields.
    pub(in crate::docker) fn integer(&self, key: &'static str) -> Result<Option<i64>, JsonError> {
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

    /// An object. Go decodes several objects of the same name into one value, so their members are merged.
    pub(crate) fn object(&self, key: &'static str) -> Result<Option<Object<'a>>, JsonError> {
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
    fn what_follows_an_object_matters_only_where_go_looks_at_it() {
        for text in ["{}x", "{\"a\":1}}", "{}\0\0", "{} {}"] {
            assert!(Object::parse(text.as_bytes()).is_err(), "{text}");
            assert!(Object::parse_first(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "x{}", "{\"a\":1", "\0\0"] {
            assert!(Object::parse_first(text.as_bytes()).is_err(), "{text}");
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
