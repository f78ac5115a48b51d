//! The changes to the aufs side since it was converted.

use std::fmt;

use serde::Serialize;

use super::sums::PARTS;

/// Differences from the aufs side that was converted, as paths relative to the root. The field names are part of the
/// `--json` interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AufsChanges {
    /// Branches, parent lists and objects of the image store that are gone.
    pub missing: Vec<String>,
    /// Those that differ from before, although Docker never changes them.
    pub changed: Vec<String>,
    /// What was added later, and was therefore not converted.
    pub new: Vec<String>,
    /// New image names.
    pub names: Vec<String>,
    /// Image names that are gone.
    pub names_gone: Vec<String>,
    /// What existed then, has data, and was left out of the conversion.
    pub left_out: Vec<String>,
}

impl AufsChanges {
    /// Whether it is what was converted, except for what was left out.
    pub fn is_same(&self) -> bool {
        self.is_whole() && self.new.is_empty() && self.names.is_empty()
    }

    /// Whether everything that was converted is still there and unchanged.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.names_gone.is_empty()
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same changes without anything in `aufs` that is not the driver's.
    #[must_use]
    pub fn of_the_driver(mut self) -> Self {
        for paths in [&mut self.new, &mut self.left_out] {
            paths.retain(|path| {
                let inner = path.strip_prefix("aufs/").unwrap_or("diff");
                PARTS
                    .iter()
                    .any(|part| inner.split('/').next() == Some(part))
            });
        }
        self
    }

    /// What is missing or changed, for people.
    pub fn broken(&self) -> String {
        lists(&[
            ("missing", &self.missing),
            ("not what was converted", &self.changed),
            ("image names missing", &self.names_gone),
        ])
    }
}

/// The number of names that fit on a line.
const SHOWN: usize = 5;

fn lists(lists: &[(&str, &Vec<String>)]) -> String {
    let parts: Vec<String> = lists
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(title, names)| {
            let shown = names[..names.len().min(SHOWN)].join(", ");
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("{} {title} ({shown}{more})", names.len())
        })
        .collect();
    parts.join("; ")
}

/// Everything except what was left out.
impl fmt::Display for AufsChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&lists(&[
            ("new image names", &self.names),
            ("new or written to since then", &self.new),
            ("missing", &self.missing),
            ("not what was converted", &self.changed),
            ("image names missing", &self.names_gone),
        ]))
    }
}
