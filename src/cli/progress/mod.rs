//! Shows progress on stderr, and tells a service manager.

mod json;
mod notifying;
mod running;
mod shown;

pub(super) use shown::for_stderr;
