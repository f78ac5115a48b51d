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
        " % of the bytes; ",
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
