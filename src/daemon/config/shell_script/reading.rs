//! Reads a script: assigns its variables, follows the files that it reads, and collects its commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::expansion::{Place, Value, Variables};
use super::lexer::{Part, Token, Word, tokens};
use crate::daemon::config::flags::Argument;
use crate::daemon::config::host_files::HostFiles;
use crate::daemon::config::setting::Origin;
use crate::docker::ReadError;

/// The number of files that a script may read, so that two that read each other come to an end.
const MAX_SOURCED: usize = 32;

/// The number of commands that are kept.
const MAX_COMMANDS: usize = 4096;

/// Words in front of a command that are not part of it.
const KEYWORDS: [&str; 12] = [
    "if", "then", "else", "elif", "while", "until", "do", "{", "!", "fi", "done", "}",
];

/// Commands that set variables.
const DECLARATIONS: [&str; 6] = ["export", "readonly", "local", "declare", "typeset", "env"];

/// What a script does, as far as its text shows it.
#[derive(Debug)]
pub(in crate::daemon::config) struct Script {
    /// Its commands, each with its words.
    pub(in crate::daemon::config) commands: Vec<Vec<Argument>>,
    /// The names of the variables that it uses.
    pub(in crate::daemon::config) used: BTreeSet<String>,
    /// The files that it reads variables from, as paths on the host.
    pub(in crate::daemon::config) sourced: Vec<PathBuf>,
    /// Files that could not be read.
    pub(in crate::daemon::config) errors: Vec<ReadError>,
    variables: Variables,
}

impl Script {
    /// A variable's value at the end.
    pub(in crate::daemon::config) fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.values.get(name)
    }
}

/// A shell that only reads.
#[derive(Debug)]
pub(in crate::daemon::config) struct Shell<'a> {
    files: &'a HostFiles,
    script: Script,
}

impl<'a> Shell<'a> {
    /// One that reads a script of this name.
    pub(in crate::daemon::config) fn new(files: &'a HostFiles, script_name: &str) -> Self {
        Self {
            files,
            script: Script {
                commands: Vec::new(),
                used: BTreeSet::new(),
                sourced: Vec::new(),
                errors: Vec::new(),
                variables: Variables::new(script_name),
            },
        }
    }

    /// Sets a variable beforehand.
    pub(in crate::daemon::config) fn set(
        &mut self,
        name: &str,
        (text, origin): (&str, &Origin),
        is_exported: bool,
    ) {
        let value = Value::new(text, origin, is_exported);
        self.script.variables.values.insert(name.to_owned(), value);
    }

    /// Sets the script's arguments.
    pub(in crate::daemon::config) fn set_arguments(&mut self, arguments: Vec<Argument>) {
        self.script.variables.positional = arguments;
    }

    /// Reads a file of variables before the script, as its interpreter does.
    pub(in crate::daemon::config) fn source(&mut self, path: &Path) {
        if self.script.sourced.len() >= MAX_SOURCED {
            return;
        }
        self.script.sourced.push(path.to_owned());
        match self.files.read(path) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                let place = Place::File(self.files.place(path));
                self.run(&String::from_utf8_lossy(&text), &place);
            }
            Err(error) => self.script.errors.push(error),
        }
    }

    /// Reads a script that is a file of the host.
    pub(in crate::daemon::config) fn read(mut self, text: &str, path: &Path) -> Script {
        self.run(text, &Place::File(self.files.place(path)));
        self.finish()
    }

    /// Reads a script that is written on one line of another file.
    pub(in crate::daemon::config) fn read_line(mut self, text: &str, origin: Origin) -> Script {
        self.run(text, &Place::Line(origin));
        self.finish()
    }

    fn finish(mut self) -> Script {
        self.script.used = std::mem::take(&mut self.script.variables.used);
        self.script
    }

    fn run(&mut self, text: &str, place: &Place) {
        let mut words = Vec::new();
        for token in tokens(text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::End => self.command(&std::mem::take(&mut words), place),
            }
        }
    }

    fn command(&mut self, words: &[Word], place: &Place) {
        let is_keyword = |word: &&Word| !word.is_quoted && KEYWORDS.contains(&word.head());
        let skipped = words.iter().take_while(is_keyword).count();
        let mut words = &words[skipped..];
        let first = words.first().map_or("", Word::head);
        if ["for", "case", "function"].contains(&first) {
            return;
        }
        // `env` without an assignment is a command that starts another one.
        let sets = |word: &Word| assignment(word).is_some();
        let declares =
            DECLARATIONS.contains(&first) && (first != "env" || words.get(1).is_some_and(sets));
        if declares {
            words = &words[1..];
        }
        while let Some((name, value)) = words.first().and_then(assignment) {
            let mut value = self.script.variables.value(&value, place);
            let known = self.script.variables.values.get(name);
            value.is_exported =
                declares || words.len() > 1 || known.is_some_and(|known| known.is_exported);
            self.script.variables.values.insert(name.to_owned(), value);
            words = &words[1..];
        }
        if first == "export" {
            for name in words.iter().map(Word::head) {
                if let Some(value) = self.script.variables.values.get_mut(name) {
                    value.is_exported = true;
                }
            }
            return;
        }
        let mut arguments = Vec::new();
        for word in words {
            arguments.extend(self.script.variables.words(word, place));
        }
        self.perform(arguments);
    }

    fn perform(&mut self, arguments: Vec<Argument>) {
        let texts: Vec<&str> = arguments.iter().map(|one| &*one.text).take(2).collect();
        match texts[..] {
            [] | [":", ..] => {}
            ["." | "source", path] => self.source(&Path::new("/").join(path)),
            ["set", "--"] => self.script.variables.positional = arguments[2..].to_vec(),
            _ if self.script.commands.len() < MAX_COMMANDS => self.script.commands.push(arguments),
            _ => {}
        }
    }
}

/// The name and the value of a word that is an assignment.
fn assignment(word: &Word) -> Option<(&str, Vec<Part>)> {
    let Some(Part::Literal { text, line }) = word.parts.first() else {
        return None;
    };
    let (name, value) = text.split_once('=')?;
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    if !is_name(name) {
        return None;
    }
    let rest = Part::Literal {
        text: value.to_owned(),
        line: *line,
    };
    let parts = std::iter::once(rest).chain(word.parts[1..].iter().cloned());
    Some((name, parts.collect()))
}
