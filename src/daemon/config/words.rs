//! Splits a command line into words as systemd does. Never fails: it also splits, in some way, what systemd would
//! refuse.
//!
//! Source: `systemd.service(5)`, "Command lines", and `systemd.syntax(7)`, "Quoting".

/// A word and the offset in the text where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) at: usize,
    pub(super) text: String,
}

/// The words of a text, with quotes and escapes resolved.
pub(super) fn split(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut letters = text.char_indices().peekable();
    loop {
        while letters
            .next_if(|(_, letter)| letter.is_whitespace())
            .is_some()
        {}
        let Some(&(at, _)) = letters.peek() else {
            return words;
        };
        let mut word = String::new();
        let mut quote = None;
        while let Some((_, letter)) = letters.next() {
            match (letter, quote) {
                ('\\', _) => unescape(&mut letters, &mut word),
                (letter, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => quote = Some(letter),
                (letter, None) if letter.is_whitespace() => break,
                _ => word.push(letter),
            }
        }
        words.push(Word { at, text: word });
    }
}

/// Resolves what follows a backslash. If it is not a known escape, the text stays as it is.
fn unescape(letters: &mut std::iter::Peekable<std::str::CharIndices<'_>>, word: &mut String) {
    let Some((_, letter)) = letters.next() else {
        word.push('\\');
        return;
    };
    let digits = match letter {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let number = take_digits(letters, digits, 16);
        word.push(
            number
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER),
        );
        return;
    }
    match letter {
        'a' => word.push('\u{7}'),
        'b' => word.push('\u{8}'),
        'f' => word.push('\u{c}'),
        'n' => word.push('\n'),
        'r' => word.push('\r'),
        't' => word.push('\t'),
        'v' => word.push('\u{b}'),
        's' => word.push(' '),
        '\\' | '"' | '\'' | ' ' => word.push(letter),
        other => word.extend(['\\', other]),
    }
}

fn take_digits(
    letters: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
    most: usize,
    radix: u32,
) -> Option<u32> {
    let mut number = None;
    for _ in 0..most {
        let Some((_, letter)) = letters.next_if(|(_, letter)| letter.is_digit(radix)) else {
            break;
        };
        let digit = letter.to_digit(radix).expect("it was just tried");
        number = Some(number.unwrap_or(0_u32) << 4 | digit);
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<String> {
        split(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_and_escapes_are_resolved() {
        for (text, words) in [
            ("", &[][..]),
            ("  a\tb ", &["a", "b"]),
            (r#""a b" 'c "d"' e"f g"h"#, &["a b", "c \"d\"", "ef gh"]),
            (r"a\ b \x41\u00e9 \q \\", &["a b", "Aé", r"\q", r"\"]),
            (r#""" x"#, &["", "x"]),
            ("'open end", &["open end"]),
            (r"end\", &[r"end\"]),
        ] {
            assert_eq!(texts(text), words, "{text}");
        }
    }

    #[test]
    fn words_know_where_they_begin() {
        let places: Vec<_> = split(" -s  'a b'").iter().map(|word| word.at).collect();
        assert_eq!(places, [1, 5]);
    }

    proptest! {
        #[test]
        fn any_text_is_split(text in ".*") {
            for word in split(&text) {
                prop_assert!(word.at < text.len());
            }
        }

        #[test]
        fn plain_words_come_back(words in prop::collection::vec("[a-z=./-]{1,8}", 0..8)) {
            prop_assert_eq!(texts(&words.join(" ")), words);
        }
    }
}
