//! Format tests.

mod thin;
