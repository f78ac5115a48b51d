//! The meaning of a name in a branch to aufs.

/// The prefix that aufs adds to the name that it deletes. Source: aufs5.19
/// `include/uapi/linux/aufs_type.h`, `AUFS_WH_PFX`.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The prefix of the names of aufs's own files. Source: same, `AUFS_WH_PFX` written twice.
const METADATA_PREFIX: &[u8] = b".wh..wh.";

/// The file that marks its directory opaque. Source: same, `AUFS_WH_DIROPQ`.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// The directory of pseudo-links at a branch's root. Source: same, `AUFS_WH_PLINKDIR`.
pub(super) const PSEUDO_LINKS: &[u8] = b".wh..wh.plnk";

/// The meaning of a name in a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// A file of the layer.
    Own,
    /// The layer deletes this name.
    Whiteout(&'a [u8]),
    /// The whiteout of a name that no file can have: empty, `.` or `..`.
    Unnamed,
    /// The directory is opaque.
    Opaque,
    /// One of aufs's own files.
    Metadata,
}

impl<'a> Name<'a> {
    /// The meaning of `name` at any depth of a branch.
    pub(crate) fn parse(name: &'a [u8]) -> Self {
        if name == OPAQUE_MARKER {
            return Self::Opaque;
        }
        if name.starts_with(METADATA_PREFIX) {
            return Self::Metadata;
        }
        match name.strip_prefix(WHITEOUT_PREFIX) {
            None => Self::Own,
            Some(b"" | b"." | b"..") => Self::Unnamed,
            Some(rest) => Self::Whiteout(rest),
        }
    }
}

/// The path of the whiteout of the file at `path`; both relative to the branch.
pub(super) fn whiteout_path(path: &[u8]) -> Vec<u8> {
    let name_at = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1);
    [&path[..name_at], WHITEOUT_PREFIX, &path[name_at..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_aufs_takes_them_for() {
        for (name, meaning) in [
            (&b".wh"[..], Name::Own),
            (b".whatever", Name::Own),
            (b".wh_x", Name::Own),
            (b"..wh.x", Name::Own),
            (b"x.wh.y", Name::Own),
            (b".WH.x", Name::Own),
            (b".wh.x", Name::Whiteout(b"x")),
            (b".wh.\xff", Name::Whiteout(b"\xff")),
            (b".wh...x", Name::Whiteout(b"..x")),
            (b".wh....", Name::Whiteout(b"...")),
            (b".wh..wh", Name::Whiteout(b".wh")),
            (b".wh..whdir", Name::Whiteout(b".whdir")),
            (b".wh.", Name::Unnamed),
            (b".wh..", Name::Unnamed),
            (b".wh...", Name::Unnamed),
            (b".wh..wh..opq", Name::Opaque),
            (b".wh..wh..opqx", Name::Metadata),
            (b".wh..wh.", Name::Metadata),
            (b".wh..wh.aufs", Name::Metadata),
            (b".wh..wh.plnk", Name::Metadata),
            (b".wh..wh.orph", Name::Metadata),
            (b".wh..wh.dir.0a1f", Name::Metadata),
        ] {
            assert_eq!(Name::parse(name), meaning, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_whiteout_lies_beside_what_it_deletes() {
        assert_eq!(whiteout_path(b"a"), b".wh.a");
        assert_eq!(whiteout_path(b"a/b/c"), b"a/b/.wh.c");
    }
}
