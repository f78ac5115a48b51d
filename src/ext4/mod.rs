//! Plans and encodes ext4 file systems, a child derived from its parent.
