//! Reads aufs branches: one layer's directory on disk into a [`LayerTree`](crate::tree::LayerTree).
