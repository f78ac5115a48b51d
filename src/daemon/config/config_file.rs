//! `daemon.json`: reads its storage settings, and edits them without changing any other byte.
//!
//! The daemon takes keys by their exact spelling and refuses to start with an unknown one, unlike with the JSON that it
//! writes itself. Source: moby v20.10 `daemon/config/config.go`, `getConflictFreeConfiguration`.

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use super::daemon_options::{KeyMeaning, is_object, key_meaning};
use super::setting::{Directive, Origin, Setting, Way};
use crate::devicemapper::Version;
use crate::docker::{JsonError, Member, Object, decode_string};
use crate::tree::shown;

/// UTF-8's byte-order mark, which editors on Windows write.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The directives that are read.
const DIRECTIVES: [Directive; 6] = [
    Directive::Driver,
    Directive::Options,
    Directive::Graph,
    Directive::DataRoot,
    Directive::UsernsRemap,
    Directive::PidFile,
];

/// Why a `daemon.json` cannot be read or edited.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The text is not JSON, for example because it has comments.
    #[error("{source}")]
    Json {
        /// Where and why.
        source: JsonError,
        /// The line, from 1.
        line: usize,
    },
    /// A value of a type other than the one that the daemon takes there.
    #[error("{key}: is not {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The type that belongs there.
        expected: &'static str,
        /// The line, from 1.
        line: usize,
    },
    /// A key that occurs more than once, so its meaning is ambiguous.
    #[error("{key}: occurs twice")]
    Twice {
        /// The key.
        key: &'static str,
        /// The line of the second one, from 1.
        line: usize,
    },
}

impl ConfigError {
    /// The error as a message about this file.
    pub(in crate::daemon) fn at(&self, place: &Path) -> String {
        let (Self::Json { line, .. } | Self::WrongType { line, .. } | Self::Twice { line, .. }) =
            self;
        format!("{}, line {line}: {self}", shown(place))
    }
}

/// The storage settings in a `daemon.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Config {
    /// Each value with its line.
    values: Vec<(Directive, String, usize)>,
    /// All that the daemon takes for a key, each with its line.
    keys: Vec<(String, usize)>,
    /// Whether the text begins with a byte-order mark.
    pub(in crate::daemon) has_mark: bool,
    /// Whether the file has nothing but white space.
    pub(in crate::daemon) is_empty: bool,
}

impl Config {
    /// Reads a file's text; an empty text has no settings.
    pub(super) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let without_mark = text.strip_prefix(MARK);
        config.has_mark = without_mark.is_some();
        let text = without_mark.unwrap_or(text);
        if text.iter().all(u8::is_ascii_whitespace) {
            config.is_empty = true;
            return Ok(config);
        }
        let object = parse_object(text)?;
        let lines = Lines::of(text);
        config.keys = keys(text, &object, &lines);
        for directive in DIRECTIVES {
            let members = object.members().iter();
            let exact: Vec<_> = members.filter(|one| one.key == directive.key()).collect();
            if let [_, second, ..] = exact[..] {
                let line = lines.line_of(second.key_at);
                let key = directive.key();
                return Err(ConfigError::Twice { key, line });
            }
            for token in exact
                .first()
                .map_or(Ok(Vec::new()), |one| strings(text, directive, one))?
            {
                let value = decode_string(&text[token.clone()]);
                config
                    .values
                    .push((directive, value, lines.line_of(token.start)));
            }
        }
        Ok(config)
    }

    /// The keys that are no options of this release, each with its line and what Docker makes of it.
    pub(in crate::daemon) fn odd_keys(
        &self,
        version: Option<Version>,
    ) -> Vec<(&str, usize, KeyMeaning)> {
        let keys = self.keys.iter();
        let meanings = keys.map(|(key, line)| (&**key, *line, key_meaning(key, version)));
        meanings
            .filter(|(.., meaning)| *meaning != KeyMeaning::Option)
            .collect()
    }

    /// The settings in it.
    pub(super) fn told(&self, place: &Path) -> impl Iterator<Item = Setting> {
        self.values.iter().map(|(directive, value, line)| Setting {
            directive: *directive,
            value: value.clone(),
            way: Way::File,
            origin: Origin {
                path: place.to_path_buf(),
                line: *line,
            },
        })
    }
}

