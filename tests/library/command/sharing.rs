//! Roots on file systems that share blocks between files: btrfs and XFS.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use aufs2dm::units::Bytes;
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use super::pool::{
    Flat, Mounted, PoolFiles, Source, branches_of, chain, lay_out, options, subdirectory, succeed,
};
use crate::support::compare::assert_same;
use crate::support::layer::Layer;
use crate::support::merge::reference_merge;
use crate::support::merged::MergedTree;
use crate::support::random::Random;
use crate::support::walk::walk;

const BIG: u64 = 60 << 20;

fn noise(length: u64) -> Vec<u8> {
    let mut random = Random(length);
    (0..length.div_ceil(8))
        .flat_map(|_| random.next().to_le_bytes())
        .take(usize::try_from(length).unwrap())
        .collect()
}

/// Two layers whose files end in whole blocks and do not, are large and small, and have holes.
fn layers(dir: &Path) -> Vec<Source> {
    let tail = noise(5000);
    let base = Layer::new(dir.join("base"))
        .file("big", noise(BIG))
        .file("odd", noise(1_000_001))
        .file("small", noise(10_000))
        .file("d/limit", noise(128 * 1024))
        .file("d/less", noise(128 * 1024 - 1))
        .sparse(
            "holes",
            9 << 20,
            &[(1 << 20, &noise(700_000)), ((9 << 20) - 5000, &tail)],
        );
    let top = Layer::new(dir.join("top"))
        .file("odd", noise(2_000_003))
        .whiteout("small");
    chain(&[base.finish(), top.finish()])
}

fn free(path: &Path) -> u64 {
    succeed(&mut Command::new("sync"));
    let stat = statvfs(path).unwrap();
    stat.blocks_free() * stat.fragment_size()
}

/// The merge, less what is the file system's own and not the layer's.
fn expected(branches: &[std::path::PathBuf]) -> MergedTree {
    let mut tree = reference_merge(branches);
    for entry in tree.entries.values_mut() {
        entry.xattrs.retain(|name, _| {
            !name.starts_with(b"btrfs.") && !name.starts_with(b"trusted.SGI_ACL_")
        });
    }
    tree
}

fn judge(files: &PoolFiles<'_>, layers: &[Source], layout: &aufs2dm::plan::Layout) {
    let dumps = files.dump();
    for device in &layout.plan.devices {
        let flat: Flat = files.flat(&dumps[&device.thin_id.value()]);
        flat.check();
        let Some(layer) = &device.layer else { continue };
        let mounted = flat.mount("ro,noload");
        let expected = expected(&branches_of(layers, layer.id.as_str()));
        assert_same(layer.id.as_str(), &expected, &walk(&mounted.rootfs()));
    }
}

/// Bytes by which writing the pool of these layers lessens the free space.
fn cost(disk: &Mounted, layers: &[Source]) -> u64 {
    let layout = lay_out(layers, &options()).unwrap();
    let before = free(disk.path());
    let files = PoolFiles::write(&layout, &subdirectory(disk.path(), "out"));
    let cost = before.saturating_sub(free(disk.path()));
    judge(&files, layers, &layout);
    cost
}

#[test]
fn large_files_are_shared_and_all_files_are_right() {
    for of in ["btrfs", "xfs"] {
        let dir = TempDir::new().unwrap();
        let disk = Mounted::made(of, Bytes::mib(600), dir.path());
        let cost = cost(&disk, &layers(disk.path()));
        assert!(cost < BIG / 2, "{of}: {cost} bytes for {BIG}");
    }
}

#[test]
fn files_that_cannot_be_shared_are_copied() {
    let dir = TempDir::new().unwrap();
    let disk = Mounted::made("btrfs", Bytes::mib(600), dir.path());
    let layers = layers(disk.path());
    // Made without copy on write and checksums, a file shares blocks with its like only.
    let branch = &layers[0].2;
    for name in ["aaa", "zzz"] {
        let path = branch.join(name);
        File::create(&path).unwrap();
        succeed(Command::new("chattr").arg("+C").arg(&path));
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&noise(BIG / 2), 0).unwrap();
    }
    let cost = cost(&disk, &layers);
    assert!(cost < 2 * BIG, "{cost}");
}

#[test]
fn attributes_that_are_the_file_systems_own_stay_behind() {
    let dir = TempDir::new().unwrap();
    let disk = Mounted::made("btrfs", Bytes::mib(600), dir.path());
    let compressed = subdirectory(disk.path(), "compressed");
    xattr::set(&compressed, "btrfs.compression", b"zstd").unwrap();
    let layers = layers(&compressed);
    let branch = &layers[0].2;
    fs::write(branch.join("text"), "compress me ".repeat(100_000)).unwrap();
    assert!(
        xattr::get(branch.join("text"), "btrfs.compression")
            .unwrap()
            .is_some()
    );
    cost(&disk, &layers);

    let disk = Mounted::made("xfs", Bytes::mib(400), dir.path());
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x05\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let layer = Layer::new(disk.path().join("branch"))
        .file("acl", "")
        .xattr("acl", "system.posix_acl_access", acl)
        .dir("d")
        .xattr("d", "system.posix_acl_default", acl)
        .file("own", "")
        .xattr("own", "trusted.SGI_ACL", b"a layer's");
    cost(&disk, &chain(&[layer.finish()]));
}
