//! The neutral file tree that every part speaks: the aufs reader makes it, the file system writers take it.
//!
//! A [`LayerTree`] is what one layer *changes* on top of the merged layers below it: entries it brings, names it
//! removes, directories it empties. It knows neither aufs's whiteout files nor any on-disk layout. Names, targets and
//! xattrs are bytes. The form is compact (about a hundred bytes an entry), because a host's layers hold millions of
//! files and all of them are planned in memory before the first byte is written.

mod difference;
mod display;
mod layer;
mod meta;

pub use difference::{Difference, first_difference};
pub use display::{escape, escape_path, shown};
pub use layer::{Directory, Entry, Kind, LayerTree, Listing, Node, NodeId, Regular, Segment};
pub use meta::{DeviceNumber, Meta, Timestamp, Xattrs};
