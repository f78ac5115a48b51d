//! Text from the root never reaches the terminal as it is.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::run::{Ended, Tool, small_root};
use super::support::root::container_id;

/// A title, a cleared screen, a forged line, a carriage return, a C1 control, a change of direction.
const EVIL: &str = "x\x1b]0;title\x07\x1b[2J\nerror: forged\r\u{9b}2J\u{202e}y";

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[track_caller]
fn is_harmless(ended: &Ended) {
    for text in [&ended.out, &ended.err] {
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(!text.contains(obeyed), "{ended:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("error: forged")),
            "{ended:?}"
        );
    }
}

#[test]
fn names_from_the_root_are_escaped_by_every_command() {
    let (tool, root) = (Tool::new(), small_root());
    let config = root
        .path()
        .join("containers")
        .join(container_id("web"))
        .join("config.v2.json");
    edit(&config, |config| config["Name"] = json!(format!("/{EVIL}")));
    edit(&root.path().join("image/aufs/repositories.json"), |tags| {
        let known = tags["Repositories"]["lab/app"]["lab/app:1"].clone();
        let gone = format!("sha256:{}", "ab".repeat(32));
        tags["Repositories"]["e"] = json!({EVIL: known, format!("d{EVIL}"): gone});
    });

    let inspect = tool.run("inspect", &root.path(), &[]);
    assert!(inspect.out.contains("x\\x1b]0;title\\x07"), "{inspect:?}");
    is_harmless(&inspect);
    let convert = tool.run("convert", &root.path(), &["-v"]);
    convert.expect(0, &["dx\\x1b]0;title"]);
    is_harmless(&convert);
    is_harmless(&tool.run("verify", &root.path(), &["--full"]));

    let mut file = OpenOptions::new().append(true).open(&config).unwrap();
    file.write_all(b" ").unwrap();
    let store = root.path().join("image/devicemapper/repositories.json");
    edit(&store, |tags| {
        tags["Repositories"]["n"] =
            json!({format!("n{EVIL}"): tags["Repositories"]["lab/app"]["lab/app:1"]});
    });
    let status = tool.run("status", &root.path(), &[]);
    assert!(status.out.contains("x\\x1b]0;title\\x07"), "{status:?}");
    is_harmless(&status);
    let rollback = tool.run("rollback", &root.path(), &[]);
    rollback.expect(1, &["x\\x1b]0;title\\x07"]);
    is_harmless(&rollback);
}
