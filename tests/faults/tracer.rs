//! Runs a command and counts the system calls by which it changes something; any of them can be made to fail, or the last
//! thing that the process does.

// What happens between `fork` and `exec`.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read, Seek};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::{ASKING, CHANGING, Changing, Names, When, request};
use super::filter;

/// What is done to the run, at a moment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails.
    Fail(Errno),
    /// The call and all later ones fail, as on a disk that is full, gone, or read-only since an error.
    FailFrom(Errno),
    /// The call fails, and the process is killed before the call that is so many after it: in the midst of undoing.
    FailThenKill(Errno, usize),
    /// The process is killed before the call.
    Kill,
    /// Somebody else makes a file before the call, by its path in the first of the places.
    Appear(&'static str),
    /// Somebody else removes a directory before the call, likewise.
    Vanish(&'static str),
    /// The call writes half of what it should, then the process is killed. Calls that write nothing are as with `Kill`.
    Tear,
}

/// A call among those that a run makes. Not by its number, since threads do not always take turns in the same way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// The call's name and files.
    pub(crate) call: &'a str,
    /// How many calls of the same name and files come before it.
    pub(crate) before: usize,
}

impl<'a> Moment<'a> {
    /// That of the call with this number.
    pub(crate) fn of(calls: &'a [String], number: usize) -> Self {
        let call = &calls[number];
        let before = calls[..number].iter().filter(|other| *other == call);
        Self {
            call,
            before: before.count(),
        }
    }
}

/// What a run did.
#[derive(Debug)]
pub(crate) struct Traced {
    /// The calls by which it changed something, each as its name and the files it was about.
    pub(crate) calls: Vec<String>,
    /// The number of the call with the fault, if it came to that.
    pub(crate) met: Option<usize>,
    /// Its exit code; `None` when it was killed.
    pub(crate) code: Option<i32>,
    /// What it said on stdout.
    pub(crate) out: String,
    /// What it said on stderr.
    pub(crate) err: String,
}

/// `PATH_MAX`. Source: linux v6.6 `include/uapi/linux/limits.h`.
const LONGEST_PATH: usize = 4096;

/// Longer than any command takes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `command`. Paths below one of `places` are told by the place's name, so that the runs can be compared.
pub(crate) fn run(
    mut command: Command,
    fault: Option<(Fault, Moment<'_>)>,
    places: &[(&Path, &str)],
) -> Result<Traced> {
    let (mut out, mut err) = (said(c"out")?, said(c"err")?);
    command.stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(err.try_clone()?);
    let child = spawn_traced(&mut command)?;
    let (ended, watched) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = kill(child, Signal::SIGKILL);
        }
        late
    });
    let mut tracer = Tracer {
        child,
        fault,
        places,
        calls: Vec::new(),
        before: fault.map_or(0, |(_, moment)| moment.before),
        met: None,
        torn: None,
        others: HashSet::new(),
    };
    let code = tracer.follow();
    if code.is_err() {
        tracer.end();
    }
    tracer.end_others();
    drop(ended);
    let late = watch.join().expect("the watch does not panic");
    let (out, err) = (whole(&mut out)?, whole(&mut err)?);
    ensure!(!late, "it still ran after {PATIENCE:?}: {err}");
    Ok(Traced {
        calls: tracer.calls,
        met: tracer.met,
        code: code?,
        out,
        err,
    })
}

/// Where stdout or stderr goes: nothing fills up, and nothing must be read meanwhile.
fn said(name: &CStr) -> Result<File> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?.into())
}

/// Starts the command, stopped after its `exec`.
fn spawn_traced(command: &mut Command) -> Result<Pid> {
    let program = filter::program();
    let length = u16::try_from(program.len())?;
    let prepare = move || {
        ptrace::traceme()?;
        let filter = libc::sock_fprog {
            len: length,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: plain arguments. Without privileges to gain, a filter is allowed to anybody.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the kernel copies the program, which lives as long as this closure.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
        Errno::result(set).map(drop).map_err(io::Error::from)
    };
    // SAFETY: the closure makes system calls and nothing else.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn().context("starting the command")?;
    let child = Pid::from_raw(i32::try_from(child.id())?);
    let status = waitpid(child, None)?;
    ensure!(
        matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP)),
        "not stopped after exec: {status:?}"
    );
    let options = Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(child, options)?;
    ptrace::cont(child, None)?;
    Ok(child)
}

struct Tracer<'a> {
    child: Pid,
    fault: Option<(Fault, Moment<'a>)>,
    places: &'a [(&'a Path, &'a str)],
    calls: Vec<String>,
    /// How often the moment's call must still come before it.
    before: usize,
    met: Option<usize>,
    /// The thread whose call writes half.
    torn: Option<Pid>,
    /// Threads and processes that the command has started.
    others: HashSet<Pid>,
}

