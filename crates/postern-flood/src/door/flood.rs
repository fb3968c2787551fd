//! Plays a plan: the friends on this thread, a thread for each attack, the kernel's counters before and after.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use super::attack::Means;
use super::friends::Friends;
use super::kernel;
use super::plan::{Assault, DoorPlan};
use super::report::DoorReport;
use super::spray::{self, Bounds};
use super::tally::Tally;
use super::tap::Tap;
use crate::engine::{pin, thread_cpu};
use crate::limits::BUSY_PERCENT_MAX;
use crate::plan::FloodError;
use crate::report::GeneratorReport;
use crate::stats::Lag;

/// The generator for doors.
pub struct DoorFlood;

/// What is known in the middle of a run.
#[derive(Clone, Debug, Default)]
pub struct DoorProgress {
    /// Since the start.
    pub elapsed_ms: u64,
    /// When attacks and offers stop.
    pub offer_until_ms: u64,
    /// Packets of all attacks.
    pub packets: u64,
    /// Datagrams that came back to them.
    pub answers: u64,
    /// Friends' messages due so far.
    pub friends_offered: u64,
    /// Friends' messages taken.
    pub friends_accepted: u64,
    /// Friends' messages given up.
    pub friends_failed: u64,
}

struct Running {
    tally: Arc<Tally>,
    thread: JoinHandle<Result<(), std::io::Error>>,
}

impl DoorFlood {
    /// Plays a plan and returns what was found. `progress` is called about ten times a second; `Break` ends the run
    /// early. Blocks for `friends_after_ms + offer_ms`, and the friends' patience at most beyond.
    ///
    /// # Errors
    /// The plan is refused, the system refuses a socket, the friends' links cannot be made before anybody attacks.
    pub fn run(
        plan: &DoorPlan,
        mut progress: impl FnMut(&DoorProgress) -> ControlFlow<()>,
    ) -> Result<DoorReport, FloodError> {
        plan.check()?;
        if let Some(core) = plan.pin {
            pin(core)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| FloodError::System("a runtime".to_owned(), error))?;
        runtime.block_on(play(plan, &mut progress))
    }
}

async fn play(
    plan: &DoorPlan,
    progress: &mut impl FnMut(&DoorProgress) -> ControlFlow<()>,
) -> Result<DoorReport, FloodError> {
    let tap = Tap::default();
    let mut friends = match &plan.friends {
        Some(friends) => Some(Friends::arrive(plan, friends, tap.clone()).await?),
        None => None,
    };
    let before = kernel::read(plan.target);
    // A flood against nothing would look like a perfect defence. A door of another namespace cannot be seen from here.
    if before.door_sockets == 0 && plan.target.ip().is_loopback() {
        return Err(FloodError::Unreachable(plan.target, "nobody has that UDP port".to_owned()));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), thread_cpu());
    let until = began + Duration::from_millis(plan.friends_after_ms + plan.offer_ms);
    let mut running = Vec::new();
    for (n, assault) in plan.attacks.iter().enumerate() {
        running.push(set_loose(plan, n as u64, assault, until, &stop, &tap)?);
    }
    let mut watch = Watch { began, until, told: began, lag: Lag::new(), looked: began, stopped: false };
    let offer_from = began + Duration::from_millis(plan.friends_after_ms);
    while Instant::now() < if friends.is_some() { offer_from } else { until } && !watch.stopped {
        tokio::time::sleep(Duration::from_millis(10)).await;
        watch.look(&running, None, progress);
        if friends.is_none() && running.iter().all(|one| one.thread.is_finished()) && !running.is_empty() {
            break;
        }
    }
    if let Some(friends) = &mut friends {
        // What it was away before is not its being late.
        watch.looked = Instant::now();
        friends.offer(until, |friends| watch.look(&running, Some(friends), progress)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), thread_cpu().saturating_sub(cpu));
    let mut attacks = Vec::new();
    for (one, assault) in running.into_iter().zip(&plan.attacks) {
        let ended = one.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the attack's thread panicked")));
        ended.map_err(|error| FloodError::System(assault.attack.to_string(), error))?;
        attacks.push(one.tally.report(assault));
    }
    let cpu_percent = cpu.as_secs_f64() * 100.0 / seconds.max(1e-9);
    let moments = friends.as_ref().map(Friends::moments).unwrap_or_default();
    Ok(DoorReport {
        target: Some(plan.target),
        seed: plan.seed,
        seconds,
        stopped_early: watch.stopped,
        attacks,
        friends: friends.map(Friends::report).transpose()?.unwrap_or_default(),
        moments,
        kernel: kernel::grown(before, kernel::read(plan.target)),
        generator: GeneratorReport {
            busy_percent: cpu_percent,
            cpu_percent,
            lag_p99_ms: watch.lag.p99_ms(),
            lag_max_ms: watch.lag.max_ms(),
            limited: cpu_percent > BUSY_PERCENT_MAX,
        },
    })
}

