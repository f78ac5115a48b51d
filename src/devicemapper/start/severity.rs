//! The severity of a finding about the first start.

use serde::Serialize;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Docker would not start, or would not use the converted root.
    Refusal,
    /// Docker would start, but something would be lost or stop working.
    Warning,
    /// A fact that the operator should know.
    Remark,
}
