//! The command line: arguments, progress, text and JSON. Everything it does is a call into the library.

mod args;
mod convert;
mod exit;
mod inspect;
mod output;
mod progress;
mod quiet;
mod run;

pub use run::main;
