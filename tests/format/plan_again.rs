//! A resumed run plans once more, and must find every block where the run before has put it.

use std::io::Write;

use aufs2dm::ext4::Checksums;
use aufs2dm::plan::{Layout, Options};
use sha2::{Digest, Sha256};

use crate::convert_pool::{Source, chain, lay_out, options};
use crate::support::layer::Layer;
use crate::support::random::random_stack;

/// Everything that is written but for the files' bytes, each device by itself and then the pool.
fn digests(layout: &Layout) -> Vec<String> {
    let mut digests = Vec::new();
    let mut cluster = vec![0; 64 << 10];
    for (device, laid) in layout.iter() {
        let mut sum = Sha256::new();
        let numbers = (device.thin_id, device.transaction_id, device.parent);
        write!(
            sum,
            "{numbers:?} {:?} {:?}",
            laid.first_block, laid.clusters
        )
        .unwrap();
        for run in &laid.delta.data {
            let path = device.layer.as_ref().unwrap().tree.display_path(run.node);
            write!(
                sum,
                "{path} {} {} {}",
                run.logical, run.physical, run.blocks
            )
            .unwrap();
        }
        for at in &laid.delta.metadata {
            laid.image.encode_cluster(*at, &mut cluster);
            sum.update(&cluster);
        }
        digests.push(format!("{:x}", sum.finalize()));
    }
    let mut sum = Sha256::new();
    let sizes = (layout.data_size, layout.metadata_size, layout.uuid);
    write!(sum, "{sizes:?}").unwrap();
    let mut sink = |at: u64, bytes: &[u8]| {
        sum.update(at.to_le_bytes());
        sum.update(bytes);
        Ok(())
    };
    let superblock = layout.pool.encode(&mut sink).unwrap();
    sum.update(superblock);
    digests.push(format!("{:x}", sum.finalize()));
    digests
}

/// Reads and plans again and again, the layers in another order each time.
#[track_caller]
fn assert_same_each_time(layers: &[Source], options: &Options) {
    // Reading the branches moves access times, once.
    lay_out(layers, options).unwrap();
    let mut layers = layers.to_vec();
    let first = digests(&lay_out(&layers, options).unwrap());
    for _ in 0..3 {
        layers.rotate_left(1);
        assert_eq!(digests(&lay_out(&layers, options).unwrap()), first);
    }
}

fn both_kinds() -> [Options; 2] {
    [Checksums::GroupDescriptors, Checksums::Metadata].map(|checksums| Options {
        checksums,
        ..options()
    })
}

/// A name that hashes to whatever.
fn name(at: usize) -> String {
    format!("d/entry-{at}-{}", "x".repeat(at % 90))
}

#[test]
fn the_same_layers_are_planned_the_same_to_the_byte() {
    for (seed, options) in (100..).zip(both_kinds().into_iter().cycle()).take(4) {
        let stack = random_stack(seed);
        let mut layers = chain(&stack.branches);
        // Beside each other as well as upon each other.
        for (at, (_, parent, _)) in layers.iter_mut().enumerate() {
            if at % 3 == 2 {
                *parent = Some("layer00000".to_owned());
            }
        }
        assert_same_each_time(&layers, &options);
    }
}

#[test]
fn so_are_large_directories_shared_attributes_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let full = (0..2000).fold(Layer::new(dir.path().join("full")), |layer, at| {
        let layer = layer.file(name(at), vec![7; at % 50 * 100]);
        match at % 20 {
            0 => layer.xattr(name(at), "user.set", &[[b'a', b'b', b'c'][at % 3]; 300]),
            1 => layer.hard_link(name(at), format!("link{at}")),
            _ => layer,
        }
    });
    let thinned = (0..2000)
        .step_by(3)
        .fold(Layer::new(dir.path().join("thinned")), |layer, at| {
            layer.whiteout(name(at))
        });
    let layers = chain(&[full.finish(), thinned.finish()]);
    for options in both_kinds() {
        assert_same_each_time(&layers, &options);
    }
}
