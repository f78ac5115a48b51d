//! The rows: each type of entry with each damage that it can have.

use self::Damage::{
    CapabilityAdded, CapabilityGone, CapabilityValue, Content, DeviceNumber, Gid, Gone, Joined,
    LinkAdded, Mode, NameAdded, Nanoseconds, NoteAdded, NoteGone, NoteName, NoteValue, OpaqueAdded,
    OpaqueGone, Seconds, SetuidAdded, SetuidGone, Size, Split, Target, TargetLength, TypeChanged,
    Uid, WhiteoutAdded, WhiteoutGone, WholeSeconds,
};

/// A type of entry, as the layers have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// With content, setuid and a capability.
    File,
    /// With a time of whole seconds.
    Empty,
    /// With an entry in it, merged into one of the layer below.
    Directory,
    Symlink,
    /// One file with two names, with setuid and a capability.
    Pair,
    /// Two files that differ in their names alone.
    Twins,
    CharDevice,
    BlockDevice,
    Fifo,
    /// No tar has it, so no image.
    Socket,
    /// Of a name of the layer below.
    Whiteout,
    /// With an entry in it; one of the layer below has another.
    Opaque,
    /// A file in place of one of the layer below.
    Override,
}

impl Entry {
    /// Its path in the directory that has it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Empty => "empty",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Pair => "pair",
            Self::Twins => "twins",
            Self::CharDevice => "char",
            Self::BlockDevice => "block",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Whiteout => "removed",
            Self::Opaque => "opaque",
            Self::Override => "override",
        }
    }
}

/// What is damaged. All else stays, times of modification among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// One byte, same size.
    Content,
    Size,
    Mode,
    SetuidAdded,
    SetuidGone,
    Uid,
    Gid,
    /// Another second of the time of modification.
    Seconds,
    /// Another fraction of it.
    Nanoseconds,
    /// No fraction of it any more.
    WholeSeconds,
    /// `trusted.note` and the capability.
    NoteValue,
    NoteName,
    NoteGone,
    NoteAdded,
    CapabilityValue,
    CapabilityGone,
    CapabilityAdded,
    /// A link's target, same length.
    Target,
    TargetLength,
    DeviceNumber,
    TypeChanged,
    Gone,
    /// A file in a directory.
    NameAdded,
    /// A third name of a pair.
    LinkAdded,
    /// Two names of one file become two files.
    Split,
    /// Two files become one with two names.
    Joined,
    WhiteoutGone,
    /// Of a name of the layer below, in a directory.
    WhiteoutAdded,
    OpaqueGone,
    OpaqueAdded,
}

/// What every entry has.
const COMMON: [Damage; 11] = [
    Uid,
    Gid,
    Seconds,
    Nanoseconds,
    NoteValue,
    NoteName,
    NoteGone,
    NoteAdded,
    TypeChanged,
    Gone,
    Mode,
];

/// What it has besides. Whiteouts and twins have but this, and links have no mode of their own.
const OWN: [(Entry, &[Damage]); 13] = [
    (
        Entry::File,
        &[
            Content,
            Size,
            SetuidGone,
            WholeSeconds,
            CapabilityValue,
            CapabilityGone,
        ],
    ),
    (Entry::Empty, &[Size, SetuidAdded, CapabilityAdded]),
    (
        Entry::Directory,
        &[WholeSeconds, NameAdded, WhiteoutAdded, OpaqueAdded],
    ),
    (Entry::Symlink, &[WholeSeconds, Target, TargetLength]),
    (
        Entry::Pair,
        &[
            Content,
            Size,
            SetuidGone,
            WholeSeconds,
            CapabilityValue,
            CapabilityGone,
            Split,
            LinkAdded,
        ],
    ),
    (Entry::Twins, &[Joined]),
    (Entry::CharDevice, &[WholeSeconds, DeviceNumber]),
    (Entry::BlockDevice, &[WholeSeconds, DeviceNumber]),
    (Entry::Fifo, &[WholeSeconds]),
    (Entry::Socket, &[WholeSeconds]),
    (Entry::Whiteout, &[WhiteoutGone]),
    (Entry::Opaque, &[WholeSeconds, NameAdded, OpaqueGone]),
    (Entry::Override, &[Content, Size, WholeSeconds, SetuidAdded]),
];

/// One damage to an entry of a layer of an image or of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) entry: Entry,
    pub(super) damage: Damage,
    pub(super) is_of_image: bool,
}

impl Row {
    /// The directory of the layer that has the entry.
    pub(super) fn within(self) -> &'static str {
        if self.is_of_image {
            "image"
        } else {
            "container"
        }
    }
}

/// All rows of some types of entries.
pub(super) fn rows(entries: &[Entry]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (entry, own) in OWN {
        if !entries.contains(&entry) {
            continue;
        }
        let common = COMMON.iter().filter(|&&damage| has(entry, damage));
        for (damage, is_of_image) in common
            .chain(own)
            .flat_map(|&damage| [(damage, true), (damage, false)])
        {
            if is_of_image && entry == Entry::Socket {
                continue;
            }
            rows.push(Row {
                entry,
                damage,
                is_of_image,
            });
        }
    }
    rows
}

fn has(entry: Entry, damage: Damage) -> bool {
    match entry {
        Entry::Whiteout | Entry::Twins => false,
        Entry::Symlink => damage != Mode,
        _ => true,
    }
}

/// How many types of entries there are.
pub(super) const ENTRIES: usize = OWN.len();

/// Why the tar of an image's layer does not tell: these rows, and no others.
pub(super) fn untold(entry: Entry, damage: Damage) -> Option<&'static str> {
    match (entry, damage) {
        (_, NoteAdded | CapabilityAdded) => Some("set at run time: no tar has all xattrs"),
        (_, WholeSeconds) => Some("file systems of whole seconds cut the fraction off"),
        (Entry::Empty, Nanoseconds) => Some("its tar has whole seconds, as many writers do"),
        (Entry::Pair, SetuidGone | CapabilityGone) => {
            Some("Docker gave its second name an owner, for which the kernel takes them away")
        }
        _ => None,
    }
}

/// When something was damaged, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    /// Aufs before the conversion; verified before it.
    Unconverted,
    /// Aufs before the conversion; verified after it.
    Before,
    /// Aufs after the conversion.
    Aufs,
    /// The device after the conversion.
    Device,
    /// The device after the conversion, and another entry of the layer in aufs.
    DeviceAndAufsElsewhere,
    /// Both sides alike after the conversion.
    Both,
}

/// What `verify --full` must say of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expected {
    Sound,
    SourceDamaged,
    AufsChanged,
    Wrong,
}

pub(super) fn expected(row: Row, column: Column) -> Expected {
    let is_told = row.is_of_image && untold(row.entry, row.damage).is_none();
    match column {
        // Both sides alike: the tree is the same, and what they should be only a tar tells. A device that is not what the conversion
        // noted is no fault by itself: Docker writes to the devices of containers.
        Column::Unconverted | Column::Before | Column::Both if is_told => Expected::SourceDamaged,
        Column::Unconverted | Column::Before | Column::Both => Expected::Sound,
        // The device's bytes have the layer's digest; those of aufs are read since something was written there.
        Column::Aufs => Expected::AufsChanged,
        Column::Device | Column::DeviceAndAufsElsewhere => Expected::Wrong,
    }
}
