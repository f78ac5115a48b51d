//! The house: which part of the crate may know which. `docs/design.md` argues the rules.

mod crate_map;
mod graph;
mod rules;
