//! The host's side: boots the guest, watches it, turns its lines into the report.

use std::{
    collections::VecDeque,
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitCode, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    arguments::Arguments,
    checks::{self, Check},
    job::{Event, JOB_VARIABLE, Job, NO_MORE, Outcome},
    lab,
    report::Report,
    support::cpu::stay_on_one_cpu,
};

/// How long a guest may take to end a check, unless `KERNEL_TESTS_TIMEOUT` (seconds) says otherwise.
const TIMEOUT: Duration = Duration::from_secs(2400);
/// Guests at a time, unless `KERNEL_TESTS_GUESTS` says otherwise: each may take as much memory as it has.
const MOST_GUESTS: usize = 2;
/// Lines of the console shown when the guest died.
const CONSOLE_TAIL: usize = 60;

/// Runs the chosen tests in a guest.
pub(crate) fn main() -> Result<ExitCode> {
    let arguments = Arguments::read()?;
    let chosen = arguments.chosen();
    if arguments.list {
        for check in &chosen {
            println!("{}: test", check.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let job = Job {
        lab: lab::locate()?,
        groups: groups(&chosen),
        shell: arguments.shell.clone(),
        path: env::var("PATH").unwrap_or_default(),
        directory: PathBuf::new(),
    };
    if job.shell.is_some() {
        return shell(&job);
    }
    let mut report = Report::begin(
        (chosen.len(), checks::all().len()),
        arguments.nr_ignored(),
        arguments.report_time,
    );
    run_guests(nr_guests()?, &job, &arguments, &mut report)?;
    Ok(report.close())
}

/// How many guests run at a time: a guest has one CPU.
fn nr_guests() -> Result<usize> {
    match env::var("KERNEL_TESTS_GUESTS") {
        Ok(number) => number.parse().context("KERNEL_TESTS_GUESTS"),
        Err(_) => Ok(thread::available_parallelism()?.get().min(MOST_GUESTS)),
    }
}

/// The checks in the groups that a guest gets as a whole: those of one way to convert share the converted root.
fn groups(chosen: &[&Check]) -> Vec<Vec<String>> {
    let groups = chosen.chunk_by(|a, b| a.shares_a_root_with(b));
    let names = |group: &[&Check]| group.iter().map(|check| check.name.clone()).collect();
    groups.map(names).collect()
}

/// The groups that no guest has got yet. A guest asks for the next when it is done with one, so that all end at about the same
/// time however long each takes.
#[derive(Debug)]
struct Queue<'a> {
    groups: &'a [Vec<String>],
    next: AtomicUsize,
}

impl<'a> Queue<'a> {
    fn take(&self) -> Option<(usize, &'a [String])> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.groups
            .get(index)
            .map(|group| (index, group.as_slice()))
    }
}

/// Boots guests that share the job's groups, and reports what they tell as it comes.
fn run_guests(
    nr_guests: usize,
    job: &Job,
    arguments: &Arguments,
    report: &mut Report,
) -> Result<()> {
    let queue = Queue {
        groups: &job.groups,
        next: AtomicUsize::new(0),
    };
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        let run = |number| {
            let (tell, queue) = (sender.clone(), &queue);
            scope.spawn(move || {
                // A system call of the guest is a switch between two of its processes.
                stay_on_one_cpu(number)?;
                run_guest(job, queue, arguments.nocapture, &tell)
            })
        };
        let guests: Vec<_> = (0..nr_guests.max(1).min(job.groups.len()))
            .map(run)
            .collect();
        drop(sender);
        for outcome in outcomes {
            report.add(outcome);
        }
        guests
            .into_iter()
            .try_for_each(|guest| guest.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    // Where every guest died, nobody has asked for these.
    while let Some((_, group)) = queue.take() {
        for name in group {
            report.add(not_run(name, "every guest has ended"));
        }
    }
    Ok(())
}

fn not_run(name: &str, why: &str) -> Outcome {
    Outcome {
        name: name.to_owned(),
        failure: Some(format!("not run: {why}")),
        seconds: 0.0,
    }
}

/// Boots one guest, feeds it groups from the queue, and tells the outcome of every check that it got, also when it dies.
fn run_guest(job: &Job, queue: &Queue<'_>, nocapture: bool, tell: &Sender<Outcome>) -> Result<()> {
    let mut guest = Guest::boot(job.clone(), Stdio::piped())?;
    let timeout = match env::var("KERNEL_TESTS_TIMEOUT") {
        Ok(seconds) => Duration::from_secs(seconds.parse().context("KERNEL_TESTS_TIMEOUT")?),
        Err(_) => TIMEOUT,
    };
    let mut console = Console {
        path: guest.directory.path().join("console.log"),
        lines: Vec::new(),
    };
    let mut orders = guest
        .process
        .stdin
        .take()
        .context("the guest's console is taken")?;
    let mut missing = VecDeque::new();
    let end = watch(&guest.lines()?, timeout, |line| {
        match Event::from_line(line) {
            Some(Event::Finished(outcome)) => {
                missing.retain(|name| *name != outcome.name);
                let _ = tell.send(outcome); // who reports waits for all guests
            }
            Some(Event::Ready) => {
                let order = match queue.take() {
                    Some((index, group)) => {
                        missing.extend(group.iter().cloned());
                        index.to_string()
                    }
                    None => NO_MORE.to_owned(),
                };
                let _ = writeln!(orders, "{order}"); // a guest that died is noticed by its console's end
            }
            Some(_) => console.lines.push(line.to_owned()),
            None => {
                if nocapture {
                    println!("{line}");
                }
                console.lines.push(line.to_owned());
            }
        }
    });
    guest.kill();
    if !missing.is_empty() {
        fs::write(&console.path, console.lines.join("\n"))?;
        guest.directory.disable_cleanup(true);
        eprintln!("the whole console: {}", console.path.display());
    }
    // The first one was running; the rest never began.
    if let Some(name) = missing.pop_front() {
        let _ = tell.send(Outcome {
            name,
            failure: Some(console.tail(end)),
            seconds: 0.0,
        });
    }
    for name in missing {
        let _ = tell.send(not_run(&name, end));
    }
    Ok(())
}

/// Boots a guest whose console is this terminal.
fn shell(job: &Job) -> Result<ExitCode> {
    stay_on_one_cpu(process::id() as usize)?;
    let mut guest = Guest::boot(job.clone(), Stdio::inherit())?;
    let status = guest.process.wait()?;
    // The shell's own status comes back through a file: a kernel that powers off always ends well.
    let code = fs::read_to_string(guest.directory.path().join("status")).unwrap_or_default();
    match code.trim().parse::<u8>() {
        Ok(code) if status.success() => Ok(ExitCode::from(code)),
        _ => bail!("the guest ended early ({status})"),
    }
}

/// Calls `each` for every line until the guest closes its console, or has ended no check for as long as `patience`; tells how
/// it ended. No limit on the whole: how long that takes says only how busy the machine is.
fn watch(lines: &Receiver<String>, patience: Duration, mut each: impl FnMut(&str)) -> &'static str {
    let mut deadline = Instant::now() + patience;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = line.trim_end();
                each(line);
                if let Some(Event::Finished(_) | Event::Ready) = Event::from_line(line) {
                    deadline = Instant::now() + patience;
                }
            }
            Err(RecvTimeoutError::Timeout) => return "the guest ran into the time limit",
            Err(RecvTimeoutError::Disconnected) => return "the guest ended",
        }
    }
}

