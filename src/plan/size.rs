//! The sizes of the base file system and of the pool's two files.

use super::devices::{Options, Plan};
use super::error::Error;
use crate::devicemapper::driver_files::{
    DEFAULT_BASE_SIZE, DEFAULT_BLOCK_SIZE, DEFAULT_DATA_SIZE, DEFAULT_METADATA_SIZE,
};
use crate::units::{BLOCK_BYTES, Bytes, DataBlocks, MetaBlocks};
use crate::{ext4, thin};

/// The size of a data block, in bytes, in a pool that the direct engine writes.
pub(crate) const DATA_BLOCK: Bytes = DEFAULT_BLOCK_SIZE;

/// The smallest base that the ext4 writer can use sensibly: journal, tables and some free space.
const MIN_BASE_SIZE: Bytes = Bytes::mib(64);
/// The largest base. Block numbers have 32 bits, and the writer stays well below the last one.
const MAX_BASE_SIZE: Bytes = Bytes::gib(15 * 1024);
/// mke2fs's ratio of one inode per 16 KiB, also used by Docker's own base device.
const DEFAULT_INODES_PER_GROUP: u32 = 8192;
/// ext4's limit with blocks of 4 KiB: one bitmap block.
const MAX_INODES_PER_GROUP: u32 = 32768;

/// The size of a block group with blocks of 4 KiB: what one bitmap block covers.
const GROUP_BYTES: u32 = 128 << 20;

/// The shape of the file systems. Shapes are tried from Docker's default upwards until all layers fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseShape {
    pub(crate) size: Bytes,
    pub(crate) inodes_per_group: u32,
    /// Whether the operator chose the size: it is then not increased, and a layer that does not fit is an error.
    pub(crate) fixed: bool,
}

impl BaseShape {
    /// The first shape to try.
    pub(crate) fn first(asked: Option<Bytes>) -> Result<Self, Error> {
        let size = asked.unwrap_or(DEFAULT_BASE_SIZE);
        let reason = if size < MIN_BASE_SIZE {
            format!("the minimum is {MIN_BASE_SIZE}")
        } else if size > MAX_BASE_SIZE {
            format!("the maximum is {MAX_BASE_SIZE}")
        } else if !size.0.is_multiple_of(DATA_BLOCK.0) {
            format!("it must be a multiple of {DATA_BLOCK}")
        } else {
            return Ok(Self {
                size,
                inodes_per_group: DEFAULT_INODES_PER_GROUP,
                fixed: asked.is_some(),
            });
        };
        Err(Error::Size {
            what: "base size (--base-size)",
            size,
            reason,
        })
    }

    /// The number of 4 KiB blocks of the file system.
    pub(crate) fn blocks(self) -> u32 {
        u32::try_from(self.size.0 / BLOCK_BYTES).expect("`first` and `grown` keep to MAX_BASE_SIZE")
    }

    /// The number of bytes of the file system per inode, like mke2fs's `-i`.
    pub(crate) fn bytes_per_inode(self) -> u32 {
        GROUP_BYTES / self.inodes_per_group
    }

    /// The next shape to try after `lack` ran out; `None` if there is none.
    ///
    /// For more inodes, a denser table is tried first, which costs only address space (a thin device maps what is
    /// written).
    pub(crate) fn grown(self, lack: Lack) -> Option<Self> {
        if lack == Lack::Inodes && self.inodes_per_group < MAX_INODES_PER_GROUP {
            return Some(Self {
                inodes_per_group: self.inodes_per_group * 2,
                ..self
            });
        }
        let size = Bytes(self.size.0 * 2);
        (!self.fixed && size <= MAX_BASE_SIZE).then_some(Self { size, ..self })
    }
}

/// What a file system ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    Blocks,
    Inodes,
}

/// What a finished layer has too little of for a container: less than a tenth free.
pub(crate) fn cramped(usage: &ext4::Usage) -> Option<Lack> {
    if usage.free_blocks < usage.blocks / 10 {
        Some(Lack::Blocks)
    } else if usage.free_inodes < usage.inodes / 10 {
        Some(Lack::Inodes)
    } else {
        None
    }
}

/// Sizes of the pool's two sparse files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSizes {
    /// The data file.
    pub data: Bytes,
    /// The metadata file.
    pub metadata: Bytes,
}

impl Plan {
    /// The sizes that the pool's files need for an engine that lets the kernel fill them.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if a requested size is not suitable.
    pub fn pool_sizes(&self, options: &Options) -> Result<PoolSizes, Error> {
        let needs = self.needs(DATA_BLOCK);
        let used = DataBlocks(needs.data.0 / DATA_BLOCK.0);
        let data = data_size(options.choices.data_size, used)?;
        let blocks = DataBlocks(data.0 / DATA_BLOCK.0);
        let metadata = metadata_size(options.choices.metadata_size, needs.metadata, blocks)?;
        Ok(PoolSizes { data, metadata })
    }
}

/// The first chain of layers that leaves less than a tenth free, by the bytes of its files and names. A requested size
/// is not checked.
pub(crate) fn cramped_chain(chains: &[Bytes], shape: BaseShape) -> Option<usize> {
    let room = shape.size.0 / 10 * 9;
    chains
        .iter()
        .position(|chain| !shape.fixed && chain.0 > room)
}

