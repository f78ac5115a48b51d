use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn records(lines: &str) -> Result<Vec<Record>, Error> {
    Records::new(&gzip(lines.as_bytes())[..]).collect()
}

#[test]
fn entries_and_raw_bytes_come_in_order() {
    let lines = r#"{"type":2,"payload":"AAAA","position":0}
{"type":1,"name":"etc/","payload":null,"position":1}
{"type":1,"name":"etc/a\u003c","size":2,"payload":"YUbwAAAAAAA=","position":2}

{"type":1,"name_raw":"/+8=","size":0,"payload":null,"position":3}
{"type":2,"payload":"","position":4}
"#;
    let entry = |name: &[u8], content| {
        Record::Entry(TarEntry {
            name: name.to_vec(),
            content,
        })
    };
    let recorded = ContentRecord {
        size: 2,
        crc64: crate::crc64::crc64(b"b\n"),
    };
    let expected = [
        Record::Segment(vec![0; 3]),
        entry(b"etc/", None),
        entry(b"etc/a<", Some(recorded)),
        entry(b"\xff\xef", None),
        Record::Segment(Vec::new()),
    ];
    assert_eq!(records(lines).unwrap(), expected);
}

#[test]
fn a_link_that_states_a_size_has_no_content() {
    let line = r#"{"type":1,"name":"l","size":7,"payload":"AAAAAAAAAAA=","position":2}"#;
    let found = records(line).unwrap();
    assert!(matches!(
        &found[..],
        [Record::Entry(TarEntry { content: None, .. })]
    ));
}

#[test]
fn what_no_tar_split_holds_is_an_error_with_its_line() {
    for (line, message) in [
        ("nonsense", "line 1: not an entry of a tar-split"),
        (
            r#"{"type":3,"name":"a"}"#,
            "line 1: entry of unknown type 3",
        ),
        (
            r#"{"type":1,"size":1,"payload":"YUbwAAAAAAA="}"#,
            "line 1: tar entry without a usable name",
        ),
        (
            r#"{"type":1,"name":"a","size":-1}"#,
            "line 1: tar entry without a usable size and checksum",
        ),
        (
            r#"{"type":1,"name":"a","size":1,"payload":null}"#,
            "line 1: tar entry without a usable size and checksum",
        ),
        (
            r#"{"type":1,"name":"a","size":1,"payload":"YUbw"}"#,
            "line 1: tar entry without a usable size and checksum",
        ),
        (
            r#"{"type":2,"payload":"A"}"#,
            "line 1: raw bytes that are not base64",
        ),
        (
            r#"{"type":1,"name":"a","size":18446744073709551616}"#,
            "line 1: not an entry of a tar-split",
        ),
    ] {
        assert_eq!(records(line).unwrap_err().to_string(), message, "{line}");
    }
}

#[test]
fn a_cut_or_damaged_stream_is_an_error() {
    let whole = gzip(b"{\"type\":1,\"name\":\"a\"}\n");
    for length in 1..whole.len() {
        let found: Result<Vec<_>, _> = Records::new(&whole[..length]).collect();
        assert!(matches!(found, Err(Error::Io { .. })), "cut at {length}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        // A few bits of the gzip header have no meaning; the records found must still be the same.
        if let Ok(found) = Records::new(&damaged[..]).collect::<Result<Vec<_>, _>>() {
            assert_eq!(found.len(), 1, "byte {at}");
        }
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_the_memory() {
    let bomb = gzip(&vec![b' '; MAX_LINE + 2]);
    let found: Result<Vec<_>, _> = Records::new(&bomb[..]).collect();
    assert!(matches!(found, Err(Error::LongLine { line: 1 })));
}
