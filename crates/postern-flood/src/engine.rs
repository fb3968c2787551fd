//! The loop that plays a plan: one thread, two epoll instances, a timer wheel, no task per connection.
//!
//! Friends have an epoll instance of their own, looked at between any two batches of the crowd's work: what is measured
//! is the server's delay, not ours. What remains of ours is measured too and told in [`GeneratorReport`].

mod conn;
mod crowds;
mod dialog;
mod friends;
mod letter;
mod no_port;
mod pool;
mod socket;
mod wheel;

use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::limits::{BUSY_PERCENT_MAX, DESCRIPTORS_RESERVED};
use crate::plan::{FloodError, Plan};
use crate::report::{GeneratorReport, Progress, Report, Second};
use crate::stats::Lag;

use pool::Pool;

/// The generator.
pub struct Flood;

impl Flood {
    /// Plays a plan on this thread and returns what was found.
    ///
    /// `progress` is called about ten times a second and once at the end; `Break` ends the run early, and the report
    /// then covers what there was (that is what Ctrl-C does). The thread is bound to a core when the plan says so, and
    /// stays so. Blocks for `friends_after_ms + offer_ms`, and at most the friends' patience and retries beyond.
    ///
    /// # Errors
    /// The plan is refused, the descriptors do not suffice, nobody listens at the target, the ledger cannot be written.
    pub fn run(plan: &Plan, mut progress: impl FnMut(&Progress) -> ControlFlow<()>) -> Result<Report, FloodError> {
        plan.check()?;
        raise_descriptor_limit(plan)?;
        answers(plan.target)?;
        if let Some(core) = plan.pin {
            pin(core)?;
        }
        let mut run = Run::new(plan)?;
        loop {
            let done = run.round()?;
            let elapsed_ms = run.now_us() / 1_000;
            if done || elapsed_ms >= run.told_ms + PROGRESS_MS {
                run.told_ms = elapsed_ms;
                run.pool.ledger.flush()?;
                let stop = progress(&run.progress()).is_break();
                if stop || done {
                    return Ok(run.report(stop && !done));
                }
            }
        }
    }
}

