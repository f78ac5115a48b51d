//! Signals that end a command.

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::progress::Cancel;

/// Set by the signals that end a command.
///
/// They wait until all is registered: signal-hook has its handler called before it knows what the handler shall do, and
/// a signal that comes in between would end nothing at all.
pub(super) fn cancel_by_signals() -> anyhow::Result<Cancel> {
    let cancel = Cancel::default();
    let ending = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let before = ending
        .into_iter()
        .collect::<SigSet>()
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .context("signal mask: cannot set")?;
    for signal in ending {
        signal_hook::flag::register(signal as i32, cancel.flag())
            .context("signal handler: cannot install")?;
    }
    before
        .thread_set_mask()
        .context("signal mask: cannot set")?;
    Ok(cancel)
}
