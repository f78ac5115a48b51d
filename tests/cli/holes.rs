//! Holes cost nothing.

use std::fs;

use serde_json::Value;

use super::run::{Tool, small_root};

#[test]
fn a_containers_sparse_file_of_a_terabyte_costs_what_its_data_costs() {
    const SIZE: u64 = 1200 << 30;
    let (tool, root) = (Tool::new(), small_root());
    let root = root.container("sparse", ("lab/app:1", "app"), |l| {
        l.sparse("lastlog", SIZE, &[(SIZE / 3, &[b'A'; 292])])
    });
    let file = root.branch("sparse rw").join("lastlog");
    assert_eq!(fs::metadata(file).unwrap().len(), SIZE);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let ended = tool.run("verify", &root.path(), &["--full", "--json"]);
    ended.expect(0, &[]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(
        report["bytes_read"].as_u64().unwrap() < 64 << 20,
        "{report}"
    );
}
