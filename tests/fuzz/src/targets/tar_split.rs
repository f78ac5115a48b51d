//! A layer's `tar-split.json.gz`.

use std::io::Write;

use aufs2dm::crc64::crc64;
use aufs2dm::tar_split::{
    ContentRecord, Contents, Error, FileLookup, Header, HeaderError, Names, Observer, Record,
    Records, clean_name, headers, reassemble,
};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Collects what it is told, up to a limit.
#[derive(Default)]
struct Seen(Vec<Result<Header, HeaderError>>);

impl Observer for Seen {
    fn header(&mut self, header: Result<Header, HeaderError>) {
        assert!(
            self.0.last().is_none_or(Result::is_ok),
            "told beyond an error"
        );
        self.0.push(header);
    }
}

/// The files of the layer: which one is how depends on its name alone.
struct Files;

impl Contents for Files {
    type Error = Error;

    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Error> {
        assert_eq!(clean_name(path), path);
        let crc64 = recorded.crc64;
        Ok(match path.last() {
            Some(b'a') => FileLookup::Absent,
            Some(b'b') => FileLookup::Blocked,
            Some(b'c') => FileLookup::NotRegular,
            Some(b'd') => FileLookup::OtherSize(recorded.size / 2),
            Some(b'e') => FileLookup::Again,
            Some(b'f') => FileLookup::Content { crc64: !crc64 },
            _ => {
                let content = vec![b'x'; usize::try_from(recorded.size.min(64)).unwrap_or(64)];
                sink(&content);
                FileLookup::Content { crc64 }
            }
        })
    }
}

/// The two ways to read the names agree, and so do the two ways to read the headers. What is read is bounded by the input.
///
/// If the first byte is odd, the rest is the file; otherwise it is compressed first, because a fuzzer makes no gzip.
pub(super) fn tar_split(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else {
        return;
    };
    let gzip = if choice & 1 == 1 {
        input.to_vec()
    } else {
        compressed(input)
    };
    let records: Vec<_> = Records::new(&gzip[..]).collect();
    let entries = records.iter().filter_map(|record| match record {
        Ok(Record::Entry(entry)) => Some(&entry.name),
        _ => None,
    });
    let names = Names::new(&gzip[..]).map_while(Result::ok);
    // `Names` does not decode what it does not need, so it may come further.
    assert!(names.zip(entries).all(|(name, entry)| name == *entry));
    let mut trusted = Seen::default();
    let all = headers(&gzip[..], &mut trusted);
    let mut seen = Seen::default();
    let mut bytes = 0_u64;
    let mut sink = |piece: &[u8]| bytes += piece.len() as u64;
    let done = reassemble(&gzip[..], &mut Files, &mut seen, &mut sink);
    assert_eq!(seen.0, trusted.0);
    assert_eq!(
        (all.is_ok(), all.is_ok()),
        (done.is_ok(), records.iter().all(Result::is_ok))
    );
    let segments = records.iter().filter_map(|record| match record {
        Ok(Record::Segment(segment)) => Some(segment.len() as u64),
        _ => None,
    });
    let nr_records = records.len() as u64;
    assert!(bytes <= segments.sum::<u64>() + 64 * nr_records);
    crc64(input);
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text).expect("memory takes all");
    gzip.finish().expect("memory takes all")
}
