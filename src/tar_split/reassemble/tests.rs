use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::crc64::crc64;

/// A layer's files in memory; `None` is a directory.
struct Files(BTreeMap<&'static str, Option<&'static str>>);

impl Contents for Files {
    type Error = Error;

    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Error> {
        let path = str::from_utf8(path).unwrap();
        let blocked = path
            .match_indices('/')
            .any(|(at, _)| matches!(self.0.get(&path[..at]), Some(Some(_))));
        Ok(match self.0.get(path) {
            None if blocked => FileLookup::Blocked,
            None => FileLookup::Absent,
            Some(None) => FileLookup::NotRegular,
            Some(Some(text)) if text.len() as u64 != recorded.size => {
                FileLookup::OtherSize(text.len() as u64)
            }
            Some(Some(text)) => {
                // Passed in pieces, like a large file.
                text.as_bytes().chunks(2).for_each(sink);
                FileLookup::Content {
                    crc64: crc64(text.as_bytes()),
                }
            }
        })
    }
}

struct NoHeaders;

impl Observer for NoHeaders {
    fn header(&mut self, _header: Result<Header, HeaderError>) {}
}

fn files<const N: usize>(files: [(&'static str, &'static str); N]) -> Files {
    let file = |text: &'static str| (text != "/").then_some(text);
    Files(files.map(|(path, text)| (path, file(text))).into())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0, |word, (at, &byte)| {
            word | u32::from(byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at > group.len() { '=' } else { digit.into() });
        }
    }
    text
}

/// The tar-split of a tar with these names in this order, each preceded by `<name>`.
fn tar_split(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut lines = String::new();
    for (name, text) in entries {
        let header = base64(format!("<{name}>").as_bytes());
        writeln!(lines, r#"{{"type":2,"payload":"{header}"}}"#).unwrap();
        let crc = base64(&crc64(text.as_bytes()).to_be_bytes());
        let size = text.len();
        writeln!(
            lines,
            r#"{{"type":1,"name":"{name}","size":{size},"payload":"{crc}"}}"#
        )
        .unwrap();
    }
    lines.push_str("{\"type\":2,\"payload\":\"\"}\n");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(lines.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn run(entries: &[(&str, &str)], mut files: Files) -> (Reassembly, String) {
    let mut tar = Vec::new();
    let gzip = &tar_split(entries)[..];
    let done = reassemble(gzip, &mut files, &mut NoHeaders, &mut |bytes| {
        tar.extend_from_slice(bytes);
    });
    (done.unwrap(), String::from_utf8(tar).unwrap())
}

#[test]
fn a_tar_is_made_of_raw_bytes_and_files() {
    let entries = [("./d/", ""), ("./d/a", "aaa"), ("empty", ""), ("b", "bb")];
    let (done, tar) = run(&entries, files([("d", "/"), ("d/a", "aaa"), ("b", "bb")]));
    assert_eq!(tar, "<./d/><./d/a>aaa<empty><b>bb");
    assert!(done.is_whole());
    assert_eq!((done.files, done.bytes), (2, 5));
}

#[test]
fn every_file_that_differs_is_told_and_how() {
    let entries = [
        ("a", "aaa"),
        ("b", "bbb"),
        ("c", "ccc"),
        ("d", "d"),
        ("e", "e"),
    ];
    let (done, tar) = run(
        &entries,
        files([("a", "aaa"), ("b", "bXb"), ("c", "cc"), ("d", "/")]),
    );
    assert_eq!(tar, "<a>aaa<b>bXb", "nothing comes after the first");
    let found: Vec<_> = done
        .differences
        .iter()
        .map(|one| (&one.path[..], one.found, one.excuse))
        .collect();
    let other = FileLookup::Content {
        crc64: crc64(b"bXb"),
    };
    let expected = [
        (&b"b"[..], other, None),
        (b"c", FileLookup::OtherSize(2), None),
        (b"d", FileLookup::NotRegular, None),
        (b"e", FileLookup::Absent, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(done.files, 5);
}

#[test]
fn what_the_same_tar_makes_impossible_is_excused() {
    for (entries, layer, excuse) in [
        (
            &[("a", "1"), ("a", "2")][..],
            files([("a", "2")]),
            Some(Excuse::Duplicate),
        ),
        (
            &[("a", "1"), (".wh.a", "")],
            files([]),
            Some(Excuse::Whiteout),
        ),
        (
            &[("d/a", "1"), (".wh.d", "")],
            files([]),
            Some(Excuse::Whiteout),
        ),
        (
            &[("d/a", "1"), ("d", "2")],
            files([("d", "2")]),
            Some(Excuse::Replaced),
        ),
        (&[(".wh.a", "filled")], files([]), Some(Excuse::Marker)),
        (
            &[(".wh..wh.plnk/1.2", "x")],
            files([]),
            Some(Excuse::Marker),
        ),
        // None of these explains the missing file.
        (&[(".wh.a", ""), ("a", "1")], files([]), None),
        (&[("d/a", "1"), ("d", "")], files([("d", "/")]), None),
        (&[("a", "1"), ("b", "2")], files([("b", "2")]), None),
        (&[("a", "1"), (".wh.a", "")], files([("a", "2")]), None),
        (&[(".whatever", "x")], files([]), None),
    ] {
        let (done, _) = run(entries, layer);
        assert_eq!(done.differences.len(), 1, "{entries:?}");
        assert_eq!(done.differences[0].excuse, excuse, "{entries:?}");
    }
}

#[test]
fn a_thousand_differences_are_counted_but_not_kept() {
    let names: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let (done, _) = run(&entries, files([]));
    assert_eq!(done.differences.len(), MAX_DIFFERENCES);
    assert_eq!(done.more, 1000 - MAX_DIFFERENCES as u64);
}
