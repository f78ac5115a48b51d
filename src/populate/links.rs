//! Makes further names of files after all first names exist.

use nix::fcntl::AtFlags;
use nix::unistd::linkat;

use super::directories::Directories;
use super::entries::Directory;
use super::error::{Error, failed};
use super::outline::{Outline, Place, cut};
use super::workers::Workers;

/// Makes all further names.
pub(super) fn make<'s>(
    crew: &'s Workers<'_>,
    directories: &'s Directories,
    outline: &'s Outline,
) -> Result<(), Error> {
    let units = cut(&outline.links, |place| {
        (directories.depth(place.directory), 0)
    });
    crew.step(|scope| {
        for unit in units {
            scope.spawn(move |_| crew.attempt(|| make_some(crew, directories, unit)));
        }
    })
}

fn make_some(crew: &Workers<'_>, directories: &Directories, places: &[Place]) -> Result<(), Error> {
    let tree = &crew.layer.tree;
    let (mut firsts, mut cursor) = (crew.cursor(), crew.cursor());
    for place in places {
        crew.go_on()?;
        let node = directories.node(place.directory);
        let entry = place.entry(tree, directories);
        let (parent, first) = tree.first_name(entry.node).expect("it is not the root");
        let linked = firsts
            .enter(parent)
            .and_then(|from| Ok((from, cursor.enter(node)?)))
            .map_err(failed("open"))
            .and_then(|(from, to)| {
                let directory = Directory {
                    crew,
                    directories,
                    place: place.directory,
                    file: to,
                };
                let flags = AtFlags::empty();
                directory.make_anew(entry.name, || linkat(from, first, to, entry.name, flags))
            });
        linked.map_err(|failure| failure.beneath(crew.layer, node, entry.name))?;
    }
    Ok(())
}
