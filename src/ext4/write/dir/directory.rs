//! Directories: names in one block, or in many behind an index by hash.
//!
//! A directory of one block is a plain list. When a name no longer fits, it becomes an index ([`htree`]) as the kernel
//! makes it at that moment; the way back does not exist. Blocks are numbered within the directory here; where they lie
//! is [`Dir::blocks`], which may be behind until the draft has given all of them a place.

use super::htree::Htree;
use super::rules::{ChangedBlocks, Rules, with};
use crate::ext4::checksum::InodeSummer;
use crate::ext4::ino::Ino;
use crate::ext4::write::dirent::{self, Entries, Entry, FileType};
use crate::ext4::write::error::Problem;
use crate::ext4::write::extents::Blocks;

/// One directory.
#[derive(Clone, Debug)]
pub(in crate::ext4::write) struct Dir {
    /// What `..` names.
    pub(super) parent: Ino,
    /// Directories in it: each one's `..` counts as a link.
    pub(in crate::ext4::write) subdirectories: u32,
    /// Where its blocks lie.
    pub(in crate::ext4::write) blocks: Blocks,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Packed entries, `.` and `..` left out.
    Linear(Box<[u8]>),
    Indexed(Box<Htree>),
}

impl Dir {
    /// A directory of these names, which are all different. It has no place yet.
    pub(in crate::ext4::write) fn build(
        parent: Ino,
        entries: &[Entry<'_>],
        rules: &Rules,
    ) -> Result<Self, Problem> {
        let bytes: usize = entries.iter().map(Entry::block_bytes).sum();
        let form = if bytes <= rules.linear_room() {
            let mut packed = Vec::with_capacity(entries.iter().map(Entry::packed_bytes).sum());
            for entry in entries {
                entry.pack(&mut packed);
            }
            Form::Linear(packed.into())
        } else {
            Form::Indexed(Box::new(Htree::build(entries, rules)?))
        };
        let subdirectories = entries.iter().filter(|entry| entry.is_directory()).count();
        Ok(Self {
            parent,
            subdirectories: u32::try_from(subdirectories).expect("fewer than inodes"),
            blocks: Blocks::None,
            form,
        })
    }

    /// Whether it has an index (`EXT4_INDEX_FL`).
    pub(in crate::ext4::write) fn is_indexed(&self) -> bool {
        matches!(self.form, Form::Indexed(_))
    }

    /// Blocks it should have.
    pub(in crate::ext4::write) fn nr_blocks(&self) -> u32 {
        match &self.form {
            Form::Linear(_) => 1,
            Form::Indexed(htree) => htree.nr_blocks(),
        }
    }

    /// All names but `.` and `..`, in no particular order.
    pub(in crate::ext4::write) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let (linear, indexed) = match &self.form {
            Form::Linear(packed) => (Some(&**packed), None),
            Form::Indexed(htree) => (None, Some(htree.leaves())),
        };
        linear
            .into_iter()
            .chain(indexed.into_iter().flatten())
            .flat_map(Entries)
    }

    /// The entry of that name.
    pub(in crate::ext4::write) fn lookup(&self, name: &[u8], rules: &Rules) -> Option<Entry<'_>> {
        match &self.form {
            Form::Linear(packed) => dirent::find(packed, name).map(|(_, entry)| entry),
            Form::Indexed(htree) => htree.lookup(name, rules),
        }
    }

    /// Adds a name that is not there.
    pub(in crate::ext4::write) fn insert(
        &mut self,
        entry: Entry<'_>,
        rules: &Rules,
        touched: &mut ChangedBlocks,
    ) -> Result<(), Problem> {
        match &mut self.form {
            Form::Linear(packed) => {
                let bytes = dirent::total_bytes(packed) + entry.block_bytes();
                if bytes <= rules.linear_room() {
                    *packed = with(packed, &entry);
                    touched.push(0);
                } else {
                    let entries: Vec<_> = Entries(packed).chain([entry]).collect();
                    let htree = Htree::build(&entries, rules)?;
                    touched.extend(0..htree.nr_blocks());
                    self.form = Form::Indexed(Box::new(htree));
                }
            }
            Form::Indexed(htree) => htree.insert(entry, rules, touched)?,
        }
        self.subdirectories += u32::from(entry.is_directory());
        Ok(())
    }

    /// Takes away a name.
    pub(in crate::ext4::write) fn remove(
        &mut self,
        name: &[u8],
        rules: &Rules,
        touched: &mut ChangedBlocks,
    ) {
        let old = self.edit(name, |packed| without(packed, name), (rules, touched));
        self.subdirectories -= u32::from(old == Some(FileType::Directory as u8));
    }

    /// Lets a name that is there name something else.
    pub(in crate::ext4::write) fn replace(
        &mut self,
        entry: Entry<'_>,
        rules: &Rules,
        touched: &mut ChangedBlocks,
    ) {
        let edit = |packed: &[u8]| with_other(packed, &entry);
        let old = self.edit(entry.name, edit, (rules, touched));
        self.subdirectories -= u32::from(old == Some(FileType::Directory as u8));
        self.subdirectories += u32::from(entry.is_directory());
    }

    /// Changes the block that holds a name; the type byte that stood there.
    fn edit(
        &mut self,
        name: &[u8],
        edit: impl Fn(&[u8]) -> Option<(Box<[u8]>, u8)>,
        (rules, touched): (&Rules, &mut ChangedBlocks),
    ) -> Option<u8> {
        match &mut self.form {
            Form::Linear(packed) => {
                let (new, old) = edit(packed)?;
                *packed = new;
                touched.push(0);
                Some(old)
            }
            Form::Indexed(htree) => {
                let (leaf, old) = htree.edit(name, edit, rules)?;
                touched.push(leaf);
                Some(old)
            }
        }
    }

    /// The bytes of the directory's `logical`-th block.
    pub(in crate::ext4::write) fn encode_block(
        &self,
        logical: u32,
        summer: &InodeSummer,
        out: &mut [u8],
    ) {
        let dots = self.dots(summer.ino);
        match &self.form {
            Form::Linear(packed) => {
                let entries = dots.into_iter().chain(Entries(packed));
                dirent::encode_block(entries, summer, out);
            }
            Form::Indexed(htree) => htree.encode_block((logical, dots), summer, out),
        }
    }

    fn dots(&self, ino: Ino) -> [Entry<'static>; 2] {
        [(&b"."[..], ino), (b"..", self.parent)].map(|(name, ino)| Entry {
            name,
            ino,
            file_type: FileType::Directory as u8,
        })
    }
}

/// A packed list with one entry less, and that entry's type; `None` when there is none of that name.
fn without(packed: &[u8], name: &[u8]) -> Option<(Box<[u8]>, u8)> {
    let (start, entry) = dirent::find(packed, name)?;
    let end = start + entry.packed_bytes();
    let rest = [&packed[..start], &packed[end..]].concat();
    Some((rest.into(), entry.file_type))
}

/// A packed list in which one name names something else, and the type it had.
fn with_other(packed: &[u8], entry: &Entry<'_>) -> Option<(Box<[u8]>, u8)> {
    let (start, old) = dirent::find(packed, entry.name)?;
    let mut other = Vec::with_capacity(packed.len());
    other.extend_from_slice(&packed[..start]);
    entry.pack(&mut other);
    other.extend_from_slice(&packed[start + old.packed_bytes()..]);
    Some((other.into(), old.file_type))
}
