//! Editing `daemon.json`: what changes, and that nothing else does.

use aufs2dm::daemon::config::{Change, edit};
use proptest::prelude::*;
use serde_json::{Map, Value};

fn change(drop: &[&str], add: &[&str]) -> Change {
    let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Change {
        driver: Some("devicemapper"),
        drop: own(drop),
        add: own(add),
    }
}

fn edited(text: &str, change: &Change) -> String {
    String::from_utf8(edit(text.as_bytes(), change).unwrap()).unwrap()
}

#[test]
fn only_the_value_of_the_driver_is_replaced() {
    let text = "{\r\n\t\"log-driver\" :\"json-file\",\n\n  \"storage-driver\"  : \"aufs\" , \"n\":1.50e3}  \n";
    assert_eq!(
        edited(text, &change(&[], &[])),
        text.replace("\"aufs\"", "\"devicemapper\"")
    );
}

#[test]
fn a_new_member_is_laid_out_as_the_others() {
    for (before, after) in [
        ("{}", "{\n    \"storage-driver\": \"devicemapper\"\n}"),
        ("{\n}\n", "{\n    \"storage-driver\": \"devicemapper\"\n}\n"),
        (
            "{\"a\":1}",
            "{\"a\":1, \"storage-driver\": \"devicemapper\"}",
        ),
        (
            "{ \"a\": 1 }",
            "{ \"a\": 1, \"storage-driver\": \"devicemapper\" }",
        ),
        (
            "{\n  \"a\": 1,\n  \"b\": [2]\n}\n",
            "{\n  \"a\": 1,\n  \"b\": [2],\n  \"storage-driver\": \"devicemapper\"\n}\n",
        ),
    ] {
        assert_eq!(edited(before, &change(&[], &[])), after);
    }
}

#[test]
fn an_empty_file_becomes_a_new_one() {
    let new =
        "{\n    \"storage-driver\": \"devicemapper\",\n    \"storage-opts\": [\"dm.x=1\"]\n}\n";
    for text in ["", " \n"] {
        assert_eq!(edited(text, &change(&[], &["dm.x=1"])), new);
    }
}

#[test]
fn options_are_dropped_and_added_in_their_list() {
    for (before, drop, add, after) in [
        ("[\"a=1\",\"b=2\"]", &["a=1"][..], &[][..], "[\"b=2\"]"),
        (
            "[\"a=1\", \"b=2\", \"c=3\"]",
            &["b=2"],
            &["d=4"],
            "[\"a=1\", \"c=3\", \"d=4\"]",
        ),
        (
            "[\n    \"a=1\",\n    \"b=2\"\n  ]",
            &["b=2"],
            &["c=3"],
            "[\n    \"a=1\",\n    \"c=3\"\n  ]",
        ),
        (
            "[\n    \"a=1\"\n  ]",
            &[],
            &["c=3"],
            "[\n    \"a=1\",\n    \"c=3\"\n  ]",
        ),
        ("[\"a=1\"]", &["a=1"], &[], "[]"),
        ("[ ]", &[], &["a=1"], "[\"a=1\"]"),
        ("null", &[], &["a=1"], "[\"a=1\"]"),
        ("[\"\\u0061=1\",\"b=2\"]", &["a=1"], &[], "[\"b=2\"]"),
        ("[ \"a=1\" ]", &["x=1"], &[], "[ \"a=1\" ]"),
    ] {
        let head = "{\"storage-driver\":\"devicemapper\",\"storage-opts\":";
        assert_eq!(
            edited(&format!("{head}{before}}}"), &change(drop, add)),
            format!("{head}{after}}}")
        );
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_line() {
    for text in [
        "{\n// c\n}",
        "{\n\"a\": 1,\n}",
        "\u{feff}{\n\n}",
        "{\"storage-opts\":\n[1]}",
        "{\"storage-driver\":1}",
        "{\"storage-driver\":\"a\",\n\"storage-driver\":\"b\"}",
        "{}\n{}",
        "[]",
    ] {
        assert!(edit(text.as_bytes(), &change(&[], &[])).is_err(), "{text}");
    }
}

/// Any JSON value, written with odd white space.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just(" -1.50e+3".to_owned()),
        Just("18446744073709551615\n".to_owned()),
        "[a-z \u{e9}]{0,6}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""\u0041\"\\""#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|all| format!("[ {}]", all.join(" ,"))),
            prop::collection::vec(("[a-z-]{1,6}", inner), 0..3).prop_map(|all| {
                let all: Vec<_> = all
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}\t}}", all.join(","))
            }),
        ]
    })
}

/// An object whose keys are none of ours.
fn object() -> impl Strategy<Value = String> {
    (
        prop::collection::vec(("x[a-z]{0,6}", value(), "[ \n\t]{0,3}"), 0..5),
        "[ \n]{0,3}",
    )
        .prop_map(|(all, tail)| {
            let all: Vec<_> = all
                .iter()
                .map(|(key, value, space)| format!("{space}\"{key}\"{space}:{value}"))
                .collect();
            format!("{{{}{tail}}}{tail}", all.join(","))
        })
}

fn common(a: impl Iterator<Item = u8>, b: impl Iterator<Item = u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

proptest! {
    #[test]
    fn new_members_leave_every_other_byte(text in object()) {
        let new = edited(&text, &change(&[], &["dm.fs=xfs"]));
        // What was there is a head and a tail of what is there now.
        let head = common(text.bytes(), new.bytes());
        let tail = common(text.bytes().rev(), new.bytes().rev());
        prop_assert!(head + tail >= text.len(), "{text}\n{new}");
        let mut value: Map<String, Value> = serde_json::from_str(&new).unwrap();
        prop_assert_eq!(value.remove("storage-driver"), Some("devicemapper".into()));
        prop_assert_eq!(value.remove("storage-opts"), Some(vec!["dm.fs=xfs"].into()));
        let before: Map<String, Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(value, before);
        // A second edit finds nothing to do.
        prop_assert_eq!(edited(&new, &change(&[], &[])), new);
    }

    #[test]
    fn any_bytes_are_edited_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = edit(&text, &change(&["a"], &["b"]));
    }

    #[test]
    fn any_list_is_edited(options in prop::collection::vec("[ab]=[\\\\\"]?", 0..6), space in "[ \n]{0,2}") {
        let list: Vec<_> = options.iter().map(|one| format!("{space}{}", serde_json::to_string(one).unwrap())).collect();
        let text = format!("{{\"storage-opts\":[{}{space}]}}", list.join(","));
        let new = edited(&text, &change(&["a="], &["new"]));
        let value: Value = serde_json::from_str(&new).unwrap();
        let mut wanted: Vec<_> = options.into_iter().filter(|one| one != "a=").collect();
        wanted.push("new".to_owned());
        prop_assert_eq!(&value["storage-opts"], &Value::from(wanted));
    }
}
