//! A container's state and its restart policy.

use std::fmt;

use serde::Serialize;

/// When Docker starts a container by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it is not running.
    Always,
    /// Like `Always`, but not if the container was stopped by hand.
    UnlessStopped,
    /// If it ended with an exit code other than 0.
    OnFailure,
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure => "on-failure",
        })
    }
}

/// The state of a container when Docker last wrote its config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Never started.
    Created,
    /// Running; after a crash Docker resets this to exited.
    Running,
    /// Running with its processes frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// No longer running.
    Exited,
    /// Partly deleted.
    Dead,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        })
    }
}
