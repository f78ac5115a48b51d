//! One conversion from reading to moving in place: the list of steps. How each is done is the business of the parts.
//!
//! [`Source::open`] finds out whether the root can be converted, [`Source::plan`] reads the layers and computes the plan without
//! writing anything, [`Prepared::execute`] writes it and moves it in place.

mod error;
mod execute;
mod read;
mod source;
mod summary;
mod writer;
mod written;

pub use error::Error;
pub use execute::Prepared;
pub use source::{Request, Source};
pub use summary::{DeviceSummary, LaidSummary, Summary};
pub use writer::Writer;
