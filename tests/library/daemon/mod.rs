//! The daemon and its first start.

mod check;
mod first_start;
