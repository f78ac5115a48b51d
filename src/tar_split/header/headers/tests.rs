use super::*;

/// A header block as GNU tar writes it, with other bytes at some offsets.
fn block(kind: u8, name: &str, other: &[(usize, &[u8])]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0004755\0");
    put(108, b"0001750\0");
    put(116, b"0000144\0");
    put(124, b"00000000000\0");
    put(136, b"13640000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    for (at, bytes) in other {
        put(*at, bytes);
    }
    with_checksum(block)
}

fn with_checksum(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// An extension header with its data, padded.
fn extension(kind: u8, data: &[u8]) -> Vec<u8> {
    let size = format!("{:011o}\0", data.len());
    let mut bytes = block(kind, "extension", &[(124, size.as_bytes())]).to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..rest + 9).find(|all| all.to_string().len() + rest == *all);
    let mut record = format!("{} {key}=", length.unwrap()).into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn parsed(parts: &[&[u8]]) -> Header {
    parse(&parts.concat()).unwrap()
}

#[test]
fn a_header_tells_all_that_an_entry_has() {
    let header = parsed(&[&block(b'0', "bin/su", &[(124, b"00000000012\0")])]);
    assert_eq!(header.name, b"bin/su");
    assert_eq!(header.kind, HeaderKind::Regular(10));
    assert_eq!((header.mode, header.uid, header.gid), (0o4755, 1000, 100));
    assert_eq!(header.mtime, Timestamp::new(0o13_640_000_000, 0));
    assert!(!header.has_fraction && header.xattrs.is_empty());
}

#[test]
fn types_links_and_device_numbers_are_read() {
    let numbers: &[(usize, &[u8])] = &[(329, b"0000454\0"), (337, b"0210560\0")];
    let number = DeviceNumber {
        major: 300,
        minor: 70_000,
    };
    let link: &[(usize, &[u8])] = &[(157, b"../to")];
    for (kind, name, other, expected) in [
        (b'5', "d/", &[][..], HeaderKind::Directory),
        (0, "d/", &[], HeaderKind::Directory),
        (0, "f", &[], HeaderKind::Regular(0)),
        (b'1', "h", link, HeaderKind::HardLink((*b"../to").into())),
        (b'2', "s", link, HeaderKind::Symlink((*b"../to").into())),
        (b'3', "c", numbers, HeaderKind::CharDevice(number)),
        (b'4', "b", numbers, HeaderKind::BlockDevice(number)),
        (b'6', "p", &[], HeaderKind::Fifo),
        (b'S', "sparse", &[], HeaderKind::Other(b'S')),
    ] {
        assert_eq!(
            parsed(&[&block(kind, name, other)]).kind,
            expected,
            "{name}"
        );
    }
}

#[test]
fn names_of_all_dialects_are_joined() {
    let prefix: &[(usize, &[u8])] = &[(345, b"usr/share")];
    assert_eq!(parsed(&[&block(b'0', "f", prefix)]).name, b"usr/share/f");
    // GNU keeps times there, which are not part of the name.
    let gnu: &[(usize, &[u8])] = &[(257, b"ustar  \0"), (345, b"13640000000\0")];
    assert_eq!(parsed(&[&block(b'0', "f", gnu)]).name, b"f");
    let v7: &[(usize, &[u8])] = &[(257, &[0; 8]), (345, b"left over")];
    assert_eq!(parsed(&[&block(b'0', "f", v7)]).name, b"f");
    let long = "n".repeat(300);
    let header = parsed(&[
        &extension(b'L', format!("{long}\0").as_bytes()),
        &extension(b'K', b"target\0"),
        &block(b'2', &long[..100], &[]),
    ]);
    assert_eq!(header.name, long.as_bytes());
    assert_eq!(header.kind, HeaderKind::Symlink((*b"target").into()));
}

#[test]
fn pax_records_win_over_the_header() {
    let records = [
        record("path", b"caf\xe9"),
        record("uid", b"3000000"),
        record("gid", b"4294967294"),
        record("size", b"8589934592"),
        record("mtime", b"1600000000.25"),
        record("SCHILY.xattr.user.a", b"x=\ny"),
        record("SCHILY.xattr.user.empty", b""),
        record("LIBARCHIVE.xattr.user.b", b"eA"),
        record("comment", b""),
    ]
    .concat();
    let header = parsed(&[&extension(b'x', &records), &block(b'0', "cafe", &[])]);
    assert_eq!(header.name, b"caf\xe9");
    assert_eq!((header.uid, header.gid), (3_000_000, 4_294_967_294));
    assert_eq!(header.kind, HeaderKind::Regular(8_589_934_592));
    assert_eq!(header.mtime, Timestamp::new(1_600_000_000, 250_000_000));
    assert!(header.has_fraction);
    let xattrs: Vec<_> = header.xattrs.iter().collect();
    assert_eq!(xattrs, [(&b"user.a"[..], &b"x=\ny"[..])]);
}

#[test]
fn times_before_1970_and_large_numbers_are_read() {
    let before = record("mtime", b"-1.5");
    let header = parsed(&[&extension(b'x', &before), &block(b'0', "f", &[])]);
    assert_eq!(header.mtime, Timestamp::new(-2, 500_000_000));
    let mut negative = [0xff; 12];
    negative[11] = 0xfe;
    let other: &[(usize, &[u8])] = &[
        (108, b"\x80\0\0\0\xff\xff\xff\xfe"),
        (136, &negative),
        (124, b"\x80\0\0\0\0\0\0\x02\0\0\0\0"),
    ];
    let header = parsed(&[&block(b'0', "f", other)]);
    assert_eq!(header.uid, 4_294_967_294);
    assert_eq!(header.mtime, Timestamp::new(-2, 0));
    assert_eq!(header.kind, HeaderKind::Regular(1 << 33));
}

#[test]
fn padding_and_global_records_come_before_a_header() {
    let mut headers = Headers::default();
    headers.segment(&block(b'0', "a", &[(124, b"00000000003\0")]));
    assert_eq!(headers.entry(3).unwrap().name, b"a");
    headers.segment(&[0; 500]);
    headers.segment(&[0; 9]);
    let global = extension(b'g', &record("comment", b"x"));
    headers.segment(&global);
    headers.segment(&block(b'5', "d/", &[]));
    assert_eq!(headers.entry(0).unwrap().kind, HeaderKind::Directory);
    // Or they are a separate entry, alone or with their data as its content.
    headers.segment(&global);
    assert_eq!(headers.entry(0).unwrap().kind, HeaderKind::Global);
    headers.segment(&global[..BLOCK]);
    assert_eq!(headers.entry(14).unwrap().kind, HeaderKind::Global);
}

#[test]
fn what_is_no_header_is_told() {
    let whole = block(b'0', "f", &[]);
    let mut damaged = whole;
    damaged[3] ^= 1;
    let letters = block(b'0', "f", &[(108, b"owner  \0")]);
    let endless = extension(b'x', b"99999999999999999999 a=b\n");
    for (bytes, expected) in [
        (&[][..], HeaderError::Missing),
        (&whole[..511], HeaderError::Missing),
        (&[whole, whole].concat(), HeaderError::Missing),
        (&[0; BLOCK], HeaderError::Checksum),
        (&damaged, HeaderError::Checksum),
        (&letters, HeaderError::Field),
        (&endless, HeaderError::Field),
        (&extension(b'x', b"5 a\n")[..BLOCK], HeaderError::Missing),
    ] {
        assert_eq!(parse(bytes), Err(expected));
    }
    let mut headers = Headers::default();
    (0..9).for_each(|_| headers.segment(&vec![0; 1 << 20]));
    assert_eq!(headers.entry(0), Err(HeaderError::Long));
    headers.segment(&whole);
    assert_eq!(headers.entry(0).unwrap().name, b"f");
}
