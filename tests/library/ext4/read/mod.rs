//! What is read back, damaged and whole.

mod damage;
mod derive;
mod images;
mod kernel;
mod views;