/// All that the daemon takes for a key: the members of an object that is no option of its own count, not its name.
fn keys(text: &[u8], object: &Object<'_>, lines: &Lines) -> Vec<(String, usize)> {
    let mut keys = Vec::new();
    for member in object.members() {
        let value = &text[member.value.clone()];
        let inner = (value.first() == Some(&b'{') && !is_object(&member.key))
            .then(|| Object::parse(value).ok())
            .flatten();
        match inner {
            Some(inner) => {
                let at = |one: &Member| lines.line_of(member.value.start + one.key_at);
                keys.extend(inner.members().iter().map(|one| (one.key.clone(), at(one))));
            }
            None => keys.push((member.key.clone(), lines.line_of(member.key_at))),
        }
    }
    keys
}

/// The string tokens of a directive's value.
fn strings(
    text: &[u8],
    directive: Directive,
    member: &Member,
) -> Result<Vec<Range<usize>>, ConfigError> {
    let wrong = |expected| ConfigError::WrongType {
        key: directive.key(),
        expected,
        line: Lines::of(text).line_of(member.value.start),
    };
    match (text[member.value.start], directive) {
        (b'n', _) => Ok(Vec::new()), // null
        (b'[', Directive::Options) => {
            elements(text, &member.value).ok_or_else(|| wrong("a list of strings"))
        }
        (_, Directive::Options) => Err(wrong("a list of strings")),
        (b'"', _) => Ok(vec![member.value.clone()]),
        _ => Err(wrong("a string")),
    }
}

/// The positions of the elements of a list that is known to be JSON; `None` if one of them is not a string.
fn elements(text: &[u8], list: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let mut elements = Vec::new();
    let mut at = list.start + 1;
    while at < list.end - 1 {
        match text[at] {
            b'"' => {
                let start = at;
                at += 1;
                while text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                elements.push(start..at);
            }
            b',' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => return None,
        }
    }
    Some(elements)
}

fn parse_object(text: &[u8]) -> Result<Object<'_>, ConfigError> {
    Object::parse(text).map_err(|source| {
        let at = match source {
            JsonError::Syntax { at } | JsonError::TooDeep { at } => at,
            _ => 0,
        };
        let line = Lines::of(text).line_of(at);
        ConfigError::Json { source, line }
    })
}

/// Where each line after the first begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &[u8]) -> Self {
        let ends = (0..text.len()).filter(|at| text[*at] == b'\n');
        Self(ends.map(|end| end + 1).collect())
    }

    /// The line, from 1, that contains a byte.
    fn line_of(&self, at: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= at)
    }
}

/// The changes to make in a `daemon.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The storage driver to set.
    pub driver: Option<&'static str>,
    /// Storage options to remove, in the form in which they are written there.
    pub drop: Vec<String>,
    /// Storage options to add.
    pub add: Vec<String>,
}

impl Change {
    /// The members to write by hand into a `daemon.json` that has none of them.
    pub(in crate::daemon) fn members(&self) -> Vec<String> {
        let driver = self
            .driver
            .map(|driver| member(Directive::Driver, &quoted(driver)));
        let options = (!self.add.is_empty()).then(|| member(Directive::Options, &list(&self.add)));
        driver.into_iter().chain(options).collect()
    }
}

