//! Splits a shell script into words and the ends of commands.

/// The number of levels that `${A:-${B:-…}}` may have.
const MAX_DEPTH: usize = 8;

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text that stands for itself, and its line from 1.
    Literal { text: String, line: usize },
    /// A variable.
    Variable {
        name: String,
        /// Whether it is in double quotes, so that its value is not split.
        is_quoted: bool,
        /// What is taken if it has no value.
        otherwise: Vec<Part>,
        /// Whether it then gets that value.
        assigns: bool,
    },
    /// `$@` and `$*`.
    Positional,
    /// What only the running shell knows, such as the output of a command, as it is written.
    Unknown(String),
}

/// A word of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    /// The line where it begins, from 1.
    pub(super) line: usize,
    /// Whether any of it is in quotes, so that it is a word even if it is empty.
    pub(super) is_quoted: bool,
}

impl Word {
    /// The text in front of the first variable, if the word begins with plain text.
    pub(super) fn head(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal { text, .. }) => text,
            _ => "",
        }
    }
}

/// What a script consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// The end of a command.
    End,
}

/// All tokens of a script.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
        depth: 0,
        here: Vec::new(),
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token() {
        tokens.push(token);
    }
    tokens.push(Token::End);
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    depth: usize,
    /// The words that end the here-documents that begin after this line.
    here: Vec<String>,
}

