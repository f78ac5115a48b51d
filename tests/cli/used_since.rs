//! What came to the devicemapper side without any container's config or device file: `rollback` loses it only by force.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::run::{Tool, small_root};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, contents};

const POOL_DATA: &str = "devicemapper/devicemapper/data";
const POOL_METADATA: &str = "devicemapper/devicemapper/metadata";

fn converted(options: &[&str]) -> (Tool, AufsRoot) {
    let (tool, root) = (Tool::new(), small_root());
    tool.run("convert", &root.path(), options).expect(0, &[]);
    (tool, root)
}

/// Writes some bytes in the middle of a file once more, as they are.
fn write_in_place(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = [0; 512];
    file.read_exact_at(&mut bytes, 4096).unwrap();
    file.write_all_at(&bytes, 4096).unwrap();
}

/// `rollback` names it and changes nothing, `status` names it, and `--force` goes back.
fn lost_by_force_alone(tool: &Tool, root: &AufsRoot, words: &[&str]) {
    let before = contents(&root.path());
    tool.run("rollback", &root.path(), &[])
        .expect(1, &[words, &["rollback --force"]].concat());
    assert_same(&before, &contents(&root.path()));
    let status = tool.run("status", &root.path(), &[]);
    for word in words {
        assert!(status.out.contains(word), "{status:?}");
    }
    tool.run("rollback", &root.path(), &["--force"])
        .expect(0, words);
    assert!(!root.path().join("devicemapper").exists());
}

#[test]
fn data_that_was_written_to_the_pool_is_lost_only_by_force() {
    let words = ["the pool's data was written to"];
    for options in [&[][..], &["--no-verify"]] {
        let (tool, root) = converted(options);
        write_in_place(&root.path().join(POOL_DATA));
        lost_by_force_alone(&tool, &root, &words);
    }
    // A verification after it proves the devices, and makes nothing of that dispensable.
    let (tool, root) = converted(&[]);
    write_in_place(&root.path().join(POOL_DATA));
    tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
    lost_by_force_alone(&tool, &root, &words);
}

#[test]
fn an_image_without_a_name_is_lost_only_by_force() {
    let (tool, root) = converted(&[]);
    let name = format!("imagedb/content/sha256/{}", "5".repeat(64));
    let config = root.path().join("image/devicemapper").join(&name);
    fs::write(config, "{}").unwrap();
    lost_by_force_alone(&tool, &root, &["1 new objects in the image store", &name]);
}

#[test]
fn what_holds_no_content_needs_no_force() {
    let harmless: [fn(&Path); 5] = [
        |_| {},
        // A kernel that activates the pool writes there.
        |root| write_in_place(&root.join(POOL_METADATA)),
        |root| fs::remove_file(root.join(POOL_DATA)).unwrap(),
        |root| {
            let known = root.join("image/devicemapper/distribution/diffid-by-digest/sha256");
            fs::create_dir_all(&known).unwrap();
            fs::write(known.join("5".repeat(64)), "x").unwrap();
        },
        |root| {
            let image = root.join("image/aufs/imagedb/content/sha256");
            let entry = fs::read_dir(image).unwrap().next().unwrap().unwrap();
            let name = Path::new("image/devicemapper/imagedb/content/sha256");
            fs::remove_file(root.join(name).join(entry.file_name())).unwrap();
        },
    ];
    for harm in harmless {
        for verified in [true, false] {
            let (tool, root) = converted(if verified { &[] } else { &["--no-verify"] });
            if verified {
                tool.run("verify", &root.path(), &["--full"]).expect(0, &[]);
            }
            let before = contents(&root.path().join("aufs"));
            harm(&root.path());
            tool.run("rollback", &root.path(), &[]).expect(0, &[]);
            assert_same(&before, &contents(&root.path().join("aufs")));
        }
    }
}

#[test]
fn that_the_pool_was_activated_is_told_of_a_root_that_goes_back() {
    let (tool, root) = converted(&[]);
    tool.run("verify", &root.path(), &[]).expect(0, &[]);
    let metadata = root.path().join(POOL_METADATA);
    let file = File::options().write(true).open(metadata).unwrap();
    // Behind the superblock's members.
    file.write_all_at(b"x", 4000).unwrap();
    tool.run("rollback", &root.path(), &[]).expect(
        0,
        &["the pool's metadata was written to after the latest verification"],
    );
}
