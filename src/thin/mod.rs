//! Thin-pool metadata, written in bulk.