struct Console {
    path: PathBuf,
    lines: Vec<String>,
}

impl Console {
    fn tail(&self, end: &str) -> String {
        let from = self.lines.len().saturating_sub(CONSOLE_TAIL);
        format!(
            "{end} before this test did; its console:\n{}",
            self.lines[from..].join("\n")
        )
    }
}

/// A running User Mode Linux; killed, with its whole process group, when dropped.
struct Guest {
    process: Child,
    directory: tempfile::TempDir,
}

impl Guest {
    fn boot(mut job: Job, console: Stdio) -> Result<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(target)?;
        let directory = tempfile::Builder::new()
            .prefix("kernel-tests-")
            .tempdir_in(target)?;
        let file = directory.path().join("job.json");
        directory.path().clone_into(&mut job.directory);
        fs::write(&file, serde_json::to_vec(&job)?)?;
        let interactive = job.shell.is_some();
        let kernel = job.lab.join("kernel/linux.uml");
        let mut command = Command::new(&kernel);
        command
            .arg(format!(
                "mem={}",
                env::var("KERNEL_TESTS_MEMORY").unwrap_or_else(|_| "4G".to_owned())
            ))
            // The guest never writes to the machine's files: its root is a read-only hostfs with a tmpfs over it.
            .args([
                "root=/dev/root",
                "rootfstype=hostfs",
                "rootflags=/",
                "ro",
                "quiet",
                "loglevel=2",
                "panic=-1",
                // A guest's system calls are signals then, not stops of a tracer, wherever the machine's kernel permits that.
                "seccomp=auto",
            ])
            .args(["con=null", "con0=fd:0,fd:1", "ssl=null", "umid="])
            .arg(format!("init={}", env::current_exe()?.display()))
            .arg(format!("{JOB_VARIABLE}={}", file.display()))
            .stdin(if interactive {
                Stdio::inherit()
            } else {
                Stdio::piped()
            })
            .stdout(console)
            .stderr(if interactive {
                Stdio::inherit()
            } else {
                Stdio::null()
            });
        if !interactive {
            command.process_group(0); // to end its helper processes with it; a shell needs the terminal's group
        }
        let process = command
            .spawn()
            .with_context(|| kernel.display().to_string())?;
        Ok(Self { process, directory })
    }

    fn lines(&mut self) -> Result<Receiver<String>> {
        let console = self
            .process
            .stdout
            .take()
            .context("the guest's console is taken")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Ok(receiver)
    }

    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // ESRCH is the normal case: it powered off and was alone in its group.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
