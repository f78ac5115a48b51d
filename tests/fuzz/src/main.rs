//! Runs libFuzzer on the target that `FUZZ_TARGET` names: docs/testing.md, "Fuzzing".
#![no_main]

use std::sync::LazyLock;

mod targets;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = targets::ALL.into_iter().find(|(own, _)| *own == name);
    let (_, target) = target.expect("FUZZ_TARGET names a target");
    target
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
