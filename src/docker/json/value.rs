//! An object of a JSON text, by the places of its members.

use std::ops::Range;

use thiserror::Error;

/// The deepest nesting that Go's decoder accepts. Source: Go 1.15 `encoding/json/scanner.go`, `maxNestingDepth`.
pub(super) const MAX_DEPTH: usize = 10_000;

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
pub(crate) struct Member {
    pub(crate) key: String,
    /// Where the key's text begins in the file.
    pub(crate) key_at: usize,
    /// Where the value's text lies in the file.
    pub(crate) value: Range<usize>,
}

impl Member {
    /// Whether Go's decoder would put it in the field `name`.
    pub(crate) fn is(&self, name: &str) -> bool {
        is_same_key(&self.key, name)
    }
}

/// An object whose text was found to be sound, with the places of its members.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub(super) text: &'a [u8],
    pub(super) members: Vec<Member>,
    /// The byte after the opening brace.
    pub(crate) inside: usize,
}

/// Whether Go's decoder takes two keys for one.
pub fn is_same_key(a: &str, b: &str) -> bool {
    a.chars().map(fold).eq(b.chars().map(fold))
}

/// Go folds ASCII case, and the two letters beyond ASCII whose simple case folding is an ASCII letter.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}
