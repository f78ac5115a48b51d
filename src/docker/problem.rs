//! What is wrong with one object, whom it affects, and what becomes of it.

use std::fmt;

use serde::Serialize;

use super::diagnostics::Subject;
use super::fault::Fault;
use super::users::Hits;
use crate::chain::Chain;

/// What becomes of a damaged object in a conversion. The yardstick is what Docker itself does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The root as a whole cannot be read.
    WholeRoot,
    /// Docker shows the object, and it cannot be converted.
    Damaged,
    /// Docker does not show the object either: it logs a line and continues.
    PassedOver,
    /// Other data in the root shows what was there. It is written again, on the new side only.
    Rebuilt,
    /// Docker works with the object as it is, and so does the new side.
    Kept,
}

impl Class {
    /// The class of a fault that nothing repairs.
    pub(super) fn of(subject: &Subject, fault: &Fault, hits: &Hits) -> Self {
        let as_docker_sees_it = match (subject, fault) {
            (Subject::Root, _) => return Self::WholeRoot,
            (Subject::References, Fault::BadReference { .. })
            | (Subject::Chain(_), Fault::NoTarSplit { .. }) => return Self::Kept,
            // No daemon starts with it.
            (Subject::References, _) => return Self::Damaged,
            // Docker does not compare a layer's record with the driver's files, so it shows the images and containers.
            (
                Subject::Chain(_) | Subject::Mount(_),
                Fault::NotInAufs { .. } | Fault::ParentDiffers { .. } | Fault::ChainMismatch { .. },
            )
            | (Subject::Cache(_), _) => Self::Damaged,
            // Source: moby v20.10 `layer/layer_store.go`, `newStoreFromGraphDriver`, `image/store.go`, `restore`, and
            // `daemon/daemon.go`, `restore`: what cannot be loaded is logged, and so is what is built on it.
            _ => Self::PassedOver,
        };
        match as_docker_sees_it {
            Self::Damaged if hits.is_empty() => Self::PassedOver,
            class => class,
        }
    }

    /// What happens to such an object, in words.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::WholeRoot => "nothing can be converted",
            Self::Damaged => "cannot be converted; restore it, or --skip-damaged leaves it out",
            Self::PassedOver => "left out; Docker does not show it either",
            Self::Rebuilt => "rebuilt",
            Self::Kept => "kept as it is",
        }
    }
}

/// One thing that is wrong in a root, and the images and containers that it affects.
#[derive(Debug)]
pub struct Problem {
    /// The object that has the fault.
    pub(crate) subject: Subject,
    /// What is wrong.
    pub fault: Fault,
    /// The images and containers that need the damaged part.
    pub hits: Hits,
    /// What becomes of it.
    pub class: Class,
    /// What it is rebuilt from, if it is.
    pub source: Option<&'static str>,
}

impl Problem {
    /// The object that has the fault, with its id.
    pub fn object(&self) -> String {
        match &self.subject {
            Subject::Root => "Docker root".to_owned(),
            Subject::References => "image names".to_owned(),
            Subject::Image(id) => format!("image {id}"),
            Subject::Chain(chain) => format!("image layer {chain}"),
            Subject::Cache(id) => format!("layer {id}"),
            Subject::Mount(id) => format!("layers of container {id}"),
            Subject::Container(id) => format!("container {id}"),
        }
    }

    /// What happens to the object, in words.
    pub fn consequence(&self) -> String {
        match self.source {
            Some(source) => format!("{} from {source}", self.class.consequence()),
            None => self.class.consequence().to_owned(),
        }
    }
}

/// Writes the whole chain of causes on one line, because a list of problems has no single source to follow.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", Chain(&self.fault), self.hits)
    }
}
