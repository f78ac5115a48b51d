//! System calls that need `unsafe`, as safe values.
