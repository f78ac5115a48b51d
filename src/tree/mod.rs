//! The neutral file tree that all modules use: the aufs reader produces it, the file system writers consume it.
//!
//! A [`LayerTree`] holds what one layer *changes* in the merged layers below it: the entries it adds, the names it
//! removes, the directories it empties. It contains neither aufs's whiteout files nor any on-disk layout. Names,
//! targets and xattrs are bytes. The form is compact (about a hundred bytes per entry), because a host's layers hold
//! millions of files and all of them are planned in memory before the first byte is written.

mod difference;
mod display;
mod layer;
mod meta;

pub use difference::{Difference, first_difference};
pub use display::{escape, escape_path, shown};
pub use layer::{Directory, Entry, Kind, LayerTree, Listing, Node, NodeId, Regular, Segment};
pub use meta::{DeviceNumber, Meta, Timestamp, Xattrs};
