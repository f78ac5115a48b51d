//! The status and the table of a thin pool, as the kernel reports them.
//!
//! Source: linux v6.6 `Documentation/admin-guide/device-mapper/thin-provisioning.rst` and `drivers/md/dm-thin.c`,
//! `pool_status`. Older kernels print fewer fields: the needs-check mark exists since 4.4, the behavior of a full pool
//! since 3.13, `out_of_data_space` since 3.14.

use std::fmt;

/// The target's type.
pub(super) const THIN_POOL: &str = "thin-pool";

/// The feature that makes writes fail at once when a pool is full. Older versions of the target can only queue them.
pub(super) const ERROR_IF_NO_SPACE: &str = "error_if_no_space";

/// The first version of the `thin-pool` target that has [`ERROR_IF_NO_SPACE`]. Source: linux v3.14 `drivers/md/dm-thin.c`.
pub(super) const ERROR_IF_NO_SPACE_SINCE: (u32, u32, u32) = (1, 10, 0);

/// The number of metadata blocks that a busy pool may use between two checks.
const METADATA_MARGIN: u64 = 64;

/// What keeps a pool from being written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No free data block is left.
    DataFull,
    /// No free metadata block is left.
    MetadataFull,
    /// It turned read-only.
    ReadOnly,
    /// The pool, or a device below it, was set up read-only.
    WriteProtected,
    /// A metadata operation failed; the pool wants `thin_check` or `thin_repair`.
    NeedsCheck,
    /// It failed completely.
    Failed,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataFull => "its data device is full",
            Self::MetadataFull => "its metadata device is full",
            Self::ReadOnly => "it turned read-only",
            Self::WriteProtected => "it is write-protected",
            Self::NeedsCheck => "its metadata needs a check",
            Self::Failed => "it failed",
        })
    }
}

/// The number of used blocks and of all blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Used blocks.
    pub used: u64,
    /// All blocks.
    pub total: u64,
}

impl Usage {
    /// Free blocks.
    pub fn free(self) -> u64 {
        self.total.saturating_sub(self.used)
    }
}

/// How a pool handles writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It accepts them.
    Write,
    /// It accepts them only for blocks that are already allocated.
    OutOfDataSpace,
    /// It refuses them.
    ReadOnly,
}

/// A pool's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The pool failed completely and reports nothing else.
    Failed,
    /// The pool works, at least in part.
    Live(Live),
}

/// The status of a pool that has not failed completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// User space's transaction id.
    pub transaction_id: u64,
    /// Metadata blocks, 4 KiB each.
    pub metadata: Usage,
    /// Data blocks.
    pub data: Usage,
    /// The block of a metadata snapshot that something holds.
    pub held_root: Option<u64>,
    /// How it handles writes.
    pub mode: Mode,
    /// Whether writes wait for space when there is none. Kernels that do not report this make them wait.
    pub queues: bool,
    /// Whether a metadata operation failed earlier.
    pub needs_check: bool,
}

impl Live {
    /// Whether metadata blocks are about to run out. The kernel does not report this, and reverts the transaction that
    /// found none, so that some are free again at the next check.
    pub fn metadata_is_short(&self) -> bool {
        self.metadata.free() <= (self.metadata.total / 32).max(METADATA_MARGIN)
    }
}

impl Status {
    /// Parses the status that the `thin-pool` target prints; `None` if the text is not such a status.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let first = fields.next()?;
        if matches!(first, "Fail" | "Error") {
            return Some(Self::Failed);
        }
        let mut live = Live {
            transaction_id: first.parse().ok()?,
            metadata: parse_usage(fields.next()?)?,
            data: parse_usage(fields.next()?)?,
            held_root: match fields.next()? {
                "-" => None,
                number => Some(number.parse().ok()?),
            },
            mode: Mode::Write,
            queues: true,
            needs_check: false,
        };
        for field in fields {
            match field {
                "ro" => live.mode = Mode::ReadOnly,
                "out_of_data_space" => live.mode = Mode::OutOfDataSpace,
                ERROR_IF_NO_SPACE => live.queues = false,
                "needs_check" => live.needs_check = true,
                // `rw`, the discard modes, `-`, the low water mark, and fields that later kernels add.
                _ => {}
            }
        }
        Some(Self::Live(live))
    }

    /// What keeps the pool from being written to, if anything.
    pub fn problem(&self) -> Option<Problem> {
        let Self::Live(live) = self else {
            return Some(Problem::Failed);
        };
        match live.mode {
            Mode::OutOfDataSpace => Some(Problem::DataFull),
            Mode::ReadOnly if live.metadata_is_short() => Some(Problem::MetadataFull),
            _ if live.needs_check => Some(Problem::NeedsCheck),
            Mode::ReadOnly => Some(Problem::ReadOnly),
            Mode::Write => None,
        }
    }
}

fn parse_usage(text: &str) -> Option<Usage> {
    let (used, total) = text.split_once('/')?;
    Some(Usage {
        used: used.parse().ok()?,
        total: total.parse().ok()?,
    })
}

/// The parameters of a pool's table line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTable {
    /// The metadata device, `major:minor` or a path.
    pub metadata: String,
    /// The data device, in the same form.
    pub data: String,
    /// Sectors in a data block.
    pub block_sectors: u64,
    /// The number of free data blocks below which the kernel sends an event.
    pub low_water: u64,
    /// The requested features.
    pub features: Vec<String>,
}