/// The file's text with a change made. Keeps every other byte: the order of keys, white space, unknown keys. An empty
/// text becomes a new file.
///
/// # Errors
///
/// The text is not JSON as the daemon reads it. That includes a text with a byte-order mark.
pub fn edit(text: &[u8], change: &Change) -> Result<Vec<u8>, ConfigError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        let members = change.members();
        return Ok(match &members[..] {
            [] => text.to_vec(),
            _ => format!("{{\n    {}\n}}\n", members.join(",\n    ")).into_bytes(),
        });
    }
    Config::parse(text)?;
    let object = parse_object(text)?;
    let find = |directive: Directive| {
        object
            .members()
            .iter()
            .find(|one| one.key == directive.key())
    };
    let mut edits: Vec<Edit> = Vec::new();
    let mut missing = Change::default();
    match (find(Directive::Driver), change.driver) {
        (_, None) => {}
        (None, driver) => missing.driver = driver,
        (Some(member), Some(driver)) => edits.push((member.value.clone(), quoted(driver).into())),
    }
    match find(Directive::Options) {
        Some(member) => edits.extend(edit_list(text, member, change)?),
        None => missing.add.clone_from(&change.add),
    }
    edits.sort_by_key(|(place, _)| place.start);
    // After the last member, so after all other edits.
    edits.extend(insertion(text, &object, &missing.members()));
    Ok(apply(text, edits))
}

/// A range of bytes and its replacement.
type Edit = (Range<usize>, Vec<u8>);

fn apply(text: &[u8], edits: Vec<Edit>) -> Vec<u8> {
    let mut edited = Vec::with_capacity(text.len() + 256);
    let mut copied = 0;
    for (place, new) in edits {
        edited.extend_from_slice(&text[copied..place.start]);
        edited.extend_from_slice(&new);
        copied = place.end;
    }
    edited.extend_from_slice(&text[copied..]);
    edited
}

/// A list with elements removed and added, in its existing layout. `None` if nothing changes.
fn edit_list(text: &[u8], member: &Member, change: &Change) -> Result<Option<Edit>, ConfigError> {
    let places = strings(text, Directive::Options, member)?;
    let keep = |place: &&Range<usize>| {
        !change
            .drop
            .contains(&decode_string(&text[(*place).clone()]))
    };
    let kept: Vec<_> = places.iter().filter(keep).collect();
    if kept.len() == places.len() && change.add.is_empty() {
        return Ok(None);
    }
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Ok(Some((member.value.clone(), list(&change.add).into())));
    };
    let head = &text[member.value.start + 1..first.start];
    let between = match &places[..] {
        [.., before, last] => text[before.end..last.start].to_vec(),
        _ => comma_and(head),
    };
    let kept = kept.into_iter().map(|place| text[place.clone()].to_vec());
    let added = change.add.iter().map(|one| quoted(one).into_bytes());
    let all: Vec<Vec<u8>> = kept.chain(added).collect();
    let new = if all.is_empty() {
        b"[]".to_vec()
    } else {
        let tail = &text[last.end..member.value.end - 1];
        [b"[", head, &all.join(&between[..]), tail, b"]"].concat()
    };
    Ok(Some((member.value.clone(), new)))
}

/// New members after the last one, laid out like the others.
fn insertion(text: &[u8], object: &Object<'_>, members: &[String]) -> Option<Edit> {
    if members.is_empty() {
        return None;
    }
    let (at, between) = match object.members() {
        [] => {
            let rest = text[object.inside..]
                .iter()
                .take_while(|byte| **byte != b'}');
            let tail = if rest.into_iter().any(|byte| *byte == b'\n') {
                ""
            } else {
                "\n"
            };
            let new = format!("\n    {}{tail}", members.join(",\n    "));
            return Some((object.inside..object.inside, new.into()));
        }
        [only] => {
            let head = &text[object.inside..only.key_at];
            (only.value.end, comma_and(head))
        }
        [.., before, last] => (last.value.end, text[before.value.end..last.key_at].to_vec()),
    };
    let new = members
        .iter()
        .flat_map(|member| [&between[..], member.as_bytes()]);
    Some((at..at, new.collect::<Vec<_>>().concat()))
}

/// The separator between two elements, if only the text before the first element is known.
fn comma_and(head: &[u8]) -> Vec<u8> {
    let space: &[u8] = if head.is_empty() { b" " } else { head };
    [b",", space].concat()
}

fn member(directive: Directive, value: &str) -> String {
    format!("\"{}\": {value}", directive.key())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("strings can always be written")
}

fn list(all: &[String]) -> String {
    let all: Vec<_> = all.iter().map(|one| quoted(one)).collect();
    format!("[{}]", all.join(", "))
}
