//! Large files, each of which several threads write.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::Scope;

use super::attributes::{self, Start};
use super::copy::{BUFFER, Copy, set_size};
use super::directories::Directories;
use super::entries::Directory;
use super::error::{Error, failed};
use super::outline::{Place, shares};
use super::workers::Workers;
use crate::source::branch_reader::{BranchReader, SourceFile};
use crate::tree::NodeId;

/// A file that is being written.
struct Large<'s> {
    node: NodeId,
    source: SourceFile<'s>,
    target: File,
    start: Start,
    /// The number of shares that are not written yet.
    left: AtomicUsize,
}

/// Makes one large file, with a separate task for each share except the first.
///
/// These tasks come next on this thread, so that few large files are open at once.
pub(super) fn make<'s>(
    crew: &'s Workers<'_>,
    directories: &Directories,
    place: Place,
    scope: &Scope<'s>,
) -> Result<(), Error> {
    let tree = &crew.layer.tree;
    let parent = directories.node(place.directory);
    let entry = place.entry(tree, directories);
    let file = tree.regular(entry.node).expect("only files are large");
    let source = BranchReader::new(crew.layer)?.open(entry.node)?;
    let mut cursor = crew.cursor();
    let (target, start) = cursor
        .enter(parent)
        .map_err(failed("open"))
        .and_then(|open| {
            let directory = Directory {
                crew,
                directories,
                place: place.directory,
                file: open,
            };
            directory.create(entry)
        })
        .map_err(|failure| failure.of(crew.layer, entry.node))?;
    set_size(crew, (entry.node, &target), file.size)?;
    let mut shares = shares(file).into_iter();
    let large = Arc::new(Large {
        node: entry.node,
        source,
        target,
        start,
        left: AtomicUsize::new(shares.len()),
    });
    let first = shares.next().expect("a large file has data");
    for share in shares {
        let large = Arc::clone(&large);
        scope.spawn(move |_| crew.attempt(|| large.write(crew, share)));
    }
    large.write(crew, first)
}

impl Large<'_> {
    /// Writes one share. The thread that finishes last sets the attributes.
    fn write(&self, crew: &Workers<'_>, share: Vec<Range<u64>>) -> Result<(), Error> {
        let copy = Copy {
            crew,
            node: self.node,
            source: &self.source,
            target: &self.target,
        };
        copy.runs(share, &mut vec![0; BUFFER])?;
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        self.source.check()?;
        let meta = &crew.layer.tree.node(self.node).meta;
        attributes::set(crew, &self.target, meta, self.start)
            .map_err(|failure| failure.of(crew.layer, self.node))
    }
}
