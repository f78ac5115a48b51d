//! Trees brought into mounted file systems.

mod apply;
mod hostile;
mod refusals;
