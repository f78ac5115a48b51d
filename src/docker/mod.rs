//! Docker's on-disk model, read-only.
