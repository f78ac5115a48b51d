//! The names of a tar's entries, in order.

#[cfg(test)]
mod tests;

use std::io::Read;

use super::error::Error;
use super::reader::Lines;

/// Iterates over the names of the tar's entries as they are in the tar; stops after an error.
///
/// Holds one line in memory at a time, whatever the length of the file.
#[derive(Debug)]
pub struct Names<R: Read> {
    lines: Lines<R>,
    ended: bool,
}

impl<R: Read> Names<R> {
    /// The names in a `tar-split.json.gz`.
    pub fn new(gzip: R) -> Self {
        Self {
            lines: Lines::new(gzip),
            ended: false,
        }
    }

    fn next_name(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while let Some((line, number)) = self.lines.next()? {
            if let Some(name) = line.entry_name(number)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Names<R> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_name().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A tar entry's name as a path below the layer's root: without `.` and empty components, with `..` resolved but never
/// above the root, without a slash at either end. The root itself is empty.
pub fn clean_name(name: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    components.join(&b'/')
}
