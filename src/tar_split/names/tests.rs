use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::tar_split::error::MAX_LINE;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn names(lines: &str) -> Result<Vec<Vec<u8>>, Error> {
    Names::new(&gzip(lines.as_bytes())[..]).collect()
}

#[test]
fn entries_come_in_order_and_raw_segments_do_not() {
    let lines = r#"{"type":2,"payload":"AAAA","position":0}
{"type":1,"name":"etc/","payload":null,"position":1}
{"type":1,"name":"etc/a\u003c","size":2,"payload":"YUbwAAAAAAA=","position":2}
{"type":1,"name_raw":"/+8=","payload":null,"position":3}
{"type":1,"name":"x","name_raw":"eQ==","payload":null,"position":4}
"#;
    let expected: [&[u8]; 4] = [b"etc/", b"etc/a<", b"\xff\xef", b"y"];
    assert_eq!(names(lines).unwrap(), expected);
}

#[test]
fn a_line_that_is_no_entry_is_an_error_with_its_number() {
    for (lines, message) in [
        (
            "{\"type\":2}\nnonsense\n",
            "line 2: not an entry of a tar-split",
        ),
        ("[]\n", "line 1: not an entry of a tar-split"),
        ("{\"name\":\"a\"}\n", "line 1: not an entry of a tar-split"),
        ("{\"type\":1}\n", "line 1: tar entry without a usable name"),
        (
            "{\"type\":1,\"name_raw\":\"%\"}",
            "line 1: tar entry without a usable name",
        ),
    ] {
        assert_eq!(names(lines).unwrap_err().to_string(), message, "{lines}");
    }
}

#[test]
fn a_cut_or_damaged_stream_is_an_error() {
    let whole = gzip(b"{\"type\":1,\"name\":\"a\"}\n");
    for length in 1..whole.len() {
        let found: Result<Vec<_>, _> = Names::new(&whole[..length]).collect();
        assert!(matches!(found, Err(Error::Io { .. })), "cut at {length}");
    }
    let plain: Result<Vec<_>, _> = Names::new(&b"{\"type\":1,\"name\":\"a\"}\n"[..]).collect();
    assert!(matches!(plain, Err(Error::Io { line: 1, .. })));
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let bomb = gzip(&vec![b' '; MAX_LINE + 2]);
    let found: Result<Vec<_>, _> = Names::new(&bomb[..]).collect();
    assert!(matches!(found, Err(Error::LongLine { line: 1 })));
}

#[test]
fn nothing_comes_after_an_error() {
    let bytes = gzip(b"nonsense\n{\"type\":1,\"name\":\"a\"}\n");
    let mut names = Names::new(&bytes[..]);
    assert!(names.next().unwrap().is_err());
    assert!(names.next().is_none());
}

#[test]
fn names_become_paths_below_the_root() {
    for (name, path) in [
        ("./etc//passwd", "etc/passwd"),
        ("etc/", "etc"),
        ("/etc", "etc"),
        ("./", ""),
        ("a/../b", "b"),
        ("../../b", "b"),
        ("..a/.b", "..a/.b"),
    ] {
        assert_eq!(clean_name(name.as_bytes()), path.as_bytes(), "{name}");
    }
}
