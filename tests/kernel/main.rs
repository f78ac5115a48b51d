//! Tests in a real kernel with a real Docker.
//!
//! One binary in three roles. On the host it boots a User Mode Linux guest whose init is this same binary, and turns the
//! lines the guest prints into libtest's report. As the guest's init it prepares the system and runs the checks. With
//! `KERNEL_TESTS=native` it runs the checks right here, on a machine that has root and dm-thin. See `docs/testing.md`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // the report is this program's output

mod arguments;
mod block;
#[path = "../faults/calls.rs"]
mod calls;
mod checks;
mod dockerd;
#[allow(clippy::unwrap_used)] // system calls have small numbers
#[path = "../faults/filter.rs"]
mod filter;
mod guest;
mod host;
mod job;
mod killed;
mod lab;
mod leftovers;
mod log_writes;
mod lvm;
mod native;
mod pool;
mod report;
mod roots;
mod runner;
mod storage;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod tool;
#[allow(dead_code)] // of its faults the lab uses some
#[path = "../faults/tracer.rs"]
mod tracer;
mod truth;
mod udev;
mod variant;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First: the guest's environment names the job to its children too.
    if let Some(directory) = std::env::var_os(checks::HOLD_VARIABLE) {
        checks::hold(directory.as_ref());
    }
    if let Some(directory) = std::env::var_os(checks::LOOK_VARIABLE) {
        checks::hold_look(directory.as_ref());
    }
    if let Some(root) = std::env::var_os(killed::ROOT_VARIABLE) {
        killed::main(root.as_ref());
    }
    if let Some(job) = std::env::var_os(job::JOB_VARIABLE) {
        guest::main(job.as_ref());
    }
    let outcome = match std::env::var("KERNEL_TESTS").as_deref() {
        Ok("native") => native::main(),
        Ok("uml") | Err(_) => host::main(),
        Ok(other) => Err(anyhow::anyhow!(
            "KERNEL_TESTS={other}: want `uml` or `native`"
        )),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("kernel tests: {error:#}");
        ExitCode::from(101)
    })
}
