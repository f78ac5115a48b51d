//! What `verify` says at its end is no more than what it looked at.

use std::fs;

use super::run::Tool;
use super::support::root::AufsRoot;

fn root() -> AufsRoot {
    let layers = ["one", "two", "three", "four"];
    let root = layers
        .iter()
        .zip(1..)
        .fold(AufsRoot::new(), |root, (name, byte)| {
            root.layer(name, |l| l.file(format!("{name}/data"), vec![byte; 30_000]))
        });
    let root = root.image("lab/app:1", "four");
    root.container("web", ("lab/app:1", "four"), |l| l.file("data", [7; 9000]))
}

#[test]
fn a_quick_verification_says_what_it_read_and_the_command_that_reads_all() {
    let (tool, root) = (Tool::new(), root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let ended = tool.run("verify", &root.path(), &["--quick"]);
    ended.expect(0, &[]);
    assert!(!ended.out.contains("nothing is wrong"), "{}", ended.out);
    for word in [
        "no fault in what was read: contents of ",
        " of 6 layers, ",
        "% of the bytes; ",
        " not read",
        &format!(
            "next: `aufs2dm verify --full --root {}",
            root.path().display()
        ),
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
}

#[test]
fn after_damage_the_way_back_is_a_whole_command() {
    let (tool, root) = (Tool::new(), root());
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let metadata = root.path().join("devicemapper/metadata");
    let note = fs::read_dir(&metadata)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let note = note
        .filter(|path| path.file_name().unwrap().len() == 64)
        .min();
    fs::remove_file(note.unwrap()).unwrap();
    let ended = tool.run("verify", &root.path(), &["--full"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let next = format!("`aufs2dm rollback --root {}", root.path().display());
    assert!(ended.out.contains(&next), "{}", ended.out);
}

#[test]
fn a_full_verification_is_advised_only_where_it_reads_more() {
    let (tool, root) = (Tool::new(), root());
    let unconverted = tool.run("verify", &root.path(), &["--quick"]);
    unconverted.expect(0, &[]);
    assert!(!unconverted.out.contains("--full"), "{}", unconverted.out);
    let one = AufsRoot::new()
        .recorded()
        .layer("one", |l| l.file("data", [1; 9000]))
        .image("lab/app:1", "one")
        .container("web", ("lab/app:1", "one"), |l| l.file("log", "x"));
    tool.run("convert", &one.path(), &[]).expect(0, &[]);
    let converted = tool.run("verify", &one.path(), &["--quick"]);
    assert!(converted.out.contains("verify --full"), "{}", converted.out);
    tool.run("verify", &one.path(), &["--full"]).expect(0, &[]);
    tool.run("commit", &one.path(), &["--yes"]).expect(0, &[]);
    // Its only image's layer is the sample, and of the container's nothing tells any more.
    let committed = tool.run("verify", &one.path(), &["--quick"]);
    committed.expect(0, &[]);
    assert!(!committed.out.contains("--full"), "{}", committed.out);
}
