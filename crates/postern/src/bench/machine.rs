//! What the kernel says: time of a process and of a core, memory of a process, the machine.

use std::fs;
use std::time::Duration;

use crate::exit::{Code, Failure};

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::io(Code::Os, path, &error))
}

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Cores that this machine has, whatever this process is bound to.
pub(super) fn cores_online() -> usize {
    let stat = read("/proc/stat").unwrap_or_default();
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}

/// What all TCP sockets of this network namespace hold in the kernel: a cgroup would count the server's, but making
/// one and moving a process there needs rights that a bench should not want.
pub(super) fn socket_memory() -> Result<u64, Failure> {
    let sockstat = read("/proc/net/sockstat")?;
    let line = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or("");
    let pages = line.split_once(" mem ").and_then(|(_, pages)| pages.trim().parse::<u64>().ok()).unwrap_or(0);
    Ok(pages * rustix::param::page_size() as u64)
}

/// CPU time of all threads of a process, user and system, in nanoseconds of the scheduler: the
/// ticks of /proc/PID/stat are 10 ms.
pub(super) fn cpu(pid: u32) -> Result<Duration, Failure> {
    let mut nanos = 0;
    let tasks = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| Failure::io(Code::Os, &tasks, &error))?;
    for task in entries.flatten() {
        let schedstat = read(&task.path().join("schedstat").display().to_string())?;
        nanos += schedstat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Time that a core was not idle: interrupts, journal and kernel workers count.
pub(super) fn busy(core: usize) -> Result<Duration, Failure> {
    let stat = read("/proc/stat")?;
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name)).unwrap_or("");
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: u64 =
        fields.iter().take(7).enumerate().filter(|(n, _)| !matches!(n, 3 | 4)).map(|(_, ticks)| ticks).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Resident and private octets of a process.
pub(super) fn memory(pid: u32) -> Result<(u64, u64), Failure> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    };
    Ok((kib("Rss:") << 10, (kib("Private_Dirty:") + kib("Private_Clean:")) << 10))
}

/// Processor, cores and kernel in one line.
pub(super) fn describe() -> String {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    format!("{}, {} cores, Linux {kernel}", model.trim_start_matches([' ', '\t', ':']), cores())
}
