use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn edit(config: &str) -> Option<String> {
    let edited = config_with_driver(config.as_bytes(), "devicemapper").unwrap();
    edited.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn only_the_value_changes() {
    for (before, after) in [
        (r#"{"Driver":"aufs"}"#, r#"{"Driver":"devicemapper"}"#),
        (
            r#"{ "a":1.0 , "Driver" : "" ,"z":[]}"#,
            r#"{ "a":1.0 , "Driver" : "devicemapper" ,"z":[]}"#,
        ),
        (r#"{"Driver":null}"#, r#"{"Driver":"devicemapper"}"#),
        (
            r#"{"\u0044river":"a\u0075fs"}"#,
            r#"{"\u0044river":"devicemapper"}"#,
        ),
        (
            r#"{"driver":"overlay2","DRIVER":"aufs"}"#,
            r#"{"driver":"devicemapper","DRIVER":"devicemapper"}"#,
        ),
        (
            r#"{"MountPoints":{"/d":{"Driver":"local"}}}"#,
            r#"{"Driver":"devicemapper","MountPoints":{"/d":{"Driver":"local"}}}"#,
        ),
        ("{}\n", "{\"Driver\":\"devicemapper\"}\n"),
        ("{ }", "{\"Driver\":\"devicemapper\" }"),
    ] {
        assert_eq!(edit(before).as_deref(), Some(after), "{before}");
    }
}

#[test]
fn containers_of_another_driver_are_left_alone() {
    for config in [
        r#"{"Driver":"overlay2"}"#,
        r#"{"Driver":"devicemapper"}"#,
        r#"{"Driver":"aufs","driver":"devicemapper"}"#,
        r#"{"Driver":"AUFS"}"#,
    ] {
        assert_eq!(edit(config), None, "{config}");
    }
}

#[test]
fn a_driver_that_is_no_string_is_an_error() {
    let error = config_with_driver(br#"{"Driver":["aufs"]}"#, "devicemapper").unwrap_err();
    assert_eq!(error.to_string(), "Driver: is not a string");
}

/// The text of a JSON value, with numbers as Docker writes them and numbers that no float can hold.
fn value_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("0.0".to_owned()),
        Just("-1.50e+07".to_owned()),
        any::<String>().prop_map(|s| Value::String(s).to_string()),
        Just(r#""\u003cDriver\u0022\/""#.to_owned()),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let member = (key_text(), inner.clone(), space());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|v| format!("[{}]", v.join(" ,"))),
            prop::collection::vec(member, 0..5).prop_map(|members| {
                let texts: Vec<_> = members
                    .iter()
                    .map(|(k, v, s)| format!("{k}{s}:{v}{s}"))
                    .collect();
                format!("{{{}}}", texts.join(","))
            }),
        ]
    })
}

fn key_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|s| Value::String(s).to_string()),
        Just("\"Driver\"".to_owned()),
        Just("\"ExecDriver\"".to_owned()),
    ]
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A top-level member: the text of its key, white space, the text of its value, and whether Go takes the key for
/// `Driver`.
fn member() -> impl Strategy<Value = (String, String, String, bool)> {
    let driver_keys = prop_oneof![
        Just("\"Driver\""),
        Just("\"driver\""),
        Just("\"dRIVEr\""),
        Just(r#""\u0044river""#),
        Just(r#""driv\u0045r""#),
    ];
    let driver_values = prop_oneof![
        Just("\"aufs\""),
        Just("\"\""),
        Just("null"),
        Just(r#""\u0061ufs""#)
    ];
    let driver = (driver_keys, space(), driver_values);
    let other = (any::<String>(), space(), value_text());
    prop_oneof![
        1 => driver.prop_map(|(k, s, v)| (k.to_owned(), s, v.to_owned(), true)),
        3 => other
            .prop_filter("another key", |(k, _, _)| !k.eq_ignore_ascii_case("driver"))
            .prop_map(|(k, s, v)| (Value::String(k).to_string(), s, v, false)),
    ]
}

proptest! {
    #[test]
    fn every_byte_outside_the_driver_values_stays(
        members in prop::collection::vec(member(), 0..8), front in space(), tail in space()
    ) {
        let text = |moved: bool| {
            let members: Vec<_> = members.iter().map(|(key, space, value, is_driver)| {
                let value = if moved && *is_driver { "\"devicemapper\"" } else { value };
                format!("{space}{key}{space}:{space}{value}{space}")
            }).collect();
            members.join(",")
        };
        let named = members.iter().any(|member| member.3);
        let missing = match (named, members.is_empty()) {
            (true, _) => "",
            (false, true) => "\"Driver\":\"devicemapper\"",
            (false, false) => "\"Driver\":\"devicemapper\",",
        };
        let before = format!("{front}{{{}}}{tail}", text(false));
        let after = format!("{front}{{{missing}{}}}{tail}", text(true));
        let edited = config_with_driver(before.as_bytes(), "devicemapper").unwrap();
        prop_assert_eq!(edited, Some(after.into_bytes()));
    }

    #[test]
    fn the_scanner_agrees_with_serde_on_what_is_json(text in value_text()) {
        let object = format!("{{\"a\":{text}}}");
        let accepted = Object::parse(object.as_bytes()).is_ok();
        prop_assert_eq!(accepted, serde_json::from_str::<Value>(&object).is_ok());
    }

    #[test]
    fn damaged_text_never_panics(text in value_text(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = format!("{{\"Driver\":\"aufs\",\"a\":{text}}}").into_bytes();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        let _ = config_with_driver(&bytes, "devicemapper");
        bytes.truncate(at);
        prop_assert!(config_with_driver(&bytes, "devicemapper").is_err());
    }
}