impl Tracer<'_> {
    /// Goes from stop to stop until the process is gone; its exit code.
    fn follow(&mut self) -> Result<Option<i32>> {
        loop {
            // Not those of other tests' threads.
            let all = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(all))? {
                WaitStatus::Exited(pid, code) if pid == self.child => return Ok(Some(code)),
                WaitStatus::Signaled(pid, ..) if pid == self.child => return Ok(None),
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => self.stopped(pid)?,
                WaitStatus::PtraceSyscall(pid) if self.torn == Some(pid) => self.kill()?,
                WaitStatus::PtraceEvent(pid, ..) | WaitStatus::PtraceSyscall(pid) => {
                    go_on(pid, None)?;
                }
                // How a new thread or process begins.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) => {
                    self.others.insert(pid);
                    go_on(pid, None)?;
                }
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal))?,
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.others.remove(&pid);
                }
                _ => {}
            }
        }
    }

    fn kill(&self) -> Result<()> {
        Ok(kill(self.child, Signal::SIGKILL)?)
    }

    /// Kills it and waits until it is gone.
    fn end(&self) {
        let _ = self.kill();
        let all = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while let Ok(status) = waitpid(None, Some(all)) {
            if status.pid() == Some(self.child)
                && matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
            {
                break;
            }
        }
    }

    /// Kills what the command has left running: with no tracer, every call at which it stops would fail.
    fn end_others(&mut self) {
        for pid in self.others.drain() {
            let _ = kill(pid, Signal::SIGKILL);
            // Threads went with their process.
            while let Ok(status) = waitpid(pid, Some(WaitPidFlag::__WALL)) {
                if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                    break;
                }
            }
        }
    }

    /// A thread is about to make a call that the filter did not let pass.
    fn stopped(&mut self, pid: Pid) -> Result<()> {
        let mut registers = match ptrace::getregs(pid) {
            // Killed meanwhile.
            Err(Errno::ESRCH) => return Ok(()),
            registers => registers?,
        };
        let stop = Stop {
            pid,
            number: registers.orig_rax.cast_signed(),
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
        };
        let Some(call) = stop.changing()? else {
            return go_on(pid, None);
        };
        self.calls.push(self.identity(call, &stop));
        match self.due() {
            None => go_on(pid, None),
            Some(Fault::Kill) => self.kill(),
            Some(Fault::Appear(path)) => {
                let (place, _) = self.places.first().context("a place")?;
                fs::write(place.join(path), "x")?;
                go_on(pid, None)
            }
            Some(Fault::Vanish(path)) => {
                let (place, _) = self.places.first().context("a place")?;
                fs::remove_dir_all(place.join(path))?;
                go_on(pid, None)
            }
            Some(Fault::Tear) => {
                if !halve(&mut registers, call, &stop.arguments) {
                    return self.kill();
                }
                ptrace::setregs(pid, registers)?;
                self.torn = Some(pid);
                Ok(ptrace::syscall(pid, None)?)
            }
            Some(Fault::Fail(errno) | Fault::FailFrom(errno) | Fault::FailThenKill(errno, _)) => {
                // Without a number the kernel skips the call and leaves this result. Source: linux v6.6 `kernel/seccomp.c`,
                // `__seccomp_filter`, `SECCOMP_RET_TRACE`.
                registers.orig_rax = u64::MAX;
                registers.rax = i64::from(-(errno as i32)).cast_unsigned();
                ptrace::setregs(pid, registers)?;
                go_on(pid, None)
            }
        }
    }

    /// What is to be done to the call that was met last.
    fn due(&mut self) -> Option<Fault> {
        let (fault, moment) = self.fault?;
        if let Some(met) = self.met {
            return match fault {
                Fault::FailFrom(_) => Some(fault),
                Fault::FailThenKill(_, after) => {
                    (self.calls.len() - 1 == met + after).then_some(Fault::Kill)
                }
                _ => None,
            };
        }
        if self.calls.last().is_none_or(|call| call != moment.call) {
            return None;
        }
        if self.before > 0 {
            self.before -= 1;
            return None;
        }
        self.met = Some(self.calls.len() - 1);
        Some(fault)
    }

    /// The call's name and its files, the same in each run.
    fn identity(&self, call: &Changing, stop: &Stop) -> String {
        let names: Vec<_> = stop.names(call.names);
        let name = match call.when {
            When::Request(argument) => {
                let number = stop.arguments[argument] & 0xffff_ffff;
                format!("{}({})", call.name, request(number))
            }
            _ => call.name.to_owned(),
        };
        let mut text = format!("{name} {}", names.join(" "));
        for (path, name) in self.places {
            text = text.replace(&*path.to_string_lossy(), name);
        }
        text.replace(&format!("-{}-", self.child), "-PID-")
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::cont(pid, signal) {
        // Killed meanwhile: it is waited for.
        Err(Errno::ESRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// Has the call write half; false if it writes nothing that can be halved.
fn halve(registers: &mut libc::user_regs_struct, call: &Changing, arguments: &[u64; 6]) -> bool {
    let Some(argument) = call.length else {
        return false;
    };
    let half = arguments[argument] / 2;
    *match argument {
        2 => &mut registers.rdx,
        3 => &mut registers.r10,
        _ => &mut registers.r8,
    } = half;
    half > 0
}

fn whole(file: &mut File) -> Result<String> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A thread at a call.
struct Stop {
    pid: Pid,
    number: i64,
    arguments: [u64; 6],
}

impl Stop {
    /// The call, if it changes something.
    fn changing(&self) -> Result<Option<&'static Changing>> {
        let found = CHANGING.iter().find(|call| call.number == self.number);
        let Some(call) = found else {
            bail!("system call {} is in no list of calls.rs", self.number);
        };
        if call.name == "mmap" {
            let written = self.arguments[2] & u64::from(libc::PROT_WRITE.cast_unsigned()) != 0;
            ensure!(!written || self.fd(4) < 0, "a shared mapping of a file");
            return Ok(None);
        }
        let changes = match call.when {
            When::Always | When::Bits(..) => true,
            When::OpenHow(argument) => {
                let flags = self.read(self.arguments[argument], 4)?;
                let flags = i32::from_le_bytes(flags.try_into().expect("four were read"));
                flags & (libc::O_CREAT | libc::O_TRUNC) != 0
            }
            When::Request(argument) => !ASKING.contains(&(self.arguments[argument] & 0xffff_ffff)),
        };
        Ok((changes && !self.is_talk(call)).then_some(call))
    }

    /// Whether it goes to the terminal, another process or another thread.
    fn is_talk(&self, call: &Changing) -> bool {
        let Names::Fd(argument) = call.names else {
            return false;
        };
        let file = self.open_file(argument);
        !file.starts_with('/') || file.starts_with("/memfd:") || file == "/dev/null"
    }

    fn fd(&self, argument: usize) -> i32 {
        // File descriptors are the lower half.
        #[allow(clippy::cast_possible_truncation)]
        let fd = self.arguments[argument] as u32;
        fd.cast_signed()
    }

    fn open_file(&self, argument: usize) -> String {
        let link = format!("/proc/{}/fd/{}", self.pid, self.fd(argument));
        match fs::read_link(link) {
            Ok(path) => path.to_string_lossy().into_owned(),
            Err(_) => String::from("?"),
        }
    }

    fn names(&self, names: Names) -> Vec<String> {
        match names {
            Names::Fd(fd) => vec![self.open_file(fd)],
            Names::Path(path) => vec![self.path(path)],
            Names::At(directory, path) => vec![self.path_at(directory, path)],
            Names::Paths(from, to) => vec![self.path(from), self.path(to)],
            Names::Ats(from, from_path, to, to_path) => {
                vec![self.path_at(from, from_path), self.path_at(to, to_path)]
            }
            Names::Nothing => Vec::new(),
        }
    }

    fn path_at(&self, directory: usize, path: usize) -> String {
        let path = self.path(path);
        if path.starts_with('/') || self.fd(directory) == libc::AT_FDCWD {
            path
        } else {
            format!("{}/{path}", self.open_file(directory))
        }
    }

    /// The string that an argument points to; empty for none.
    fn path(&self, argument: usize) -> String {
        let mut bytes = Vec::new();
        let mut at = self.arguments[argument];
        while at != 0 && bytes.len() < LONGEST_PATH {
            // Not beyond the page: the next one may not be there.
            let size = 4096 - (at % 4096);
            let Ok(read) = self.read(at, usize::try_from(size).unwrap_or(0)) else {
                break;
            };
            let end = read.iter().position(|&byte| byte == 0);
            bytes.extend_from_slice(&read[..end.unwrap_or(read.len())]);
            if end.is_some() {
                break;
            }
            at += size;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn read(&self, address: u64, size: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        let remote = RemoteIoVec {
            base: usize::try_from(address)?,
            len: size,
        };
        let read = process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut bytes)], &[remote]);
        let read = match read {
            // Not all kernels have it.
            Err(Errno::ENOSYS) => {
                let memory = File::open(format!("/proc/{}/mem", self.pid))?;
                memory.read_at(&mut bytes, address)?
            }
            read => read?,
        };
        ensure!(read == size, "read {read} bytes of the traced process");
        Ok(bytes)
    }
}
