//! Which CPU a test runs on.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread, and the processes that it starts, on one of the CPUs that it may use; threads with other numbers on others.
///
/// For two processes that take turns, as a tracer and what it traces: on two CPUs each turn wakes an idle one, which in a virtual
/// machine costs several times the turn.
pub(crate) fn stay_on_one_cpu(number: usize) -> Result<(), Errno> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let cpus: Vec<_> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .collect();
    let mut one = CpuSet::new();
    one.set(cpus[number % cpus.len()])?;
    sched_setaffinity(this, &one)
}