/// The size of the pool's data file: the requested size, or else Docker's default or as much as leaves a third free, in
/// whole GiB.
///
/// Docker refuses to create a layer in a pool with less than a tenth free (`dm.min_free_space`).
pub(crate) fn data_size(asked: Option<Bytes>, used: DataBlocks) -> Result<Bytes, Error> {
    let used = Bytes(used.0 * DATA_BLOCK.0);
    let wanted = Bytes(used.0 + used.0 / 2);
    let Some(size) = asked else {
        return Ok(Bytes::gib(wanted.0.div_ceil(Bytes::gib(1).0)).max(DEFAULT_DATA_SIZE));
    };
    let reason = if !size.0.is_multiple_of(DATA_BLOCK.0) {
        format!("it must be a multiple of {DATA_BLOCK}")
    } else if size.0 / 10 * 9 < used.0 {
        format!("the layers take {used}, and Docker needs a tenth free; {wanted} is enough")
    } else {
        return Ok(size);
    };
    Err(Error::Size {
        what: "data size (--data-size)",
        size,
        reason,
    })
}

/// The size of the pool's metadata file: the requested size, or else Docker's default or what the pool may need in the
/// future.
///
/// `image` is what the pool uses now. A requested size must hold that with a fifth to spare: Docker refuses to create a
/// layer with less than a tenth free, and the kernel reserves up to a tenth.
pub(crate) fn metadata_size(
    asked: Option<Bytes>,
    image: MetaBlocks,
    data: DataBlocks,
) -> Result<Bytes, Error> {
    let limit = thin::MAX_METADATA_BLOCKS.bytes();
    let Some(size) = asked else {
        return Ok(thin::device_size(image, data)
            .bytes()
            .max(DEFAULT_METADATA_SIZE)
            .min(limit));
    };
    let least = MetaBlocks(image.0 + image.0.div_ceil(4)).bytes();
    let reason = if !size.0.is_multiple_of(BLOCK_BYTES) {
        format!("it must be a multiple of {BLOCK_BYTES} bytes")
    } else if size > limit {
        format!("the maximum is {limit}")
    } else if size < least {
        format!("the pool needs {least}")
    } else {
        return Ok(size);
    };
    Err(Error::Size {
        what: "metadata size (--metadata-size)",
        size,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_starts_at_dockers_default_and_doubles() {
        let shape = BaseShape::first(None).unwrap();
        assert_eq!(shape.size, Bytes::gib(10));
        assert_eq!(shape.grown(Lack::Blocks).unwrap().size, Bytes::gib(20));
    }

    #[test]
    fn inodes_come_from_a_denser_table_before_a_larger_base() {
        let mut shape = BaseShape::first(None).unwrap();
        for expected in [(16384, 10), (32768, 10), (32768, 20)] {
            shape = shape.grown(Lack::Inodes).unwrap();
            assert_eq!(
                (shape.inodes_per_group, shape.size),
                (expected.0, Bytes::gib(expected.1))
            );
        }
    }

    #[test]
    fn a_base_size_that_was_asked_for_does_not_grow() {
        let shape = BaseShape::first(Some(Bytes::gib(1))).unwrap();
        assert_eq!(shape.grown(Lack::Blocks), None);
    }

    #[test]
    fn base_sizes_out_of_range_are_refused() {
        for size in [
            Bytes(0),
            Bytes::mib(63),
            Bytes(Bytes::gib(1).0 + 1),
            Bytes::gib(16 * 1024),
        ] {
            assert!(
                matches!(
                    BaseShape::first(Some(size)),
                    Err(Error::Size {
                        what: "base size (--base-size)",
                        ..
                    })
                ),
                "{size}"
            );
        }
    }

    #[test]
    fn the_data_file_grows_beyond_dockers_default_when_the_layers_need_it() {
        let blocks = |size: Bytes| DataBlocks(size.0 / DATA_BLOCK.0);
        assert_eq!(
            data_size(None, blocks(Bytes::gib(66))).unwrap(),
            Bytes::gib(100)
        );
        assert_eq!(
            data_size(None, blocks(Bytes::gib(200))).unwrap(),
            Bytes::gib(300)
        );
        assert!(data_size(Some(Bytes::gib(1)), blocks(Bytes::gib(1))).is_err());
        assert_eq!(
            data_size(Some(Bytes::gib(2)), blocks(Bytes::gib(1))).unwrap(),
            Bytes::gib(2)
        );
    }

    #[test]
    fn the_metadata_file_grows_beyond_dockers_default_when_the_pool_needs_it() {
        let data = DataBlocks(1_638_400);
        assert_eq!(
            metadata_size(None, MetaBlocks(1000), data).unwrap(),
            Bytes::gib(2)
        );
        assert!(metadata_size(None, MetaBlocks(786_432), data).unwrap() > Bytes::gib(6));
    }

    #[test]
    fn a_metadata_size_that_was_asked_for_must_hold_the_pool_with_a_fifth_to_spare() {
        let size = |asked| metadata_size(Some(asked), MetaBlocks(1000), DataBlocks(1_638_400));
        assert_eq!(size(Bytes(1250 * 4096)).unwrap(), Bytes(1250 * 4096));
        assert!(size(Bytes(1249 * 4096)).is_err());
        assert!(
            size(Bytes::gib(16)).is_err(),
            "more than the format can hold"
        );
    }
}
