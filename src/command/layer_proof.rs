//! Proves that a branch is the layer that a damaged record describes.

use sha2::{Digest as _, Sha256};

use crate::chain::Chain;
use crate::content::{BranchFiles, Halt, ReadJob, read_branch};
use crate::docker::{CacheId, ChainId, DiffId, Root};
use crate::progress::{Cancel, Silent};
use crate::tar_split::{Header, HeaderError, Observer, reassemble};

/// Whether the tar that is recorded for `chain`, put together from the files of a branch, has this digest. `false` if
/// that cannot be found out.
pub(super) fn is_layer(
    root: &Root,
    cancel: &Cancel,
    (branch, chain, diff): (&CacheId, ChainId, DiffId),
) -> bool {
    match digest_of(root, cancel, (branch, chain)) {
        Ok(Some(digest)) => diff.is_of(digest),
        Ok(None) => false,
        Err(halt) => {
            log::info!("layer {branch}: {}", Chain(&halt));
            false
        }
    }
}

/// The digest of the tar; `None` if there is no record of it, or a file is not as recorded.
fn digest_of(
    root: &Root,
    cancel: &Cancel,
    (id, chain): (&CacheId, ChainId),
) -> Result<Option<[u8; 32]>, Halt> {
    let record = root.tar_split(&chain);
    let Ok(tar_split) = root.open_tar_split(&chain) else {
        return Ok(None);
    };
    let job = ReadJob::new(cancel, &Silent);
    let layer = read_branch(&job, id, &root.branch(id), Some(&record))?;
    let mut files = BranchFiles::new(&job, &layer)?;
    let mut digest = Sha256::new();
    let whole = reassemble(tar_split, &mut files, &mut NoObserver, &mut |bytes| {
        digest.update(bytes);
    })?;
    Ok(whole.is_whole().then(|| digest.finalize().into()))
}

struct NoObserver;

impl Observer for NoObserver {
    fn header(&mut self, _: Result<Header, HeaderError>) {}
}
