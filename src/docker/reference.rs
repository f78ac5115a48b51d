//! Names of images.

use std::fmt;

use serde::Serialize;

use crate::tree::escape;

/// A name of an image as Docker stores it: `name:tag` or `name@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Reference(pub(super) Box<str>);

impl Reference {
    #[cfg(test)]
    pub(super) fn for_tests(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names a digest rather than a tag.
    pub fn is_digest(&self) -> bool {
        self.0.contains('@')
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.0.as_bytes()))
    }
}
