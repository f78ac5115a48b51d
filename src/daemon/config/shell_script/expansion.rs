//! The values of variables, with the places where they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::lexer::{Part, Word};
use crate::daemon::config::flags::Argument;
use crate::daemon::config::setting::Origin;
use crate::daemon::config::words;

/// The number of bytes that expansion may add in all: values can double with each line.
const MAX_EXPANDED: usize = 1 << 20; // 1 MiB

/// A value: texts with the places where they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon::config) struct Value {
    pieces: Vec<(String, Origin)>,
    /// Whether programs get it in their environment.
    pub(in crate::daemon::config) is_exported: bool,
}

impl Value {
    pub(in crate::daemon::config) fn new(text: &str, origin: &Origin, is_exported: bool) -> Self {
        Self {
            pieces: vec![(text.to_owned(), origin.clone())],
            is_exported,
        }
    }

    /// The whole text, and the place where it begins.
    pub(in crate::daemon::config) fn text(&self) -> (String, Origin) {
        let text = self.pieces.iter().map(|(text, _)| &**text).collect();
        let origin = self.pieces.first().map(|(_, origin)| origin.clone());
        (text, origin.unwrap_or_default())
    }

    /// Its words as a command line that is read once more, each with the place where it begins.
    pub(in crate::daemon::config) fn words(&self) -> Vec<Argument> {
        let origin_of = |at: usize| {
            let mut end = 0;
            let mut pieces = self.pieces.iter();
            let piece = pieces.find(|(text, _)| {
                end += text.len();
                at < end
            });
            piece.map(|(_, origin)| origin.clone()).unwrap_or_default()
        };
        let argument = |word: words::Word| Argument {
            text: word.text,
            origin: origin_of(word.at),
        };
        words::split(&self.text().0)
            .into_iter()
            .map(argument)
            .collect()
    }
}

/// Where a script is written.
#[derive(Clone, Debug)]
pub(in crate::daemon::config) enum Place {
    /// A file, as a path on this system.
    File(PathBuf),
    /// One line of another file.
    Line(Origin),
}

impl Place {
    pub(super) fn origin(&self, line: usize) -> Origin {
        match self {
            Self::File(path) => Origin {
                path: path.clone(),
                line,
            },
            Self::Line(origin) => origin.clone(),
        }
    }
}

/// The variables of a shell.
#[derive(Debug)]
pub(super) struct Variables {
    pub(super) values: BTreeMap<String, Value>,
    /// The names that were used.
    pub(super) used: BTreeSet<String>,
    /// The arguments of the script.
    pub(super) positional: Vec<Argument>,
    /// The name of the script without its directory.
    pub(super) script_name: String,
    /// Bytes that expansion may still add.
    left: usize,
}

impl Variables {
    pub(super) fn new(script_name: &str) -> Self {
        Self {
            values: BTreeMap::new(),
            used: BTreeSet::new(),
            positional: Vec::new(),
            script_name: script_name.to_owned(),
            left: MAX_EXPANDED,
        }
    }

    /// The value of a word's parts, which is not split.
    pub(super) fn value(&mut self, parts: &[Part], place: &Place) -> Value {
        let mut value = Value::default();
        let mut line = 0;
        for part in parts {
            match part {
                Part::Literal { text, line: at } => {
                    line = *at;
                    value.pieces.push((text.clone(), place.origin(line)));
                }
                Part::Variable { .. } => value.pieces.extend(self.expand(part, place)),
                Part::Positional => {
                    for argument in self.positional.clone() {
                        value.pieces.push((argument.text + " ", argument.origin));
                    }
                }
                Part::Unknown(text) => {
                    value
                        .pieces
                        .push((self.substituted(text), place.origin(line)));
                }
            }
        }
        value
    }

    /// The words that a word becomes.
    pub(super) fn words(&mut self, word: &Word, place: &Place) -> Vec<Argument> {
        let mut words = Vec::new();
        let mut open: Option<Argument> = word.is_quoted.then(|| Argument {
            text: String::new(),
            origin: place.origin(word.line),
        });
        for part in &word.parts {
            let (pieces, splits) = match part {
                Part::Positional => {
                    let mut all = self.positional.clone().into_iter();
                    if let Some(first) = all.next() {
                        append(&mut open, &first.text, &first.origin);
                    } else {
                        // `"$@"` without arguments is no word.
                        open = open.filter(|word| !word.text.is_empty());
                    }
                    for next in all {
                        words.extend(open.replace(next));
                    }
                    continue;
                }
                Part::Variable { is_quoted, .. } => (self.expand(part, place), !is_quoted),
                Part::Literal { text, line } => (vec![(text.clone(), place.origin(*line))], false),
                Part::Unknown(text) => (
                    vec![(self.substituted(text), place.origin(word.line))],
                    false,
                ),
            };
            for (text, origin) in pieces {
                if splits {
                    split(&text, &origin, &mut open, &mut words);
                } else {
                    append(&mut open, &text, &origin);
                }
            }
        }
        words.extend(open);
        words
    }

    /// The value of a variable, or what is taken instead.
    fn expand(&mut self, part: &Part, place: &Place) -> Vec<(String, Origin)> {
        let Part::Variable {
            name,
            otherwise,
            assigns,
            ..
        } = part
        else {
            return Vec::new();
        };
        self.used.insert(name.clone());
        let known = self.values.get(name);
        let known = known.filter(|value| value.pieces.iter().any(|(text, _)| !text.is_empty()));
        let value = match known {
            Some(value) => value.clone(),
            None => self.value(otherwise, place),
        };
        let bytes: usize = value.pieces.iter().map(|(text, _)| text.len() + 1).sum();
        if bytes > self.left {
            return Vec::new();
        }
        self.left -= bytes;
        if *assigns {
            self.values.insert(name.clone(), value.clone());
        }
        value.pieces
    }

    /// What stands for text that only the running shell knows. Its own name is known.
    fn substituted(&self, text: &str) -> String {
        let inner = text.trim_matches(['$', '(', ')', '`', ' ']);
        if inner.starts_with("basename ") && inner.contains("$0") || text == "${0##*/}" {
            return self.script_name.clone();
        }
        text.to_owned()
    }
}

fn append(open: &mut Option<Argument>, text: &str, origin: &Origin) {
    match open {
        Some(word) => {
            if word.text.is_empty() {
                word.origin = origin.clone();
            }
            word.text.push_str(text);
        }
        None => {
            *open = Some(Argument {
                text: text.to_owned(),
                origin: origin.clone(),
            });
        }
    }
}

/// Appends a text, with a new word after each blank.
fn split(text: &str, origin: &Origin, open: &mut Option<Argument>, words: &mut Vec<Argument>) {
    for (index, part) in text
        .split(|letter: char| letter.is_whitespace())
        .enumerate()
    {
        if index > 0 {
            words.extend(open.take());
        }
        if !part.is_empty() {
            append(open, part, origin);
        }
    }
}
