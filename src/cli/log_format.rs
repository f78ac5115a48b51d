//! The form of what goes to stderr: text for people, or one JSON object a line for programs.

use std::io::Write;
use std::sync::OnceLock;
use std::time::SystemTime;

use clap::ValueEnum;
use jiff::Timestamp;
use log::{Level, LevelFilter};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::printable::printable;

/// The form of messages and progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Chosen once, before anything is written.
static CHOSEN: OnceLock<LogFormat> = OnceLock::new();

impl LogFormat {
    /// The form that was chosen for this process.
    pub(super) fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or_default()
    }
}

/// Starts the logger.
pub(super) fn start(format: LogFormat, verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let format = *CHOSEN.get_or_init(|| format);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    match format {
        LogFormat::Text => builder.format(|buffer, record| {
            let style = buffer.default_level_style(record.level());
            let message = record.args().to_string();
            // Lines that go on are indented, so that none looks like another message.
            let message = printable(&message).replace('\n', "\n    ");
            writeln!(buffer, "[{style}{:<5}{style:#}] {message}", record.level())
        }),
        LogFormat::Json => builder.format(|buffer, record| {
            let line = line(record.level(), &record.args().to_string(), &Map::new());
            buffer.write_all(line.as_bytes())
        }),
    };
    builder.init();
}

/// One line for a program: `ts` in UTC, `level`, `msg`, and what else there is.
pub(super) fn line(level: Level, message: &str, more: &Map<String, Value>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        ts: String,
        level: &'static str,
        msg: &'a str,
        #[serde(flatten)]
        more: &'a Map<String, Value>,
    }
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let line = Line {
        ts: timestamp(SystemTime::now()),
        level,
        msg: message,
        more,
    };
    let mut text = serde_json::to_string(&line).expect("texts and numbers can always be written");
    text.push('\n');
    text
}

/// Writes an error and what to do about it. A closed stderr changes nothing about the exit code.
pub(super) fn tell_error(message: &str, hints: &[&str]) {
    let mut text = String::new();
    match LogFormat::chosen() {
        LogFormat::Text => {
            text = format!("error: {}\n", printable(message));
            text.extend(hints.iter().map(|hint| format!("hint: {hint}\n")));
        }
        LogFormat::Json => {
            let mut more = Map::new();
            if !hints.is_empty() {
                more.insert("hints".to_owned(), json!(hints));
            }
            text.push_str(&line(Level::Error, message, &more));
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// As RFC 3339 has it, in UTC with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default();
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        let time = UNIX_EPOCH + Duration::from_millis(1_234);
        assert_eq!(timestamp(time), "1970-01-01T00:00:01.234Z");
    }

    #[test]
    fn a_line_is_one_object_whatever_is_said() {
        let text = line(Level::Warn, "two\nlines \"quoted\"", &Map::new());
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["msg"], "two\nlines \"quoted\"");
    }
}
