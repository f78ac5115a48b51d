//! Shows arbitrary bytes to a person: printable ASCII unchanged, the rest as `\xHH`.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name or target for messages: bytes 0x20 to 0x7e except the backslash unchanged, others as `\xHH`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if (0x20..0x7f).contains(&byte) && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A path for messages, escaped as in [`escape`]: names below a root cannot be trusted.
pub fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// A path from its components, outermost first: `/a/b`, and `/` for none. Each component is [escaped](escape).
pub fn escape_path<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text = String::new();
    for component in components {
        text.push('/');
        text.push_str(&escape(component));
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_printable_are_escaped() {
        assert_eq!(escape(b"a b\\\xff\n"), "a b\\x5c\\xff\\x0a");
    }

    #[test]
    fn no_components_are_the_root() {
        assert_eq!(escape_path([]), "/");
        assert_eq!(escape_path([&b"etc"[..], b"ho\xfe"]), "/etc/ho\\xfe");
    }
}
