//! How bad a finding about the first start is.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Docker would not start, or not on the converted root.
    Refusal,
    /// Docker would start, and something would be lost or stop working.
    Warning,
    /// Something to know.
    Remark,
}
