//! Thin pools in the kernel.

mod leftovers;
