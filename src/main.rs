//! The `aufs2dm` command.

fn main() {}
