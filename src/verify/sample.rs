//! The layers whose contents a quick verification reads: a new sample each time, weighted by bytes.
//!
//! Half of the sample is drawn by bytes, so that a large layer is not hidden behind many small ones, and half by
//! layers, so that a layer with nearly all of the bytes does not hide the others.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::targets::Target;
use crate::docker::Store;
use crate::units::Bytes;

/// The sample has at least one byte in this many, and at least one layer.
const SHARE: usize = 16;
/// Layers above this size are taken only if there are no others: a quick verification must be quick.
const MOST: u64 = Bytes::gib(1).0;

/// A sample of the images' layers, by their indexes among the targets.
pub(super) fn sample(store: &Store, targets: &[Target]) -> HashSet<usize> {
    let size = |target: &Target| {
        let layer = target.known.chain()?;
        Some(store.layers.get(&layer)?.size.0)
    };
    let places = targets.iter().enumerate();
    let sizes: Vec<_> = places
        .filter_map(|(place, target)| Some((place, size(target)?)))
        .collect();
    // The standard library's hasher has a different key in every process.
    drawn(&sizes, RandomState::new().hash_one(sizes.len()))
}

fn drawn(sizes: &[(usize, u64)], seed: u64) -> HashSet<usize> {
    let is_small = |size: u64| size <= MOST;
    if !sizes.iter().any(|&(_, size)| is_small(size)) {
        let smallest = sizes.iter().min_by_key(|(_, size)| *size);
        return smallest.map(|&(place, _)| place).into_iter().collect();
    }
    let all: u64 = sizes
        .iter()
        .fold(0, |sum, (_, size)| sum.saturating_add(*size));
    let mut random = Random(seed);
    let small = || sizes.iter().filter(|(_, size)| is_small(*size));
    let by_layers = random.order(small().map(|&(place, _)| (place, 0)));
    let share = small().count().div_ceil(SHARE);
    let mut taken: HashSet<usize> = by_layers[..share].iter().map(|&(place, _)| place).collect();
    let mut bytes = 0;
    for (place, size) in random.order(small().copied()) {
        if bytes >= all / SHARE as u64 {
            break;
        }
        taken.insert(place);
        bytes += size;
    }
    taken
}

/// `SplitMix64`. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The things in random order; heavier ones tend to come earlier.
    fn order(&mut self, things: impl Iterator<Item = (usize, u64)>) -> Vec<(usize, u64)> {
        let mut keyed: Vec<_> = things.map(|thing| (self.key(thing.1), thing)).collect();
        keyed.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
        keyed.into_iter().map(|(_, thing)| thing).collect()
    }

    /// A sort key that puts things in random order, heavier ones earlier. Source: Efraimidis, Spirakis, "Weighted
    /// random sampling with a reservoir", 2006.
    #[expect(clippy::cast_precision_loss, reason = "it is a matter of chance")]
    fn key(&mut self, weight: u64) -> f64 {
        let unit = ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -unit.ln() / (weight as f64 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_share_of_the_bytes_and_differs_from_run_to_run() {
        let sizes: Vec<(usize, u64)> = (0..100).map(|n| (n, 1000 + 17 * n as u64)).collect();
        let all: u64 = sizes.iter().map(|(_, size)| size).sum();
        let samples: Vec<_> = (0..20).map(|seed| drawn(&sizes, seed)).collect();
        for sample in &samples {
            let bytes: u64 = sample.iter().map(|&place| sizes[place].1).sum();
            assert!(bytes >= all / 16 && bytes < all / 4, "{bytes} of {all}");
        }
        let seen: HashSet<usize> = samples.into_iter().flatten().collect();
        assert!(seen.len() > 60, "{} of 100 layers in 20 runs", seen.len());
        assert_eq!(drawn(&sizes, 7), drawn(&sizes, 7));
    }

    #[test]
    fn most_bytes_are_sampled_most_often() {
        let mut sizes: Vec<(usize, u64)> = (0..50).map(|n| (n, 100)).collect();
        sizes.push((50, 100_000));
        let with_it = (0..100).filter(|&seed| drawn(&sizes, seed).contains(&50));
        assert!(with_it.count() > 90);
        let others: HashSet<usize> = (0..100).flat_map(|seed| drawn(&sizes, seed)).collect();
        assert!(others.len() > 45, "{} of 51 in 100 runs", others.len());
    }

    #[test]
    fn huge_layers_are_read_only_where_there_are_no_others() {
        let huge = MOST + 1;
        assert_eq!(drawn(&[(0, huge), (1, huge + 1)], 1), HashSet::from([0]));
        assert_eq!(drawn(&[(0, huge), (1, 5)], 1), HashSet::from([1]));
        assert_eq!(drawn(&[], 1), HashSet::new());
    }
}
