//! Command-line tests.
