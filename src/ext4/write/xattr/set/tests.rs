use super::*;

fn set(pairs: &[(&str, &[u8])]) -> Result<Option<Set>, Problem> {
    let pairs = pairs
        .iter()
        .map(|&(name, value)| (name.as_bytes().into(), value.into()));
    Set::new(&pairs.collect::<Xattrs>())
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

#[test]
fn attributes_are_sorted_as_the_kernel_searches_them() {
    let set = set(&[("user.bb", b"1"), ("security.x", b"2"), ("user.c", b"3")])
        .unwrap()
        .unwrap();
    let names: Vec<_> = set.attributes().map(|a| (a.index, a.name)).collect();
    assert_eq!(names, [(1, &b"c"[..]), (1, b"bb"), (6, b"x")]);
}

#[test]
fn what_fits_stays_in_the_inode() {
    // 96 bytes less header and end are 88: 16 for the entry, 4 for the name, 68 for the value.
    assert!(
        set(&[("user.abcd", &[7; 68])])
            .unwrap()
            .unwrap()
            .fits_inode()
    );
    assert!(
        !set(&[("user.abcd", &[7; 69])])
            .unwrap()
            .unwrap()
            .fits_inode()
    );
}

#[test]
fn more_than_a_block_is_refused_with_its_size() {
    // 4096 less the header of 32 and the end of 4 are 4060: 16 for the entry, 4 for the name, 4040 for the value.
    assert!(set(&[("user.abcd", &[7; 4040])]).is_ok());
    assert_eq!(
        set(&[("user.abcd", &[7; 4041])]),
        Err(Problem::XattrsTooLarge { bytes: 4100 })
    );
    assert!(matches!(
        set(&[("user.abcd", &vec![7; 65_536])]),
        Err(Problem::XattrsTooLarge { .. })
    ));
}

#[test]
fn names_without_a_number_are_refused() {
    for name in ["", "user", "user.", "btrfs.compression", "os2.x"] {
        let name_bytes: Box<[u8]> = name.as_bytes().into();
        assert_eq!(
            set(&[(name, b"")]),
            Err(Problem::XattrName { name: name_bytes })
        );
    }
}

#[test]
fn a_list_loses_the_ids_that_mean_nothing() {
    let list = acl(&[
        (1, 7, u32::MAX),
        (2, 6, 1000),
        (8, 4, 70_000),
        (32, 0, u32::MAX),
    ]);
    let disk = acl::to_disk(&list).unwrap();
    let parts: [&[u8]; 5] = [
        &1_u32.to_le_bytes(),
        &[1, 0, 7, 0],
        &[2, 0, 6, 0, 0xe8, 3, 0, 0],
        &[8, 0, 4, 0, 0x70, 0x11, 1, 0],
        &[32, 0, 0, 0],
    ];
    assert_eq!(disk, parts.concat());
}

#[test]
fn a_malformed_list_is_refused() {
    let good = acl(&[(1, 7, 0), (4, 7, 0), (32, 0, 0)]);
    let mut version = good.clone();
    version[0] = 1;
    for bad in [
        version,
        good[..good.len() - 1].to_vec(),
        acl(&[]),
        acl(&[(3, 7, 0)]),
        acl(&[(1, 8, 0)]),
        vec![2],
    ] {
        assert!(matches!(
            set(&[("system.posix_acl_access", &bad)]),
            Err(Problem::Acl { .. })
        ));
    }
}

#[test]
fn an_entry_hashes_as_in_a_block_that_linux_wrote() {
    // Linux 6.18, a file with this one attribute in its block: e_hash and h_hash.
    let value = b"0123456789".repeat(30);
    assert_eq!(entry_hash(b"big", &value), 0xb87b_3d3d);
    let set = set(&[("user.big", &value)]).unwrap().unwrap();
    let mut block = vec![0; BLOCK];
    assert_eq!(set.encode_entries(BLOCK_HEADER, 0, &mut block), 0xb87b_3d3d);
    assert_eq!(
        block[BLOCK_HEADER..][..HEAD + 3],
        *b"\x03\x01\xd4\x0e\0\0\0\0\x2c\x01\0\0\x3d\x3d\x7b\xb8big"
    );
}
