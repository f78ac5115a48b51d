//! Verification, and all that it must find.

mod conversion;
mod damage;
mod matrix;
mod random;
mod reports;
