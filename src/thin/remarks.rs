//! What is odd about a pool's metadata without being wrong.

use super::error::Error;

/// So many are kept; a pool may have lost millions of blocks, each by itself.
const KEPT: usize = 100;

/// What was found in metadata that the kernel works with all the same: blocks counted as used that nothing uses, nodes
/// emptier than they should be, totals that do not fit, a metadata snapshot, the mark that a check is needed.
#[derive(Debug, Default)]
pub struct Remarks {
    first: Vec<Error>,
    more: u64,
}

impl Remarks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The first hundred, each naming a block.
    pub fn first(&self) -> &[Error] {
        &self.first
    }

    /// The same, taken out.
    pub fn into_first(self) -> Vec<Error> {
        self.first
    }

    /// How many more there are.
    pub fn more(&self) -> u64 {
        self.more
    }

    pub(super) fn add(&mut self, remark: Error) {
        if self.first.len() < KEPT {
            self.first.push(remark);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.more += other.more;
        other.first.into_iter().for_each(|remark| self.add(remark));
    }

    /// The first of them as what is wrong, for those who take no pool with any.
    pub(super) fn into_result(self) -> Result<(), Error> {
        self.first.into_iter().next().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_are_kept_and_the_rest_is_counted() {
        let mut remarks = Remarks::default();
        assert!(remarks.is_empty());
        for _ in 0..130 {
            remarks.add(Error::NeedsCheck);
        }
        let mut all = Remarks::default();
        all.add(Error::Unformatted);
        all.append(remarks);
        assert_eq!((all.first().len(), all.more()), (100, 31));
        assert!(matches!(all.into_result(), Err(Error::Unformatted)));
    }
}
