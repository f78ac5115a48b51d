//! What devicemapper limits for containers is said before and after a conversion.

use serde_json::Value;

use super::run::{Tool, small_root};
use super::support::root::AufsRoot;

/// A root with a container that has much data of its own, and one that has little.
fn uneven_root() -> AufsRoot {
    let content = vec![0x5a_u8; 50 << 20];
    AufsRoot::new()
        .layer("base", |l| l.file("bin/sh", "#!"))
        .image("lab/app:1", "base")
        .container("full", ("lab/app:1", "base"), |l| l.file("data", &content))
        .container("empty", ("lab/app:1", "base"), |l| l.file("log", "line"))
}

#[test]
fn the_fullest_containers_are_named_with_the_option_that_gives_them_room() {
    let (tool, root) = (Tool::new(), uneven_root());
    let options = ["--dry-run", "--base-size", "64M"];
    let planned = tool.run("convert", &root.path(), &options);
    planned.expect(
        0,
        &["full 8", "--base-size 1G", "each container's file system"],
    );
    assert!(!planned.err.contains("empty"), "{planned:?}");
    for words in [
        "limit       each container's file system has 64.0 MiB in all; fullest: full 8",
        "free in the pool, and below",
        "free on the disk below it",
    ] {
        assert!(planned.out.contains(words), "{words}: {planned:?}");
    }
    let json = tool.run(
        "convert",
        &root.path(),
        &[&options[..], &["--json"]].concat(),
    );
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["fullest"][0]["name"], "full", "{json}");
    assert!(json["fullest"][0]["percent"].as_u64() >= Some(80), "{json}");
    // With room enough there is nothing to warn of.
    let roomy = tool.run("convert", &root.path(), &["--dry-run"]);
    roomy.expect(0, &[]);
    assert!(!roomy.err.contains("fails to write"), "{roomy:?}");
    assert!(
        roomy.out.contains("10.0 GiB in all; fullest: "),
        "{roomy:?}"
    );
}

#[test]
fn the_summary_says_how_a_pool_in_files_is_backed_up_and_when_it_counts_as_full() {
    let (tool, root) = (Tool::new(), small_root());
    let config = tool.host_root().join("etc/docker/daemon.json");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    let options = r#"{"storage-driver": "devicemapper", "storage-opts": ["dm.min_free_space=5%"]}"#;
    std::fs::write(config, options).unwrap();
    let done = tool.run("convert", &root.path(), &["--data-size", "40G"]);
    done.expect(0, &[]);
    for words in [
        "tar -S",
        "rsync -S",
        "below 2.0 GiB Docker creates no container",
    ] {
        assert!(done.out.contains(words), "{words}: {done:?}");
    }
}