impl PoolTable {
    /// Parses the parameters; `None` if they are not those of a pool.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().map(str::to_owned);
        let mut table = Self {
            metadata: fields.next()?,
            data: fields.next()?,
            block_sectors: fields.next()?.parse().ok()?,
            low_water: fields.next()?.parse().ok()?,
            features: Vec::new(),
        };
        if let Some(count) = fields.next() {
            table.features = fields.collect();
            let count: usize = count.parse().ok()?;
            if table.features.len() != count {
                return None;
            }
        }
        Some(table)
    }

    /// Whether the table makes writes fail at once when the pool is full.
    pub fn errors_if_no_space(&self) -> bool {
        self.features
            .iter()
            .any(|feature| feature == ERROR_IF_NO_SPACE)
    }

    /// The same table, but writes fail at once when the pool is full.
    #[must_use]
    pub fn with_error_if_no_space(&self) -> Self {
        let mut table = self.clone();
        if !self.errors_if_no_space() {
            table.features.push(ERROR_IF_NO_SPACE.to_owned());
        }
        table
    }

    /// The same table, but writes wait for space when the pool is full.
    #[must_use]
    pub fn without_error_if_no_space(&self) -> Self {
        let mut table = self.clone();
        table
            .features
            .retain(|feature| feature != ERROR_IF_NO_SPACE);
        table
    }
}

/// The parameters in the kernel's format.
impl fmt::Display for PoolTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            metadata,
            data,
            block_sectors,
            low_water,
            features,
        } = self;
        write!(f, "{metadata} {data} {block_sectors} {low_water}")?;
        if features.is_empty() {
            return Ok(());
        }
        write!(f, " {} {}", features.len(), features.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(text: &str) -> Live {
        match Status::parse(text) {
            Some(Status::Live(live)) => live,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_status_of_every_age_is_read() {
        let today = "7 1241/12288 3/1600 - rw discard_passdown error_if_no_space - 1024 ";
        let expected = Live {
            transaction_id: 7,
            metadata: Usage {
                used: 1241,
                total: 12288,
            },
            data: Usage {
                used: 3,
                total: 1600,
            },
            held_root: None,
            mode: Mode::Write,
            queues: false,
            needs_check: false,
        };
        assert_eq!(live(today), expected);
        let queues = Live {
            queues: true,
            ..expected
        };
        for (age, text) in [
            (
                "4.4",
                "7 1241/12288 3/1600 - rw no_discard_passdown queue_if_no_space -",
            ),
            (
                "3.13",
                "7 1241/12288 3/1600 - rw discard_passdown queue_if_no_space",
            ),
            ("3.10", "7 1241/12288 3/1600 - rw discard_passdown"),
            ("3.2", "7 1241/12288 3/1600 -"),
        ] {
            assert_eq!(live(text), queues, "Linux {age}");
        }
        assert_eq!(live("0 1/2 3/4 77 rw").held_root, Some(77));
    }

    #[test]
    fn what_keeps_a_pool_from_being_written_to_is_told() {
        for (text, problem) in [
            ("1 10/4096 3/9 - rw discard_passdown", None),
            ("1 10/4096 9/9 - rw discard_passdown", None),
            (
                "1 10/4096 9/9 - out_of_data_space discard_passdown queue_if_no_space -",
                Some(Problem::DataFull),
            ),
            (
                "1 10/4096 3/9 - ro discard_passdown queue_if_no_space -",
                Some(Problem::ReadOnly),
            ),
            (
                "1 10/4096 3/9 - ro discard_passdown queue_if_no_space needs_check 64",
                Some(Problem::NeedsCheck),
            ),
            (
                "1 4090/4096 3/9 - ro discard_passdown queue_if_no_space needs_check 64",
                Some(Problem::MetadataFull),
            ),
            (
                "1 10/4096 3/9 - rw discard_passdown queue_if_no_space needs_check 64",
                Some(Problem::NeedsCheck),
            ),
            ("Fail", Some(Problem::Failed)),
            ("Error", Some(Problem::Failed)),
        ] {
            let status = Status::parse(text).unwrap();
            assert_eq!(status.problem(), problem, "{text}");
        }
    }

    #[test]
    fn what_is_no_status_is_not_read_as_one() {
        for text in [
            "",
            "0",
            "0 1/2",
            "0 1/2 3/4",
            "x 1/2 3/4 -",
            "0 1:2 3/4 -",
            "0 1/2 3/4 ?",
        ] {
            assert_eq!(Status::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_table_is_written_as_it_was_read() {
        for text in [
            "254:1 254:2 128 32768 1 skip_block_zeroing",
            "254:1 254:2 1024 0 0",
            "254:1 254:2 1024 0",
            "/dev/a /dev/b 128 0 2 skip_block_zeroing read_only",
        ] {
            let table = PoolTable::parse(text).unwrap();
            let wanted = text.strip_suffix(" 0").filter(|_| text.ends_with("0 0"));
            assert_eq!(table.to_string(), wanted.unwrap_or(text));
        }
        for text in ["", "a b 128", "a b x 0", "a b 128 0 2 one", "a b 128 0 one"] {
            assert_eq!(PoolTable::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_table_is_made_to_fail_at_once_and_only_once() {
        let table = PoolTable::parse("1:2 3:4 128 0 1 skip_block_zeroing").unwrap();
        let failing = table.with_error_if_no_space();
        assert_eq!(
            failing.to_string(),
            "1:2 3:4 128 0 2 skip_block_zeroing error_if_no_space"
        );
        assert_eq!(failing.with_error_if_no_space(), failing);
        assert_eq!(failing.without_error_if_no_space(), table);
        let plain = PoolTable::parse("1:2 3:4 128 0").unwrap();
        assert_eq!(
            plain.with_error_if_no_space().to_string(),
            "1:2 3:4 128 0 1 error_if_no_space"
        );
    }
}
