//! `inspect` and `--dry-run` leave no trace.

use super::run::{Tool, small_root};
use super::support::fixture::unpack;
use super::support::trace::{age, assert_same, trace};

#[test]
fn inspect_and_dry_run_leave_no_trace_not_even_access_times() {
    let (tool, dir) = (Tool::new(), unpack("small.tar.xz"));
    let root = dir.path().join("docker");
    for (verb, options) in [
        ("inspect", &[][..]),
        ("inspect", &["--json"]),
        ("convert", &["--dry-run"]),
        ("convert", &["--dry-run", "--json", "--skip-orphans"]),
    ] {
        age(&root);
        let before = trace(&root);
        // `trace` itself has read everything.
        age(&root);
        tool.run(verb, &root, options).expect(0, &[]);
        assert_same(&before, &trace(&root));
        assert!(!root.join(".aufs2dm").exists());
        assert!(!tool.pid_file().exists());
    }
}

#[test]
fn a_refused_conversion_leaves_no_trace_either() {
    let (tool, root) = (Tool::new(), small_root());
    std::fs::remove_dir_all(root.branch("app")).unwrap();
    age(&root.path());
    let before = trace(&root.path());
    age(&root.path());
    tool.run("convert", &root.path(), &[])
        .expect(1, &["is missing"]);
    assert_same(&before, &trace(&root.path()));
    assert!(!tool.pid_file().exists());
}
