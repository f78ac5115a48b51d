//! The fuzz targets, with what is in their corpus: every input that ever found something stays harmless.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

// Targets are functions of the library as its users see it, so they need no fuzzer to run.
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

/// Fails unless every input in a target's folder is harmless.
fn replay(name: &str, target: targets::Target) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let folder = corpus.join(name);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{}: has no inputs", folder.display());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        let outcome = catch_unwind(|| target(&bytes));
        assert!(outcome.is_ok(), "target {name}: {}", input.display());
    }
}

#[test]
fn no_input_of_the_corpus_breaks_its_target() {
    for (name, target) in targets::ALL {
        replay(name, target);
    }
}

#[test]
fn no_target_minds_an_input_of_any_short_length() {
    for (name, target) in targets::ALL {
        for length in [0, 1, 2, 13, 14, 40] {
            for byte in [0, b'a', 0x80, 0xff] {
                let bytes = vec![byte; length];
                let outcome = catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "target {name}: {bytes:?}");
            }
        }
    }
}
