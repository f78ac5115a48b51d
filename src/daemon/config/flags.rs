//! The storage settings on the daemon's command line.

use super::daemon_options::takes_value;
use super::setting::{Directive, Origin, Setting, Way};

/// A word of a command line and the place where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// The flags that matter, and what each sets. `-s` and `-g` are as old as the daemon; `--data-root` came with 17.05.
/// Source: moby v20.10 `cmd/dockerd/config.go`, `config_common_unix.go`.
const FLAGS: [(&str, Directive); 10] = [
    ("-s", Directive::Driver),
    ("--storage-driver", Directive::Driver),
    ("--storage-opt", Directive::Options),
    ("-g", Directive::Graph),
    ("--graph", Directive::Graph),
    ("--data-root", Directive::DataRoot),
    ("--config-file", Directive::ConfigFile),
    ("--userns-remap", Directive::UsernsRemap),
    ("-p", Directive::PidFile),
    ("--pidfile", Directive::PidFile),
];

/// The settings that these arguments (without the program's name) give the daemon.
pub(super) fn read(arguments: &[Argument]) -> Vec<Setting> {
    let mut told = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some((directive, inside)) = find(&argument.text) else {
            continue;
        };
        let (value, given) = match inside {
            Some(value) => (value.to_owned(), argument.text.clone()),
            None => match rest.next() {
                Some(value) => (
                    value.text.clone(),
                    format!("{} {}", argument.text, value.text),
                ),
                None => continue, // dockerd prints its usage
            },
        };
        // Only a running shell knows what a command prints.
        if value.contains("$(") || value.contains('`') {
            continue;
        }
        told.push(Setting {
            directive,
            value,
            way: Way::Flag(given),
            origin: argument.origin.clone(),
        });
    }
    told
}

/// The first word that is neither a flag nor a flag's value: the daemon takes no arguments and does not start. `None`
/// also if a flag is not known, because the next word may be its value.
pub(super) fn stray(arguments: &[Argument]) -> Option<&Argument> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = &*argument.text;
        if text == "--" {
            return rest.next();
        }
        if !text.starts_with('-') || text == "-" {
            return Some(argument);
        }
        if text.contains('=') {
            continue;
        }
        if takes_value(text)? {
            rest.next();
        }
    }
    None
}

/// The directive of an argument, and its value if it is in the same word.
fn find(argument: &str) -> Option<(Directive, Option<&str>)> {
    FLAGS.iter().find_map(|&(name, directive)| {
        let rest = argument.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some((directive, Some(value))),
            None if rest.is_empty() => Some((directive, None)),
            // `-saufs`, but not `--storage-driverX`.
            None => (!name.starts_with("--")).then_some((directive, Some(rest))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Vec<(Directive, String)> {
        let words = line.split(' ').map(|text| Argument {
            text: text.to_owned(),
            origin: Origin::default(),
        });
        let told = read(&words.collect::<Vec<_>>());
        told.into_iter()
            .map(|one| (one.directive, one.value))
            .collect()
    }

    #[test]
    fn each_form_of_a_flag_is_read() {
        for line in [
            "-s aufs",
            "-s=aufs",
            "-saufs",
            "--storage-driver aufs",
            "-H fd:// --storage-driver=aufs -D",
        ] {
            assert_eq!(
                told(line),
                [(Directive::Driver, "aufs".to_owned())],
                "{line}"
            );
        }
        assert_eq!(
            told("--storage-opt dm.fs=xfs -g /x --storage-opt=a=b --graph=/y"),
            [
                (Directive::Options, "dm.fs=xfs".to_owned()),
                (Directive::Graph, "/x".to_owned()),
                (Directive::Options, "a=b".to_owned()),
                (Directive::Graph, "/y".to_owned()),
            ]
        );
    }

    #[test]
    fn a_word_that_is_no_flag_is_found_among_flags_with_values() {
        let stray_of = |line: &str| {
            let words = line.split(' ').map(|text| Argument {
                text: text.to_owned(),
                origin: Origin::default(),
            });
            stray(&words.collect::<Vec<_>>()).map(|one| one.text.clone())
        };
        for (line, word) in [
            ("-H fd:// -D --log-level warn", None),
            ("-DH fd:// --icc=false -s aufs", None),
            ("-D ${OPTIONS} --storage-opt a=b", Some("${OPTIONS}")),
            ("--debug true", Some("true")),
            ("-D -- x", Some("x")),
            ("--of-a-fork x", None),
        ] {
            assert_eq!(stray_of(line).as_deref(), word, "{line}");
        }
    }

    #[test]
    fn other_flags_are_passed_over() {
        for line in [
            "",
            "-H fd://",
            "--storage-drivers=x",
            "--storage-opt",
            "--group=docker",
            "daemon",
        ] {
            assert_eq!(told(line), [], "{line}");
        }
    }
}
