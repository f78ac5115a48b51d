//! The command line: arguments, progress, text and JSON. Everything it does is a call into the library.

mod args;
mod commit;
mod convert;
mod exit;
mod inspect;
mod log_format;
pub mod notify;
mod output;
mod place;
mod printable;
mod progress;
mod quiet;
mod remarks;
mod rollback;
mod run;
mod signals;
mod status;
mod verify;

pub use run::main;
