//! The table of damaged objects: what is wrong, whom it affects, and what becomes of it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::chain::Chain;
use crate::docker::{CacheId, Class, Hits, Problem};
use crate::shell::{SameCommand, is_call_of, own};
use crate::tree::shown;
use crate::words::counted;

/// One damaged object. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct Damage {
    /// What becomes of it.
    pub class: Class,
    /// The object, with its id.
    pub object: String,
    /// The images and containers that it affects, for people.
    pub hits: Hits,
    /// The damaged file or directory.
    #[serde(with = "crate::path_form")]
    pub path: PathBuf,
    /// What is wrong with it, with the path.
    pub cause: String,
    /// What happens to the object, in words.
    pub consequence: String,
}

impl Damage {
    /// The row of a problem that was found in Docker's stores.
    pub(super) fn of(problem: &Problem) -> Self {
        Self {
            class: problem.class,
            object: problem.object(),
            hits: problem.hits.clone(),
            path: problem.fault.path().to_owned(),
            cause: Chain(&problem.fault).to_string(),
            consequence: problem.consequence(),
        }
    }

    /// The row of a layer whose branch cannot be read or held.
    pub(super) fn of_layer(layer: &CacheId, path: PathBuf, cause: String, hits: Hits) -> Self {
        let class = if hits.is_empty() {
            Class::PassedOver
        } else {
            Class::Damaged
        };
        let consequence = match class {
            Class::PassedOver => "left out; no image or container needs it",
            class => class.consequence(),
        };
        Self {
            class,
            object: format!("layer {layer}"),
            hits,
            path,
            cause,
            consequence: consequence.to_owned(),
        }
    }

    /// Takes an object that cannot be converted for one that is left out.
    pub(super) fn leave_out(&mut self) {
        if self.class == Class::Damaged {
            "left out, as --skip-damaged asks".clone_into(&mut self.consequence);
        }
    }
}

/// One line.
impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.cause, self.hits, self.consequence)
    }
}

/// The number of rows that an error shows.
const SHOWN: usize = 50;

/// The refusal, with everything that would have to be left out.
pub(super) fn write_refusal(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    damage: &[Damage],
) -> fmt::Result {
    if let [row] = damage {
        // It names its own path, which is below the root.
        write!(f, "{} ({})", row.cause, row.hits)?;
    } else {
        let nr = counted(damage.len() as u64, "object");
        write!(f, "{}: {nr} cannot be converted:", shown(path))?;
        for row in damage.iter().take(SHOWN) {
            write!(f, "\n  {} ({})", row.cause, row.hits)?;
        }
    }
    if damage.len() > SHOWN {
        let more = damage.len() - SHOWN;
        let health = own("inspect --health", path);
        write!(f, "\n  and {more} more: `{health}` lists all")?;
    }
    f.write_str("\nnothing was changed. Next: restore what is missing or damaged from a backup, ")?;
    if is_call_of("resume") {
        // What it has written is of the layers as they were.
        return write!(
            f,
            "then `{}`; or `{}` undoes the conversion",
            SameCommand::new("resume", path),
            own("rollback", path)
        );
    }
    write!(
        f,
        "or start Docker on aufs, remove what this affects (`docker rm`, `docker rmi`) and stop Docker; then run `{}` \
         again (`{}` shows what else is damaged); or `{}` leaves out these objects and everything that is built on them",
        SameCommand::new("convert", path),
        own("verify --full", path),
        SameCommand::new("convert", path).with("--skip-damaged")
    )
}
