//! Images and their names: `image/aufs/imagedb` and `repositories.json`.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;

use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::{Dir, FileKind};
use super::id::{ChainId, DiffId, ImageId};
use super::json::{JsonError, Object};
use super::warning::{Leftover, Warning};

/// An image that has a readable config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its layers as one chain id; `None` for an image that has only metadata.
    pub top: Option<ChainId>,
    /// Number of layers.
    pub nr_layers: usize,
}

/// The image store.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Images with a readable config.
    pub(crate) by_id: BTreeMap<ImageId, Image>,
    /// The content and the parent of each chain id, derived from the diff ids in the configs.
    pub(super) chains: HashMap<ChainId, Step>,
}

/// One layer on top of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    /// The chain below it; `None` for a base layer.
    pub(super) parent: Option<ChainId>,
    /// The layer's content.
    pub(super) diff: DiffId,
}

/// Chain ids that were already computed. Images share most of their layers, so each step is digested once, not once per
/// image.
type Steps = HashMap<Step, ChainId>;

impl Images {
    /// Reads every image config.
    pub(crate) fn read(image: &Dir, notes: &mut Diagnostics) -> Self {
        let mut images = Self::default();
        let contents = image
            .dir("imagedb")
            .and_then(|imagedb| imagedb.dir("content"));
        let contents = contents.and_then(|content| content.dir("sha256"));
        let Some(contents) = notes.keep(&Subject::Root, contents) else {
            return images;
        };
        let mut steps = Steps::new();
        for entry in notes
            .keep(&Subject::Root, contents.list())
            .unwrap_or_default()
        {
            let Some(id) = ImageId::from_file_name(entry.name.as_bytes()) else {
                let path = contents.join(&entry.name);
                notes.warn(Warning::Leftover {
                    path,
                    what: Leftover::Unknown,
                });
                continue;
            };
            if let Some(config) = notes.keep(&Subject::Image(id), Config::read(&contents, id)) {
                if !config.verified {
                    // Docker drops such an image at each start, but other images use its layers, or the layers stay as
                    // they are.
                    notes.warn(Warning::ImageUnverified { image: id });
                }
                images.add(id, &config.diff_ids, &mut steps);
            }
        }
        images
    }

    fn add(&mut self, id: ImageId, diff_ids: &[DiffId], steps: &mut Steps) {
        let mut top = None;
        for &diff in diff_ids {
            let step = Step { parent: top, diff };
            let chain = *steps.entry(step).or_insert_with(|| ChainId::on(top, diff));
            self.chains.entry(chain).or_insert(step);
            top = Some(chain);
        }
        self.by_id.insert(
            id,
            Image {
                top,
                nr_layers: diff_ids.len(),
            },
        );
    }
}

/// The parts of an image's config that are needed.
struct Config {
    diff_ids: Vec<DiffId>,
    verified: bool,
}

impl Config {
    fn read(contents: &Dir, id: ImageId) -> Result<Self, Fault> {
        let text = contents.read(id.file_name())?;
        let diff_ids = parse_diff_ids(&text).map_err(|source| Fault::BadJson {
            path: contents.join(id.file_name()),
            source,
        })?;
        Ok(Self {
            diff_ids,
            verified: id.verifies(&text),
        })
    }
}

/// The diff ids of an image config, bottom first. `rootfs` must exist; its list may be empty or absent.
/// Source: moby v20.10 `image/fs.go` and `image/rootfs.go`.
fn parse_diff_ids(config: &[u8]) -> Result<Vec<DiffId>, JsonError> {
    let rootfs = Object::parse(config)?
        .object("rootfs")?
        .ok_or(JsonError::Missing { key: "rootfs" })?;
    let wrong = JsonError::WrongType {
        key: "diff_ids",
        expected: "a list of sha256 digests",
    };
    let texts: Vec<&str> = match rootfs.raw("diff_ids") {
        None => return Ok(Vec::new()),
        Some(list) => serde_json::from_slice(list).map_err(|_| wrong.clone())?,
    };
    let diff_ids = texts.iter().map(|text| DiffId::parse(text.as_bytes()));
    diff_ids.collect::<Result<_, _>>().map_err(|_| wrong)
}

/// Whether an entry of a store is a directory. Anything else is recorded as something that Docker does not put there.
pub(super) fn is_store_dir(
    dir: &Dir,
    name: &std::ffi::OsStr,
    kind: FileKind,
    notes: &mut Diagnostics,
) -> bool {
    let is_dir = kind == FileKind::Directory;
    if !is_dir {
        notes.warn(Warning::Leftover {
            path: dir.join(name),
            what: Leftover::Unknown,
        });
    }
    is_dir
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diff_ids_are_read_whatever_else_the_config_holds() {
        let hex = "5f".repeat(32);
        let config = format!(
            r#"{{"config":{{"Env":["A=\u003cb"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}}}}"#
        );
        assert_eq!(parse_diff_ids(config.as_bytes()).unwrap().len(), 1);
        for (config, layers) in [
            (r#"{"rootfs":{"type":"layers"}}"#, Some(0)),
            (r#"{"rootfs":{"diff_ids":null}}"#, Some(0)),
            (r#"{"rootfs":{"diff_ids":[]}}"#, Some(0)),
            (r#"{"rootfs":{"diff_ids":["sha256:../x"]}}"#, None),
            (r#"{"rootfs":{"diff_ids":"x"}}"#, None),
            (r#"{"rootfs":null}"#, None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(
                parse_diff_ids(config.as_bytes()).ok().map(|ids| ids.len()),
                layers,
                "{config}"
            );
        }
    }
}
