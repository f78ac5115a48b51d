//! Writes a plan.
