//! Inputs that are several files: a list of pieces, each of which says which file it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Ends a piece. No text format here has it, and what is binary has a target of its own.
const END: u8 = 0;

/// The pieces of an input: the letter that a piece begins with, and the rest of it.
pub(super) fn pieces(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    input
        .split(|&byte| byte == END)
        .filter_map(|piece| piece.split_first().map(|(&letter, rest)| (letter, rest)))
}

/// Makes of the file in `all` that a piece chooses what the piece says: usually its content. Letters that are not ASCII remove it, or
/// put a directory or a link in its place.
pub(super) fn put(root: &Path, all: &[&str], (letter, content): (u8, &[u8])) {
    let path = root.join(all[place(all, letter)]);
    remove(&path);
    let parent = path.parent().expect("every file is in a directory");
    let _ = fs::create_dir_all(parent);
    let _ = match letter >> 5 {
        4 => Ok(()),
        5 => fs::create_dir(&path),
        6 => symlink("/etc/passwd", &path),
        7 => symlink(path.file_name().unwrap_or_default(), &path),
        _ => fs::write(&path, content),
    };
}

/// Which file of `all` a letter chooses.
pub(super) fn place(all: &[&str], letter: u8) -> usize {
    usize::from(letter & 0x1f) % all.len()
}

/// Removes what is there, whatever it is.
pub(super) fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir_all(path);
    }
}
