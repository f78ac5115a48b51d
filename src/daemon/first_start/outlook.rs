//! The findings about the first start.

use std::fmt;

use serde::Serialize;

use crate::devicemapper::Severity;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind, as a stable word.
    pub code: &'static str,
    /// What it is about, with the file and the key, and what to do.
    pub message: String,
}

impl Finding {
    pub(in crate::daemon) fn refusal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Refusal, code, message)
    }

    pub(in crate::daemon) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    pub(in crate::daemon) fn remark(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Remark, code, message)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity,
            code,
            message,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What to expect of Docker's first start on the converted root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// All findings, the worst first.
    pub findings: Vec<Finding>,
}

impl Outlook {
    pub(super) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        Self { findings }
    }

    /// Whether Docker would not start on the converted root.
    pub fn is_refusal(&self) -> bool {
        self.at_least(Severity::Refusal).next().is_some()
    }

    /// The findings of at least this severity.
    pub fn at_least(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity <= severity)
    }
}