/// Tells the progress, and measures how late this thread comes round.
struct Watch {
    began: Instant,
    until: Instant,
    told: Instant,
    lag: Lag,
    looked: Instant,
    stopped: bool,
}

impl Watch {
    /// False when somebody wants it to end.
    fn look(
        &mut self,
        running: &[Running],
        friends: Option<&Friends>,
        progress: &mut impl FnMut(&DoorProgress) -> ControlFlow<()>,
    ) -> bool {
        let now = Instant::now();
        // Called every 10 ms: what is more is lateness.
        self.lag.add(now.duration_since(self.looked).saturating_sub(STEP).as_micros() as u64);
        self.looked = now;
        if now.duration_since(self.told) < TELL {
            return true;
        }
        self.told = now;
        let mut told = DoorProgress {
            elapsed_ms: self.began.elapsed().as_millis() as u64,
            offer_until_ms: self.until.duration_since(self.began).as_millis() as u64,
            packets: running.iter().map(|one| one.tally.packets.get()).sum(),
            answers: running.iter().map(|one| one.tally.answers.get()).sum(),
            ..DoorProgress::default()
        };
        for counted in friends.map(Friends::counted).into_iter().flatten() {
            let tally = counted.lock();
            told.friends_offered += tally.total.offered;
            told.friends_accepted += tally.total.accepted;
            told.friends_failed += tally.total.failed;
        }
        self.stopped = progress(&told).is_break();
        !self.stopped
    }
}

/// An attack on a thread of its own, last in the scheduler's order: what friends wait for must be the door.
fn set_loose(
    plan: &DoorPlan,
    number: u64,
    assault: &Assault,
    until: Instant,
    stop: &Arc<AtomicBool>,
    tap: &Tap,
) -> Result<Running, FloodError> {
    let tally = Arc::new(Tally::default());
    let (target, seed) = (plan.target, plan.seed.wrapping_add(number << 32));
    let (counted, assault, stop, tap) = (Arc::clone(&tally), assault.clone(), Arc::clone(stop), tap.clone());
    let friends = plan.friends.clone();
    let work = move || {
        // Refused or not, it attacks; when refused the friends' figures are a little worse than the door.
        let _ = setpriority_process(None, NICE);
        let bounds = Bounds { until, stop: &stop };
        match assault.attack.means() {
            Means::Forged | Means::Captured => spray::run(target, &assault, seed, &tap, &counted, &bounds),
            Means::Cookies => super::botnet::run(target, &assault, seed, &counted, &bounds),
            Means::Handshakes => super::handshakes::run(target, &assault, &counted, &bounds),
            Means::Inside => super::insider::run(target, &assault, friends.as_ref(), &counted, &bounds),
        }
    };
    let thread = thread::Builder::new()
        .name(format!("{}-{number}", assault_name(plan, number)))
        .spawn(work)
        .map_err(|error| FloodError::System("a thread".to_owned(), error))?;
    Ok(Running { tally, thread })
}

fn assault_name(plan: &DoorPlan, number: u64) -> &'static str {
    plan.attacks.get(number as usize).map_or("attack", |assault| assault.attack.as_str())
}

/// The lowest priority: 15 parts of the core to the friends' 1,024.
const NICE: i32 = 19;

const STEP: Duration = Duration::from_millis(10);

/// Ten times a second.
const TELL: Duration = Duration::from_millis(100);
