//! Makes files durable one by one.

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::fsync;

use super::directories::Directories;
use super::error::{Error, failed};
use super::outline::{Outline, Piece, Sort, data, sort};
use super::workers::Workers;

const FILE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

/// Writes every file that has data to the disk.
pub(super) fn files<'s>(
    crew: &'s Workers<'_>,
    directories: &'s Directories,
    outline: &'s Outline,
) -> Result<(), Error> {
    let units = outline.units(directories);
    crew.step(|scope| {
        for unit in units {
            scope.spawn(move |_| crew.attempt(|| sync_some(crew, directories, unit)));
        }
    })
}

fn sync_some(crew: &Workers<'_>, directories: &Directories, unit: &[Piece]) -> Result<(), Error> {
    let tree = &crew.layer.tree;
    let mut cursor = crew.cursor();
    for piece in unit {
        let parent = directories.node(piece.directory);
        let directory = cursor
            .enter(parent)
            .map_err(|errno| failed("open")(errno).of(crew.layer, parent))?;
        let listing = directories.listing(tree, piece.directory);
        for entry in listing.entries_in(piece.entries.clone()) {
            let file = tree.regular(entry.node);
            let has_data = file.is_some_and(|file| data(file).next().is_some());
            if !has_data || sort(tree, parent, entry) == Sort::Link {
                continue;
            }
            crew.go_on()?;
            openat(directory, entry.name, FILE, Mode::empty())
                .and_then(fsync)
                .map_err(|errno| failed("sync")(errno).of(crew.layer, entry.node))?;
        }
    }
    Ok(())
}
