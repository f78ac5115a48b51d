//! Shows progress on stderr: a bar on a terminal, plain lines elsewhere, JSON for programs; and tells a service manager.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::json::Json;
use super::notifying::ServiceProgress;
use super::running::RunningPhase;
use crate::cli::log_format::LogFormat;
use crate::cli::notify::Notifier;
use crate::progress::{Phase, Progress};

/// How often a plain line is written while a phase goes on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The form that suits stderr, and the service manager beside it.
pub(in crate::cli) fn for_stderr() -> Box<dyn Progress> {
    let shown: Box<dyn Progress> = match LogFormat::chosen() {
        LogFormat::Json => Box::new(Json::default()),
        LogFormat::Text if std::io::stderr().is_terminal() => Box::new(Bar::default()),
        LogFormat::Text => Box::new(Plain::default()),
    };
    Box::new(ServiceProgress::new(shown, Notifier::from_environment()))
}

#[derive(Default)]
struct Bar(Mutex<Option<ProgressBar>>);

impl Progress for Bar {
    fn start(&self, phase: Phase, total: u64) {
        let bar = drawn_on(ProgressDrawTarget::stderr(), phase, total);
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.lock() = Some(bar);
    }

    fn inc(&self, amount: u64) {
        if let Some(bar) = &*self.lock() {
            bar.inc(amount);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.lock().take() {
            bar.finish_and_clear();
        }
    }
}

/// The bar takes what the words leave of the terminal's width: a line that is wider would be broken, and not be overwritten.
fn drawn_on(target: ProgressDrawTarget, phase: Phase, total: u64) -> ProgressBar {
    let template = match phase {
        Phase::Data => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        Phase::Read | Phase::Verify | Phase::Kernel | Phase::Recheck => {
            "{msg} {wide_bar} {pos}/{len} {eta} left"
        }
        _ => "{msg} {spinner} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well formed");
    let bar = ProgressBar::with_draw_target(Some(total), target);
    bar.set_style(style);
    bar.set_message(phase.title());
    bar
}

impl Bar {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.0
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

#[derive(Default)]
struct Plain(Mutex<Option<RunningPhase>>);

impl Progress for Plain {
    fn start(&self, phase: Phase, total: u64) {
        let running = RunningPhase::new(phase, total);
        running.tell();
        *self.lock() = Some(running);
    }

    fn inc(&self, amount: u64) {
        if let Some(running) = &mut *self.lock()
            && running.is_due(amount, PLAIN_INTERVAL)
        {
            running.tell();
        }
    }

    fn finish(&self) {
        self.lock().take();
    }
}

impl Plain {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningPhase>> {
        self.0
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;
    use std::time::Instant;

    /// A terminal that notes how wide the lines are.
    #[derive(Clone, Debug)]
    struct Terminal {
        columns: u16,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            self.columns
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.lines.lock().unwrap().push(text.to_owned());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_on_a_terminal_is_no_wider_than_that() {
        for columns in [64, 80, 200] {
            for (phase, total) in [
                (Phase::Data, 987 << 30),
                (Phase::Verify, 123_456),
                (Phase::Recheck, 9),
                (Phase::Metadata, 0),
            ] {
                let lines = Arc::default();
                let terminal = Terminal {
                    columns,
                    lines: Arc::clone(&lines),
                };
                let target = ProgressDrawTarget::term_like(Box::new(terminal));
                let bar = drawn_on(target, phase, total);
                bar.inc(total / 3);
                bar.tick();
                let lines = lines.lock().unwrap();
                assert!(lines.iter().any(|line| line.contains(phase.title())));
                for line in &*lines {
                    let width = line.trim_end().chars().count();
                    assert!(width <= columns.into(), "{columns}: {width}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn a_plain_line_tells_phase_amount_rate_and_time_left() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let running = RunningPhase {
            phase: Phase::Data,
            total: 30 << 30,
            done: 10 << 30,
            began,
            told: began,
        };
        assert_eq!(
            running.line(),
            "writing data: 10.0 GiB of 30.0 GiB, 1.0 GiB/s, 20 s left"
        );
        let uncounted = RunningPhase {
            phase: Phase::Plan,
            total: 0,
            done: 0,
            began,
            told: began,
        };
        assert_eq!(uncounted.line(), "planning");
    }
}
