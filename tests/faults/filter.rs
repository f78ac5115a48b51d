//! The program by which the kernel decides at which system calls a traced process stops.
//!
//! Calls that change nothing run at full speed: most of a conversion is reading.

use nix::libc;

use super::calls::{CHANGING, HARMLESS, When};

/// Source: linux v6.6 `include/uapi/linux/audit.h`, `EM_X86_64 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE`.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`. Source: linux v6.6 `include/uapi/linux/seccomp.h`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program: calls that change something stop the process, and so do calls that are in no list.
pub(crate) fn program() -> Vec<libc::sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    for &number in HARMLESS {
        program.push(jump(libc::BPF_JEQ, low(number), 0, 1));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    for call in CHANGING {
        let When::Bits(argument, bits) = call.when else {
            continue;
        };
        // The upper half of the argument is of no interest, and the machine is little-endian.
        let argument = ARGUMENTS + 8 * u32::try_from(argument).unwrap();
        program.push(jump(libc::BPF_JEQ, low(call.number), 0, 4));
        program.push(load(argument));
        program.push(jump(libc::BPF_JSET, bits, 0, 1));
        program.push(answer(libc::SECCOMP_RET_TRACE));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    program.push(answer(libc::SECCOMP_RET_TRACE));
    program
}

fn low(number: i64) -> u32 {
    u32::try_from(number).unwrap()
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn answer(answer: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, answer, 0, 0)
}

fn jump(condition: u32, operand: u32, yes: u8, no: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | condition | libc::BPF_K, operand, yes, no)
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = u16::try_from(code).unwrap();
    libc::sock_filter { code, jt, jf, k }
}
