//! Keeps the terminal from obeying what is printed.
//!
//! Names from a root are escaped where messages are made of them, line breaks included. This is the last gate, for all text:
//! paths, and what other programs and the system said.

use std::borrow::Cow;

use crate::tree::escape;

/// The text with control characters escaped, but for line breaks and tabs, and so those that change the direction of writing.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_command) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut bytes = [0; 4];
    for character in text.chars() {
        let encoded = character.encode_utf8(&mut bytes);
        if is_command(character) {
            clean.push_str(&escape(encoded.as_bytes()));
        } else {
            clean.push_str(encoded);
        }
    }
    Cow::Owned(clean)
}

/// Source of the marks: Unicode 15.1, `PropList.txt`, `Bidi_Control`; and the line and paragraph separators.
fn is_command(character: char) -> bool {
    let is_mark = matches!(character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_mark || character.is_control() && !matches!(character, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_stays() {
        assert_eq!(
            printable("\x1b[2J\r\u{9b}1m\u{202e}x\x7f"),
            "\\x1b[2J\\x0d\\xc2\\x9b1m\\xe2\\x80\\xaex\\x7f"
        );
        for text in ["a\tb\nc", "größer …"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }
}
