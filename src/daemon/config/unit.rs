//! The syntax of systemd's unit files. Source: `systemd.syntax(7)`.

/// A line `Key=value` of a unit file, with continued lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// For each line of the file that the value spans: the offset in the value where it begins, and its number from 1.
    lines: Vec<(usize, usize)>,
}

impl Assignment {
    /// The line of the file that contains this offset of the value.
    pub(super) fn line_of(&self, at: usize) -> usize {
        let before = self.lines.partition_point(|(start, _)| *start <= at);
        self.lines[before.saturating_sub(1)].1
    }
}

/// All assignments, in file order. Other lines are skipped, as systemd does.
pub(super) fn parse(text: &[u8]) -> Vec<Assignment> {
    let text = String::from_utf8_lossy(text);
    let mut assignments = Vec::new();
    let mut section = String::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let line = line.trim_start();
        if is_comment(line) {
            continue;
        }
        let mut whole = String::new();
        let mut starts = vec![(0, number)];
        let mut part = line;
        // A comment between continued lines is skipped.
        while let Some(head) = part.strip_suffix('\\') {
            whole.push_str(head);
            whole.push(' ');
            let Some((next, number)) = lines.find(|(line, _)| !is_comment(line.trim_start()))
            else {
                part = "";
                break;
            };
            starts.push((whole.len(), number));
            part = next;
        }
        whole.push_str(part);
        if let Some(name) = whole.strip_prefix('[') {
            name.trim_end()
                .trim_end_matches(']')
                .clone_into(&mut section);
        } else if let Some((key, value)) = whole.split_once('=') {
            let before = key.len() + 1 + (value.len() - value.trim_start().len());
            let lines = starts
                .into_iter()
                .map(|(at, line)| (at.saturating_sub(before), line));
            assignments.push(Assignment {
                section: section.clone(),
                key: key.trim_end().to_owned(),
                value: value.trim().to_owned(),
                lines: lines.collect(),
            });
        }
    }
    assignments
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', ';'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn assignments_have_their_section_and_lines() {
        let text = b"# c\n[Unit]\nAfter=x\n\n[Service]\n Type = notify \nExecStart=/usr/bin/dockerd \\\n  -H fd:// \\\n# between\n; too\n  $OPTIONS\nrubbish\n";
        let all = parse(text);
        let short: Vec<_> = all
            .iter()
            .map(|one| (&*one.section, &*one.key, &*one.value))
            .collect();
        assert_eq!(
            short,
            [
                ("Unit", "After", "x"),
                ("Service", "Type", "notify"),
                (
                    "Service",
                    "ExecStart",
                    "/usr/bin/dockerd    -H fd://    $OPTIONS"
                ),
            ]
        );
        let exec = &all[2];
        for (word, line) in [("/usr", 7), ("-H", 8), ("$OPTIONS", 11)] {
            assert_eq!(exec.line_of(exec.value.find(word).unwrap()), line, "{word}");
        }
    }

    #[test]
    fn a_file_may_end_in_the_middle_of_a_line() {
        let all = parse(b"[Service]\nExecStart=a \\");
        assert_eq!(all[0].value, "a");
        assert_eq!(parse(b"[Service]\r\nA=b\r\n")[0].value, "b");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..400)) {
            for one in parse(&text) {
                one.line_of(0);
                one.line_of(usize::MAX);
            }
        }

        #[test]
        fn any_text_of_its_letters_is_read(text in r"[a\[\]=#; \n\\]{0,80}") {
            let nr_lines = text.lines().count();
            for one in parse(text.as_bytes()) {
                prop_assert!(one.line_of(one.value.len()) <= nr_lines);
            }
        }
    }
}
