//! Image layers: `image/aufs/layerdb/sha256`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::diagnostics::{Diagnostics, Subject};
use super::fault::Fault;
use super::files::Dir;
use super::id::{CacheId, ChainId, DiffId, IdError};
use super::image::is_store_dir;
use super::json::Object;
use super::warning::{Leftover, Warning};
use crate::tree::escape;
use crate::units::Bytes;

/// An image layer as Docker's layer store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its content.
    pub diff: DiffId,
    /// The layers below it; `None` for a base layer.
    pub parent: Option<ChainId>,
    /// Its directory in the graph driver.
    pub cache: CacheId,
    /// The size of its files as the driver counted it; only informational.
    pub size: Bytes,
}

/// The chain below a layer; `None` at the bottom.
pub(super) type Below = Option<ChainId>;

/// A file of a layer's record that can be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordFile {
    CacheId,
    Diff,
    Parent,
    Size,
    Descriptor,
}

impl RecordFile {
    /// The file's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CacheId => "cache-id",
            Self::Diff => "diff",
            Self::Parent => "parent",
            Self::Size => "size",
            Self::Descriptor => "descriptor.json",
        }
    }
}

/// A layer's record with damaged files: what the others say, and what is wrong.
#[derive(Debug, Default)]
pub(super) struct DamagedRecord {
    pub(super) cache: Option<CacheId>,
    pub(super) diff: Option<DiffId>,
    pub(super) parent: Option<Below>,
    pub(super) size: Option<Bytes>,
    /// What is wrong; `None` for the record as a whole.
    pub(super) faults: Vec<(Option<RecordFile>, Fault)>,
}

/// The layer store.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Layers whose files are all sound.
    pub(crate) sound: BTreeMap<ChainId, Layer>,
    /// Every layer with a directory, sound or not.
    pub(crate) present: BTreeSet<ChainId>,
    /// Records with a damaged file.
    pub(super) damaged: BTreeMap<ChainId, DamagedRecord>,
    /// Driver ids of layers whose deletion did not finish.
    pub(super) removing: BTreeSet<CacheId>,
    /// The store's directory, for messages.
    path: PathBuf,
}

impl Layers {
    /// Reads the layer store.
    pub(crate) fn read(layerdb: &Dir, notes: &mut Diagnostics) -> Self {
        let mut layers = Self {
            path: layerdb.join("sha256"),
            ..Self::default()
        };
        // A root whose images have no layers at all may lack the directory.
        let Some(Some(store)) = notes.keep(&Subject::Root, layerdb.dir_if_any("sha256")) else {
            return layers;
        };
        for entry in notes.keep(&Subject::Root, store.list()).unwrap_or_default() {
            if is_store_dir(&store, &entry.name, entry.kind, notes) {
                layers.read_entry(&store, &entry.name, notes);
            }
        }
        for entry in notes
            .keep(&Subject::Root, layerdb.list_if_any("tmp"))
            .unwrap_or_default()
        {
            let path = layerdb.join("tmp").join(entry.name);
            notes.warn(Warning::Leftover {
                path,
                what: Leftover::Write,
            });
        }
        layers
    }

    fn read_entry(&mut self, store: &Dir, name: &OsStr, notes: &mut Diagnostics) {
        if let Some(chain) = ChainId::from_file_name(name.as_bytes()) {
            self.present.insert(chain);
            match store.dir(name) {
                Ok(dir) => self.read_record(&dir, chain, notes),
                Err(error) => {
                    let record = DamagedRecord {
                        faults: vec![(None, error.into())],
                        ..DamagedRecord::default()
                    };
                    self.damaged.insert(chain, record);
                }
            }
            return;
        }
        let is_removal = name.as_bytes().ends_with(b"-removing");
        let what = if is_removal {
            Leftover::Removal
        } else {
            Leftover::Unknown
        };
        notes.warn(Warning::Leftover {
            path: store.join(name),
            what,
        });
        if is_removal && let Ok(text) = store.dir(name).and_then(|dir| dir.read("cache-id")) {
            self.removing.extend(CacheId::parse(text.trim_ascii()));
        }
    }

    fn read_record(&mut self, dir: &Dir, chain: ChainId, notes: &mut Diagnostics) {
        let mut record = DamagedRecord::read(dir);
        record.look_at_copied(dir, chain, notes);
        match record.sound() {
            Some(layer) => {
                self.sound.insert(chain, layer);
            }
            None => {
                self.damaged.insert(chain, record);
            }
        }
    }

    /// Reports the damaged records.
    pub(super) fn report(&mut self, notes: &mut Diagnostics) {
        for (chain, record) in std::mem::take(&mut self.damaged) {
            for (_, fault) in record.faults {
                notes.fault(Subject::Chain(chain), fault);
            }
        }
    }

