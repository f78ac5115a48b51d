//! A JSON object, represented by the positions of its members.

use std::ops::Range;

use thiserror::Error;

/// The deepest nesting that Go's decoder accepts. Source: Go 1.15 `encoding/json/scanner.go`, `maxNestingDepth`.
pub(super) const MAX_DEPTH: usize = 10_000;

/// What is wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Zero bytes. A power cut leaves this of a file that was just written.
    #[error("is empty")]
    Empty,
    /// The text is not JSON from this byte on.
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
    /// A value of a type other than the one that Docker writes there.
    #[error("{key}: is not {expected}")]
    WrongType {
        /// The member's name as Docker spells it.
        key: &'static str,
        /// What Docker writes there.
        expected: &'static str,
    },
    /// A required member does not exist.
    #[error("{key}: is missing")]
    Missing {
        /// The member's name as Docker spells it.
        key: &'static str,
    },
}

/// A member of an object.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// The offset in the file where the key's text begins.
    pub(crate) key_at: usize,
    /// The range of the value's text in the file.
    pub(crate) value: Range<usize>,
}

impl Member {
    /// Whether Go's decoder would put it into the field `name`.
    pub(crate) fn is(&self, name: &str) -> bool {
        is_same_key(&self.key, name)
    }
}

/// An object whose text was checked, with the positions of its members.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub(super) text: &'a [u8],
    pub(super) members: Vec<Member>,
    /// The offset of the byte after the opening brace.
    pub(crate) inside: usize,
}

/// Whether Go's decoder treats two keys as the same.
pub fn is_same_key(a: &str, b: &str) -> bool {
    a.chars().map(fold).eq(b.chars().map(fold))
}

/// Folds a letter as Go does: ASCII case, and the two letters beyond ASCII whose simple case folding is an ASCII
/// letter.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}
