//! A file system that was read, with all that is wrong with it.

use super::fault::Fault;
use super::view::View;

/// A file system that was read, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct CheckedView {
    /// All of it that can be read.
    pub view: View,
    /// Everything that is wrong, in the order of places; empty for a clean one. Derived views have what a whole read
    /// of the child would find, their parent's faults included.
    pub faults: Vec<Fault>,
}
