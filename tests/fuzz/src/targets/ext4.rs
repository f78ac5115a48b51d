//! An ext4 file system.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aufs2dm::ext4::read::{CheckedView, Error, ReadAt, View};
use aufs2dm::ext4::write::{Delta, Image};
use aufs2dm::ext4::{Checksums, Ino, Params};
use aufs2dm::tree::{DeviceNumber, Kind, LayerTree, Listing, Meta, Regular, Segment, Timestamp};
use flate2::read::GzDecoder;

use super::changes;
use super::sparse::Sparse;

/// The unit of changes: the smallest block of a file system.
const CHUNK: usize = 1024;

/// The unit in which our writer encodes metadata: 16 blocks of 4 KiB.
const CLUSTER: usize = 65_536;

/// What mke2fs made: `bases.sh`.
const MADE: [&[u8]; 3] = [
    include_bytes!("../../bases/block-maps.gz"),
    include_bytes!("../../bases/no-checksums.gz"),
    include_bytes!("../../bases/all-checksums.gz"),
];

/// A good file system, and what was read from it.
struct Base {
    device: Sparse,
    view: View,
}

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let made = MADE.map(|gzip| {
        let mut bytes = Vec::new();
        GzDecoder::new(gzip)
            .read_to_end(&mut bytes)
            .expect("the file is whole");
        Sparse::of(CHUNK, &bytes)
    });
    let ours = [Checksums::GroupDescriptors, Checksums::Metadata].map(planned);
    made.into_iter().chain(ours).map(Base::of).collect()
});

impl Base {
    fn of(device: Sparse) -> Self {
        let CheckedView { view, faults } = View::read(&Counting::new(&device)).expect("it is ext4");
        assert!(faults.is_empty(), "{faults:?}");
        Self { device, view }
    }
}

/// A file system of our writer.
fn planned(checksums: Checksums) -> Sparse {
    let params = Params {
        blocks: 16 * 256,
        inodes_per_group: 256,
        uuid: *b"\x7f0123456789abcde",
        hash_seed: [1, 2, 3, 4],
        checksums,
        created: Timestamp::new(1_600_000_000, 0),
    };
    let (empty, formatted) = Image::format(params).expect("the size is possible");
    let mut device = Sparse::new(CHUNK, u64::from(empty.params().blocks) * 4096);
    write(&mut device, &empty, &formatted);
    let mut draft = empty.draft();
    draft.apply(b"rootfs", &layer()).expect("the layer fits");
    let (image, delta) = draft.finish();
    write(&mut device, &image, &delta);
    let bytes = device;
    let mut device = Sparse::new(CHUNK, u64::from(image.params().blocks) * 4096);
    for number in bytes.numbers() {
        let chunk = bytes
            .get(number)
            .filter(|chunk| chunk.iter().any(|&byte| byte != 0));
        device.write(bytes.range(number).start, chunk.unwrap_or_default());
    }
    device
}

/// Writes the metadata of a delta. The content of files stays zeros.
fn write(device: &mut Sparse, image: &Image, delta: &Delta) {
    let mut bytes = vec![0; CLUSTER];
    for &cluster in &delta.metadata {
        image.encode_cluster(cluster, &mut bytes);
        device.write(u64::from(cluster) * CLUSTER as u64, &bytes);
    }
}

/// Attributes with an xattr of this many bytes.
fn meta(mode: u16, bytes: usize) -> Meta {
    let time = Timestamp::new(1_600_000_000, 1);
    let value = vec![b'v'; bytes].into_boxed_slice();
    let xattr = (b"user.name".as_slice().into(), value);
    Meta {
        mode,
        atime: time,
        mtime: time,
        ctime: time,
        xattrs: Some(xattr).filter(|_| bytes > 0).into_iter().collect(),
        ..Meta::default()
    }
}

/// Something of every kind.
fn kinds() -> [Kind; 8] {
    let number = DeviceNumber {
        major: 300,
        minor: 70_000,
    };
    let segments = (0..6).map(|at| Segment {
        start: at * 20_000,
        end: at * 20_000 + 4096,
    });
    let holes = Regular {
        size: 120_000,
        segments: Some(Box::new(segments.collect())),
    };
    [
        Kind::Symlink(vec![b'x'; 200].into()),
        Kind::Symlink(b"file".as_slice().into()),
        Kind::Regular(holes),
        Kind::CharDevice(number),
        Kind::BlockDevice(number),
        Kind::Fifo,
        Kind::Socket,
        Kind::Directory(Box::default()),
    ]
}

