//! Tests in a real kernel with a real Docker.
fn main() {}
