//! Commands that are shown to the operator.

use std::path::Path;

/// As one word for a shell.
pub(crate) fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_path_is_one_word() {
        let path = Path::new("/a b/it's $HOME");
        assert_eq!(quoted(path), r"'/a b/it'\''s $HOME'");
    }
}
