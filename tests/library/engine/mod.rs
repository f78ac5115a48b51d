//! The engines.

mod base;
