//! What is written, judged by e2fsprogs and a second implementation.

mod build;
mod chain;
mod cost;
mod directories;
mod disk;
mod images;
mod layers;
mod limits;
mod model;
mod places;

pub(super) use chain::Chain;
pub(super) use images::BOTH;
pub(super) use layers::{Numbers, Taste, random_layer};
pub(super) use model::{Model, ModelKind};
pub(super) use places::Place;
pub(crate) use places::{Structure, places};