impl Lexer<'_> {
    fn token(&mut self) -> Option<Token> {
        loop {
            let letter = self.rest.chars().next()?;
            match letter {
                ' ' | '\t' | '\r' => self.skip(1),
                '\\' if self.rest.starts_with("\\\n") => self.skip(2),
                '#' => self.skip(self.rest.find('\n').unwrap_or(self.rest.len())),
                '\n' => {
                    self.skip(1);
                    self.skip_here_documents();
                    return Some(Token::End);
                }
                '&' if self.rest.starts_with("&>") => {
                    self.skip(1);
                    self.redirection();
                }
                ';' | '&' | '|' | '(' | ')' => {
                    self.skip(1);
                    return Some(Token::End);
                }
                '<' | '>' => self.redirection(),
                _ => {
                    let word = self.word();
                    // `2>&1`: the number belongs to the redirection.
                    let is_number = word.head().bytes().all(|byte| byte.is_ascii_digit());
                    if !(is_number && self.rest.starts_with(['<', '>'])) {
                        return Some(Token::Word(word));
                    }
                }
            }
        }
    }

    /// Skips a number of bytes, which must end between two letters.
    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    /// Skips a redirection with its word.
    fn redirection(&mut self) {
        let is_here = self.rest.starts_with("<<") && !self.rest.starts_with("<<<");
        let end = self
            .rest
            .find(|letter| !"<>&|-".contains(letter))
            .unwrap_or(self.rest.len());
        self.skip(end);
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.skip(blanks);
        if self.rest.is_empty() || self.rest.starts_with(['\n', ';', '&', '|', '(', ')']) {
            return;
        }
        let word = self.word();
        if is_here {
            self.here.push(word.head().to_owned());
        }
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.here) {
            while !self.rest.is_empty() {
                let line = self.rest.lines().next().unwrap_or_default();
                let is_end = line.trim_start_matches('\t') == end;
                let bytes = self
                    .rest
                    .find('\n')
                    .map_or(self.rest.len(), |newline| newline + 1);
                self.skip(bytes);
                if is_end {
                    break;
                }
            }
        }
    }

    /// Reads a word up to a blank or the end of the command.
    fn word(&mut self) -> Word {
        let mut word = Word {
            line: self.line,
            ..Word::default()
        };
        let mut is_first = true;
        while let Some(letter) = self.rest.chars().next() {
            match letter {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' if !is_first => {
                    break;
                }
                '\'' => {
                    self.skip(1);
                    word.is_quoted = true;
                    let end = self.rest.find('\'').unwrap_or(self.rest.len());
                    let text = &self.rest[..end];
                    self.push_lines(&mut word.parts, text);
                    self.skip(end);
                    self.skip(usize::from(!self.rest.is_empty()));
                }
                '"' => {
                    self.skip(1);
                    word.is_quoted = true;
                    self.double_quoted(&mut word.parts);
                }
                _ => self.letter(letter, &mut word.parts, false),
            }
            is_first = false;
        }
        word
    }

    fn double_quoted(&mut self, parts: &mut Vec<Part>) {
        while let Some(letter) = self.rest.chars().next() {
            if letter == '"' {
                self.skip(1);
                return;
            }
            self.letter(letter, parts, true);
        }
    }

    /// Reads one letter of a word outside single quotes, or what it introduces.
    fn letter(&mut self, letter: char, parts: &mut Vec<Part>, is_quoted: bool) {
        match letter {
            '\\' => {
                self.skip(1);
                match self.rest.chars().next() {
                    Some('\n') => self.skip(1),
                    Some(next) if !is_quoted || "\"\\`$".contains(next) => {
                        self.literal(next, parts);
                    }
                    _ => self.push(parts, '\\'),
                }
            }
            '$' => {
                self.skip(1);
                self.dollar(parts, is_quoted);
            }
            '`' => {
                self.skip(1);
                let end = self.rest.find('`').unwrap_or(self.rest.len());
                parts.push(Part::Unknown(format!("`{}`", &self.rest[..end])));
                self.skip(end);
                self.skip(usize::from(!self.rest.is_empty()));
            }
            _ => self.literal(letter, parts),
        }
    }

    /// Takes the letter as it is.
    fn literal(&mut self, letter: char, parts: &mut Vec<Part>) {
        self.push(parts, letter);
        self.skip(letter.len_utf8());
    }

    /// Adds a letter; each line has a part of its own.
    fn push(&self, parts: &mut Vec<Part>, letter: char) {
        match parts.last_mut() {
            Some(Part::Literal { text, line }) if *line == self.line => text.push(letter),
            _ => parts.push(Part::Literal {
                text: letter.to_string(),
                line: self.line,
            }),
        }
    }

    fn push_lines(&self, parts: &mut Vec<Part>, text: &str) {
        for (line, text) in (self.line..).zip(text.split_inclusive('\n')) {
            match parts.last_mut() {
                Some(Part::Literal {
                    text: known,
                    line: at,
                }) if *at == line => known.push_str(text),
                _ => parts.push(Part::Literal {
                    text: text.to_owned(),
                    line,
                }),
            }
        }
    }

    /// Reads what follows a `$`.
    fn dollar(&mut self, parts: &mut Vec<Part>, is_quoted: bool) {
        let Some(letter) = self.rest.chars().next() else {
            return self.push(parts, '$');
        };
        match letter {
            '{' => {
                let end = closing(self.rest, '{', '}');
                let inner = self.rest[1..end].to_owned();
                let line = self.line;
                self.skip((end + 1).min(self.rest.len()));
                parts.push(self.braced(&inner, is_quoted, line));
            }
            '(' => {
                let end = closing(self.rest, '(', ')');
                parts.push(Part::Unknown(format!("${})", &self.rest[..end])));
                self.skip((end + 1).min(self.rest.len()));
            }
            '@' | '*' => {
                self.skip(1);
                parts.push(Part::Positional);
            }
            letter if is_name(letter) && !letter.is_ascii_digit() => {
                let name = name_of(self.rest).to_owned();
                self.skip(name.len());
                parts.push(Part::Variable {
                    name,
                    is_quoted,
                    otherwise: Vec::new(),
                    assigns: false,
                });
            }
            '0'..='9' | '#' | '?' | '$' | '!' | '-' => {
                self.skip(1);
                parts.push(Part::Unknown(format!("${letter}")));
            }
            _ => self.push(parts, '$'),
        }
    }

    /// The meaning of `${…}`.
    fn braced(&self, inner: &str, is_quoted: bool, line: usize) -> Part {
        let name = name_of(inner);
        let rest = &inner[name.len()..];
        let unknown = || Part::Unknown(format!("${{{inner}}}"));
        if name.is_empty() || name.starts_with(|letter: char| letter.is_ascii_digit()) {
            return match inner {
                "@" | "*" => Part::Positional,
                _ => unknown(),
            };
        }
        let operation = rest.strip_prefix(':').unwrap_or(rest);
        let (assigns, otherwise) = match operation.chars().next() {
            None if rest.is_empty() => (false, ""),
            Some('-') => (false, &operation[1..]),
            Some('=') => (true, &operation[1..]),
            _ => return unknown(),
        };
        Part::Variable {
            name: name.to_owned(),
            is_quoted,
            otherwise: self.inner_parts(otherwise, line),
            assigns,
        }
    }

    /// The parts of a text inside `${…}`, where blanks do not end a word.
    fn inner_parts(&self, text: &str, line: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.depth >= MAX_DEPTH {
            return parts;
        }
        let mut inner = Lexer {
            rest: text,
            line,
            depth: self.depth + 1,
            here: Vec::new(),
        };
        while let Some(letter) = inner.rest.chars().next() {
            if letter.is_whitespace() {
                inner.literal(letter, &mut parts);
            } else {
                parts.extend(inner.word().parts);
            }
        }
        parts
    }
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The name that a text begins with.
fn name_of(text: &str) -> &str {
    let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
    &text[..end]
}

/// Where the bracket that a text begins with is closed, or the text's length.
fn closing(text: &str, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    text.len()
}
