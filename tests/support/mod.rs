//! What the test targets share: Docker roots made on the spot, and a second, plain way to say what a stack of aufs
//! branches holds, independent of the code under test.
//!
//! Making branches needs root: they hold device nodes, foreign owners and trusted xattrs.

// Each test target compiles all of this and uses its own part.
#![allow(dead_code, unreachable_pub)]
// A failed step of a set-up is a failed test.
#![allow(clippy::unwrap_used)]

pub mod apply;
pub mod chain;
pub mod compare;
pub mod cpu;
pub mod damages;
pub mod fixture;
pub mod layer;
pub mod merge;
pub mod merged;
pub mod outcome;
pub mod random;
pub mod reduced;
pub mod root;
pub mod scratch;
pub mod tar;
pub mod trace;
pub mod tree;
pub mod truth;
pub mod unmounted;
pub mod walk;