/// A layer with an entry of every kind, and a directory large enough for an index.
fn layer() -> LayerTree {
    let listing = |entries| Listing {
        entries,
        ..Listing::default()
    };
    let mut layer = LayerTree::new(meta(0o755, 0));
    let mut entries: Vec<(Box<[u8]>, _)> = Vec::new();
    for (at, kind) in kinds().into_iter().enumerate() {
        let id = layer.add(meta(0o644, 40 + 200 * (at % 3)), kind);
        entries.push((format!("{at}").into_bytes().into(), id));
    }
    let empty = Regular {
        size: 0,
        segments: None,
    };
    let file = layer.add(meta(0o600, 0), Kind::Regular(empty));
    let names = (0..100).map(|at| {
        let name = format!("a-name-of-some-length-that-fills-blocks-soon-{at:03}");
        (name.into_bytes().into_boxed_slice(), file)
    });
    let large = layer.add(meta(0o755, 0), Kind::Directory(Box::default()));
    layer.set_directory(large, listing(names.collect()));
    entries.push((b"large".as_slice().into(), large));
    layer.set_directory(LayerTree::ROOT, listing(entries));
    layer
}

/// Counts the bytes that are read.
struct Counting<'a> {
    device: &'a Sparse,
    bytes: AtomicU64,
}

impl<'a> Counting<'a> {
    fn new(device: &'a Sparse) -> Self {
        Self {
            device,
            bytes: AtomicU64::new(0),
        }
    }

    /// Reading costs no more than what is there.
    fn check(&self) {
        let (read, present) = (self.bytes.load(Ordering::Relaxed), self.device.present());
        assert!(
            read <= MOST_READ * present,
            "{read} bytes read of {present}"
        );
    }
}

/// How often a byte may be read: blocks that several inodes claim are read for each of them.
const MOST_READ: u64 = 64;

impl ReadAt for Counting<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.device.read(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(self.device.next(offset))
    }
}

/// A file system is read or refused with no more work than it has bytes. What is read keeps the promises of `View`, and a view that
/// is derived from the good file system is the one that was read.
///
/// The first byte chooses the file system that is changed.
pub(super) fn ext4(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let base = &BASES[usize::from(choice) % BASES.len()];
    let mut device = base.device.clone();
    let changed = changes::apply(input, &mut device);
    let source = Counting::new(&device);
    let whole = View::read(&source);
    source.check();
    let ranges: Vec<_> = changed.iter().map(|&number| device.range(number)).collect();
    let derived = base.view.derive(&Counting::new(&device), &ranges);
    match (whole, derived) {
        (Ok(whole), Ok(derived)) => {
            look(&whole);
            assert_same(&derived, &whole, &ranges);
        }
        (Err(error), Err(_)) => assert!(!told(&error).is_empty()),
        (Err(error), Ok(_)) => panic!("derived, but not read: {}", told(&error)),
        (Ok(_), Err(error)) => panic!("read, but not derived: {}", told(&error)),
    }
}

fn told(error: &Error) -> String {
    error.to_string()
}

/// Asks everything that can be asked.
fn look(checked: &CheckedView) {
    let CheckedView { view, faults } = checked;
    for fault in faults {
        assert!(!fault.to_string().is_empty());
    }
    let blocks = view.blocks();
    let names = Cell::new(0_u32);
    for (ino, inode) in view.inodes() {
        let _ = (
            inode.meta(),
            inode.file_type(),
            inode.target(),
            inode.size(),
            inode.links(),
        );
        let mut end = 0;
        for run in view.extents(ino) {
            assert!(
                u64::from(run.logical) >= end && run.blocks > 0,
                "{ino:?} {run:?}"
            );
            end = u64::from(run.logical) + u64::from(run.blocks);
            assert!(
                run.physical + u64::from(run.blocks) <= blocks,
                "{ino:?} {run:?}"
            );
        }
        let mut last: Option<&[u8]> = None;
        for (name, named) in view.names(ino) {
            assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
            assert!(last.is_none_or(|last| last < name));
            assert_eq!(view.lookup(ino, name), Some(named));
            last = Some(name);
            names.set(names.get() + 1);
        }
        assert!(view.parents(ino).all(|(_, count)| count > 0));
    }
    let _ = (
        view.uuid(),
        view.needs_recovery(),
        view.lookup(Ino::ROOT, &[b'x'; 300]),
    );
}

/// Fails unless both views answer alike.
fn assert_same(derived: &CheckedView, whole: &CheckedView, ranges: &[Range<u64>]) {
    let only = |one: &CheckedView, other: &CheckedView| {
        let faults = one.faults.iter();
        let only = faults.filter(|fault| !other.faults.contains(fault));
        only.cloned().collect::<Vec<_>>()
    };
    let differences = (only(derived, whole), only(whole, derived));
    assert!(derived.faults == whole.faults, "{differences:?}");
    let (derived, whole) = (&derived.view, &whole.view);
    assert_eq!(derived.changed_since(whole).next(), None);
    assert_eq!(derived.changed_names(whole).next(), None);
    let content = |view: &View| view.content_in(ranges).collect::<Vec<_>>();
    assert_eq!(content(derived), content(whole));
    for ((ino, inode), (other, expected)) in derived.inodes().zip(whole.inodes()) {
        assert_eq!((ino, inode.links()), (other, expected.links()));
        assert!(derived.extents(ino).eq(whole.extents(ino)));
        assert!(derived.parents(ino).eq(whole.parents(ino)));
    }
}
