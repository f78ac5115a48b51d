//! Files with `NAME=value` lines: systemd's `EnvironmentFile=` and the shell scripts that init scripts read.

use std::collections::BTreeMap;

/// The number of bytes that expansion may add to a file's values: they can double with each line.
const MAX_EXPANDED: usize = 1 << 20; // 1 MiB

/// The program that reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// systemd: a value may hold unquoted spaces, and nothing is expanded. Source: `systemd.exec(5)`,
    /// `EnvironmentFile=`.
    Systemd,
    /// A shell: `export`, and `$NAME` for names assigned before. Anything that is not a plain assignment is skipped.
    Shell,
}

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Whether a shell exports it to programs.
    pub(super) exported: bool,
}

/// All assignments, in file order.
pub(super) fn parse(text: &[u8], reader: Reader) -> Vec<Variable> {
    let text = String::from_utf8_lossy(text);
    let mut cursor = Cursor {
        rest: &text,
        line: 1,
        known: BTreeMap::new(),
        left: MAX_EXPANDED,
    };
    let mut variables = Vec::new();
    while !cursor.rest.is_empty() {
        let line = cursor.line;
        let Some((name, exported)) = cursor.name(reader) else {
            cursor.skip_line();
            continue;
        };
        let value = cursor.value(reader);
        cursor.known.insert(name.clone(), value.clone());
        variables.push(Variable {
            name,
            value,
            line,
            exported,
        });
    }
    variables
}

struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    known: BTreeMap<String, String>,
    /// Bytes that expansion may still add.
    left: usize,
}

impl Cursor<'_> {
    /// Reads `NAME=`, if the line begins with it.
    fn name(&mut self, reader: Reader) -> Option<(String, bool)> {
        let mut head = self.rest.trim_start_matches([' ', '\t']);
        let mut exported = false;
        if reader == Reader::Shell
            && let Some(tail) = head.strip_prefix("export ")
        {
            exported = true;
            head = tail.trim_start_matches([' ', '\t']);
        }
        let end = head.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
        let (name, value) = head.split_at(end);
        let value = value.strip_prefix('=').filter(|_| !name.is_empty())?;
        self.rest = value;
        Some((name.to_owned(), exported))
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        self.line += 1;
    }

    /// Reads a value, and skips the rest of its line.
    fn value(&mut self, reader: Reader) -> String {
        let mut value = String::new();
        let mut quote = None;
        while let Some(letter) = self.next() {
            match (letter, quote) {
                ('\n', None) => return tidy(value, reader),
                ('\\', None | Some('"')) => match self.next() {
                    Some('\n') | None => {}
                    Some(next) if quote.is_none() || "\"\\`$".contains(next) => value.push(next),
                    Some(next) => value.extend(['\\', next]),
                },
                (letter, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => quote = Some(letter),
                ('$', None | Some('"')) if reader == Reader::Shell => self.expand(&mut value),
                (' ' | '\t' | ';' | '#', None) if reader == Reader::Shell => {
                    self.skip_line();
                    return value;
                }
                _ => value.push(letter),
            }
        }
        tidy(value, reader)
    }

    /// Inserts the value of `$NAME` or `${NAME}`; nothing for an unknown name.
    fn expand(&mut self, value: &mut String) {
        let inner = self.rest.strip_prefix('{').unwrap_or(self.rest);
        let end = inner
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
            .unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let braced = inner.len() < self.rest.len();
        // A shell operation, like ${A:-b}, which is not supported here.
        if name.is_empty() || braced && !rest.starts_with('}') {
            value.push('$');
            return;
        }
        let known = self.known.get(name).map_or("", String::as_str);
        if known.len() <= self.left {
            self.left -= known.len();
            value.push_str(known);
        }
        self.rest = if braced { &rest[1..] } else { rest };
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        self.line += usize::from(letter == '\n');
        Some(letter)
    }
}

fn tidy(value: String, reader: Reader) -> String {
    match reader {
        Reader::Systemd => value.trim().to_owned(),
        Reader::Shell => value,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, reader: Reader) -> Vec<(String, String, usize)> {
        let all = parse(text.as_bytes(), reader).into_iter();
        all.map(|one| (one.name, one.value, one.line)).collect()
    }

    fn owned(all: &[(&str, &str, usize)]) -> Vec<(String, String, usize)> {
        let own = |(name, value, line): &(&str, &str, usize)| {
            ((*name).to_owned(), (*value).to_owned(), *line)
        };
        all.iter().map(own).collect()
    }

    #[test]
    fn systemd_takes_the_whole_line() {
        let text = "# c\nOPTIONS=--a -s aufs \nB='x y'\n; c\nC=\"a\\\nb\\\"\"\nexport D=1\nnothing\nE=$B\n";
        assert_eq!(
            read(text, Reader::Systemd),
            owned(&[
                ("OPTIONS", "--a -s aufs", 2),
                ("B", "x y", 3),
                ("C", "ab\"", 5),
                ("E", "$B", 9),
            ])
        );
    }

    #[test]
    fn a_shell_takes_a_word_and_expands() {
        let text = "A=\"--dns 8.8.8.8\" # c\nA=\"$A -s ${B}aufs\"\n  export C='$A'; true\nif x; then\nD=${A:-1}\n";
        assert_eq!(
            read(text, Reader::Shell),
            owned(&[
                ("A", "--dns 8.8.8.8", 1),
                ("A", "--dns 8.8.8.8 -s aufs", 2),
                ("C", "$A", 3),
                ("D", "${A:-1}", 5),
            ])
        );
        let exported: Vec<_> = parse(text.as_bytes(), Reader::Shell)
            .iter()
            .map(|one| one.exported)
            .collect();
        assert_eq!(exported, [false, false, true, false]);
    }

    #[test]
    fn values_that_double_stay_bounded() {
        let text = "A=xxxxxxxxxxxxxxxx\n".to_owned() + &"A=$A$A\n".repeat(60);
        let all = parse(text.as_bytes(), Reader::Shell);
        let sum: usize = all.iter().map(|one| one.value.len()).sum();
        assert!(sum <= MAX_EXPANDED + text.len(), "{sum}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&text, Reader::Systemd);
            parse(&text, Reader::Shell);
        }

        #[test]
        fn any_text_of_its_letters_is_read(text in "[aé=$ \"'{}#;\n\\\\]{0,80}") {
            let nr_lines = text.lines().count();
            for reader in [Reader::Systemd, Reader::Shell] {
                for one in parse(text.as_bytes(), reader) {
                    prop_assert!(one.line <= nr_lines);
                }
            }
        }
    }
}
