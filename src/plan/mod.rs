//! The conversion as a pure value.
