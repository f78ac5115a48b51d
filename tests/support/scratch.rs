//! Temporary directories whose names hold no word.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::{Builder, TempDir};

/// A fresh temporary directory, named by digits alone: paths are part of what the tool says, and random letters may spell a word that
/// a test wants not to be said (`/tmp/.tmplostvq`).
pub fn scratch() -> TempDir {
    static MADE: AtomicU32 = AtomicU32::new(0);
    loop {
        let name = format!("{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        match Builder::new().prefix(&name).rand_bytes(0).tempdir() {
            // Left by a killed run whose process had the same number.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.unwrap(),
        }
    }
}