    /// Checks each layer's chain id, and that its parent exists.
    pub(crate) fn check(&self, notes: &mut Diagnostics) {
        for (&chain, layer) in &self.sound {
            let computed = ChainId::on(layer.parent, layer.diff);
            if computed != chain {
                let path = self.dir_of(chain);
                notes.fault(
                    Subject::Chain(chain),
                    Fault::ChainMismatch { path, computed },
                );
            }
            if let Some(parent) = layer.parent.filter(|parent| !self.present.contains(parent)) {
                let path = self.dir_of(chain).join("parent");
                notes.fault(
                    Subject::Chain(chain),
                    Fault::ParentChainMissing { path, parent },
                );
            }
        }
    }

    /// A layer's directory, for messages.
    pub(super) fn dir_of(&self, chain: ChainId) -> PathBuf {
        self.path.join(chain.file_name())
    }
}

impl DamagedRecord {
    /// Reads one layer's small files. Records all of its faults, not only the first.
    fn read(dir: &Dir) -> Self {
        let mut record = Self::default();
        record.cache = record.keep(
            RecordFile::CacheId,
            read_id(dir, "cache-id", CacheId::parse),
        );
        record.diff = record.keep(RecordFile::Diff, read_id(dir, "diff", DiffId::parse));
        let parent = read_id_if_any(dir, "parent", ChainId::parse);
        record.parent = record.keep(RecordFile::Parent, parent);
        record.size = record.keep(RecordFile::Size, read_size(dir));
        record
    }

    fn keep<T>(&mut self, file: RecordFile, read: Result<T, Fault>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push((Some(file), fault));
                None
            }
        }
    }

    /// Checks the files that are copied but not read. Docker does not load a layer whose `descriptor.json` is not JSON.
    /// Source: moby v20.10 `layer/filestore.go`, `GetDescriptor`.
    fn look_at_copied(&mut self, dir: &Dir, chain: ChainId, notes: &mut Diagnostics) {
        match dir.read_if_any("descriptor.json") {
            Ok(None) => {}
            Ok(Some(text)) => {
                if let Err(source) = Object::parse(&text) {
                    let path = dir.join("descriptor.json");
                    let fault = Fault::BadJson { path, source };
                    self.faults.push((Some(RecordFile::Descriptor), fault));
                }
            }
            Err(error) => self
                .faults
                .push((Some(RecordFile::Descriptor), error.into())),
        }
        let subject = Subject::Chain(chain);
        let Some(stat) = notes.keep(&subject, dir.stat_of("tar-split.json.gz")) else {
            return;
        };
        match stat {
            Some(stat) if stat.st_size == 0 => {
                let path = dir.join("tar-split.json.gz");
                notes.fault(subject, Fault::NoTarSplit { path });
            }
            None => notes.warn(Warning::NoTarSplit { chain }),
            Some(_) => {}
        }
    }

    /// The layer, if the record has no faults.
    fn sound(&self) -> Option<Layer> {
        if !self.faults.is_empty() {
            return None;
        }
        Some(Layer {
            diff: self.diff?,
            parent: self.parent?,
            cache: self.cache.clone()?,
            size: self.size?,
        })
    }
}

fn read_size(dir: &Dir) -> Result<Bytes, Fault> {
    let text = read_text(dir, "size")?;
    // Docker writes a signed number; a negative one means that the size is not known.
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or_else(|| Fault::BadNumber {
        path: dir.join("size"),
    })?;
    Ok(Bytes(u64::try_from(number).unwrap_or(0)))
}

/// Reads a file that holds one id. Trims white space, as Docker does when it reads these files.
pub(super) fn read_id<T>(
    dir: &Dir,
    name: &str,
    parse: fn(&[u8]) -> Result<T, IdError>,
) -> Result<T, Fault> {
    let text = read_text(dir, name)?;
    parse(&text).map_err(|source| {
        let value = escape(&text[..text.len().min(80)]);
        Fault::BadId {
            path: dir.join(name),
            value,
            source,
        }
    })
}

/// [`read_id`], or `None` if the file does not exist.
pub(super) fn read_id_if_any<T>(
    dir: &Dir,
    name: &str,
    parse: fn(&[u8]) -> Result<T, IdError>,
) -> Result<Option<T>, Fault> {
    match dir.kind(name)? {
        None => Ok(None),
        Some(_) => read_id(dir, name, parse).map(Some),
    }
}

fn read_text(dir: &Dir, name: &str) -> Result<Vec<u8>, Fault> {
    let Some(text) = dir.read_if_any(name)? else {
        return Err(Fault::Missing {
            path: dir.join(name),
        });
    };
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(Fault::Empty {
            path: dir.join(name),
        });
    }
    Ok(text.to_vec())
}
