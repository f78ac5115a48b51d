//! Writes the pool's metadata file: first everything else, then the superblock.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::Error;
use super::file::create;
use crate::plan::Layout;
use crate::thin;
use crate::units::BLOCK_BYTES;

/// Writes a new metadata file; durable on return.
///
/// Block 0 stays zero until all other blocks are durable: a kernel that finds it zero takes the pool as unformatted, so
/// a partly written pool is never activated.
pub(super) fn write(layout: &Layout, path: &Path) -> Result<(), Error> {
    let file = create(path, layout.metadata_size.0)?;
    let encoded = layout
        .pool
        .encode(&mut |first_block, bytes| file.write_all_at(bytes, first_block * BLOCK_BYTES));
    let superblock = encoded.map_err(|error| match error {
        thin::Error::Write { source, .. } => Error::target(path, "write", source),
        error => Error::Thin(error),
    })?;
    let sync = || {
        file.sync_data()
            .map_err(|source| Error::target(path, "sync", source))
    };
    sync()?;
    file.write_all_at(&superblock, 0)
        .map_err(|source| Error::target(path, "write the superblock", source))?;
    sync()
}
