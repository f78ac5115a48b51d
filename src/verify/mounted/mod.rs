//! Verifies devices whose file system is not read here: the kernel mounts them read-only, and what it shows is
//! compared.

mod compare;
mod contents;
mod digest;
mod examine;
mod read;
#[cfg(test)]
mod tests;
mod top;

pub(super) use examine::examine;