/// A plan being played.
struct Run<'a> {
    plan: &'a Plan,
    pool: Pool<'a>,
    started: Instant,
    cpu_started: Duration,
    told_ms: u64,
    waited: Duration,
    lag: Lag,
    /// End of the last look at the friends.
    looked: Instant,
    series: Vec<Second>,
    offer_until_us: u64,
    /// When those still waiting count as failed, whatever happens.
    over_us: u64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Result<Self, FloodError> {
        let offer_until_us = (plan.friends_after_ms + plan.offer_ms) * 1_000;
        let patience = plan.friends.iter().map(|f| u64::from(f.retry_ms) + PHASES * u64::from(f.patience_ms)).max();
        let now = Instant::now();
        Ok(Self {
            plan,
            pool: Pool::new(plan)?,
            started: now,
            cpu_started: thread_cpu(),
            told_ms: 0,
            waited: Duration::ZERO,
            lag: Lag::new(),
            looked: now,
            series: Vec::new(),
            offer_until_us,
            over_us: offer_until_us + patience.unwrap_or(0) * 1_000,
        })
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Friends, timers, new connections, a batch of the crowd; true when all is over.
    fn round(&mut self) -> Result<bool, FloodError> {
        let pool = &mut self.pool;
        pool.now_us = self.started.elapsed().as_micros() as u64;
        pool.poll_friends()?;
        let now = Instant::now();
        self.lag.add((now - self.looked).as_micros() as u64);
        self.looked = now;
        pool.now_us = (now - self.started).as_micros() as u64;
        pool.fire_timers()?;
        let offered_all = pool.offer_due(self.offer_until_us)?;
        let more = pool.dial_crowds() | pool.serve_ready()?;
        let wait_ms = if more { 0 } else { pool.quiet_ms(MAX_WAIT_MS) };
        let before = Instant::now();
        let found = pool.poll_crowds(wait_ms)?;
        let after = Instant::now();
        if wait_ms > 0 {
            self.waited += after - before;
            self.looked = after;
        }
        pool.now_us = (after - self.started).as_micros() as u64;
        pool.handle_crowds(found)?;
        self.close_seconds();
        let now_us = self.pool.now_us;
        let concluded = now_us >= self.offer_until_us && offered_all && self.pool.all_concluded();
        Ok(concluded || now_us >= self.over_us.max(self.offer_until_us))
    }

    fn close_seconds(&mut self) {
        while self.pool.now_us / 1_000_000 > self.series.len() as u64 {
            let second = self.pool.close_second(self.series.len() as u32);
            self.series.push(second);
        }
    }

    fn progress(&self) -> Progress {
        let mut progress = Progress {
            elapsed_ms: self.now_us() / 1_000,
            offer_until_ms: self.offer_until_us / 1_000,
            last_second: self.series.last().cloned(),
            ..Progress::default()
        };
        self.pool.add_to(&mut progress);
        progress
    }

    fn report(mut self, stopped_early: bool) -> Report {
        let elapsed = self.started.elapsed();
        let last = self.pool.close_second(self.series.len() as u32);
        self.series.push(last);
        if !stopped_early {
            self.pool.fail_the_rest();
        }
        let share = |part: Duration| part.as_secs_f64() * 100.0 / elapsed.as_secs_f64().max(1e-9);
        let busy_percent = share(elapsed.saturating_sub(self.waited));
        let cpu_percent = share(thread_cpu().saturating_sub(self.cpu_started));
        let (crowds, friends) = self.pool.reports();
        Report {
            target: Some(self.plan.target),
            seed: self.plan.seed,
            seconds: elapsed.as_secs_f64(),
            stopped_early,
            crowds,
            friends,
            series: self.series,
            generator: GeneratorReport {
                busy_percent,
                cpu_percent,
                lag_p99_ms: self.lag.p99_ms(),
                lag_max_ms: self.lag.max_ms(),
                limited: busy_percent > BUSY_PERCENT_MAX,
            },
        }
    }
}

/// Descriptors for the whole plan, raised to what the system allows without asking anybody.
fn raise_descriptor_limit(plan: &Plan) -> Result<(), FloodError> {
    let members: u64 = plan.crowds.iter().map(|crowd| u64::from(crowd.size)).sum();
    // A friend's message holds a descriptor for its patience at the worst.
    let friends: f64 = plan.friends.iter().map(|f| f.rate * f64::from(f.patience_ms.min(10_000)) / 1_000.0 + 1.0).sum();
    let wanted = members + friends as u64 + u64::from(DESCRIPTORS_RESERVED);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        // May be refused; then the check below says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < wanted => Err(FloodError::Descriptors { wanted, limit }),
        _ => Ok(()),
    }
}

/// A flood against nothing would look like a perfect defence.
fn answers(target: SocketAddr) -> Result<(), FloodError> {
    TcpStream::connect_timeout(&target, Duration::from_secs(5))
        .map(drop)
        .map_err(|error| FloodError::Unreachable(target, error.to_string()))
}

pub(crate) fn pin(core: usize) -> Result<(), FloodError> {
    if core >= CpuSet::MAX_CPU {
        return Err(FloodError::Plan(format!("there is no core {core}")));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| FloodError::System(format!("core {core}"), error.into()))
}

pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Ten times a second: smooth for eyes, nothing for the CPU.
const PROGRESS_MS: u64 = 100;

/// Longest wait of the loop: progress is told and Ctrl-C heard in time.
const MAX_WAIT_MS: u64 = 50;

/// Phases of an attempt that each have the friend's patience: greeting, EHLO, MAIL, RCPT, DATA, final dot.
const PHASES: u64 = 6;

#[cfg(test)]
mod tests;
