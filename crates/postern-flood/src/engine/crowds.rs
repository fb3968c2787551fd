//! A hostile crowd at work: who is away, who comes when, from which address.

use std::collections::VecDeque;

use crate::plan::{Behaviour, Crowd};
use crate::report::CrowdReport;
use crate::stats::{CrowdTally, count};

use super::conn::{Conn, Owner};
use super::dialog::Role;
use super::letter::Paper;
use super::pool::{End, Pool, Timer};

/// One crowd of the plan.
pub(super) struct CrowdRun {
    pub(super) crowd: Crowd,
    pub(super) tally: CrowdTally,
    pub(super) paper: Paper,
    /// Members that may come now.
    pub(super) waiting: VecDeque<u32>,
    /// When the rate lets the next one come, µs.
    next_us: u64,
    prefix: String,
    key: u64,
}

impl CrowdRun {
    pub(super) fn new(crowd: &Crowd, number: u16, seed: u64) -> Self {
        let name = crowd.behaviour.as_str();
        let total = CrowdReport {
            name: crowd.name.clone(),
            behaviour: name.to_owned(),
            size: crowd.size,
            ..CrowdReport::default()
        };
        let sender = format!("{name}@bots.example");
        // Bots of one crowd share their words; what tells them apart is their address.
        let paper =
            Paper::new("bot.example", &sender, &crowd.recipient, "Buy now", crowd.bytes, seed ^ u64::from(number));
        Self {
            crowd: crowd.clone(),
            tally: CrowdTally { total, ..CrowdTally::default() },
            paper,
            waiting: (0..crowd.size).collect(),
            next_us: 0,
            prefix: format!("{seed:x}-c{number}-"),
            key: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8,
        }
    }

    /// Of the message that attempt number `serial` carries.
    pub(super) fn id(&self, serial: u64) -> String {
        // Only those that send messages need one: an idle crowd allocates nothing.
        match self.crowd.behaviour {
            Behaviour::Spam | Behaviour::Early | Behaviour::Backscatter | Behaviour::Hurried => {
                format!("{}{serial:x}", self.prefix)
            }
            _ => String::new(),
        }
    }

    /// When the next member may come; `None`: when one comes back.
    pub(super) fn next_dial_us(&self, connects_left: u64) -> Option<u64> {
        (!self.waiting.is_empty() && connects_left > 0).then_some(self.next_us)
    }
}

impl Pool<'_> {
    /// Lets members come, a few a round; true when more could come at once.
    pub(super) fn dial_crowds(&mut self) -> bool {
        // In turns, so that a crowd without a rate does not keep the others away.
        let count = self.crowds.len();
        let mut refused_in_a_row = 0;
        let mut dialled = 0;
        while dialled < DIALS_A_ROUND && refused_in_a_row < count {
            self.turn = (self.turn + 1) % count;
            if self.dial_member(self.turn) {
                (dialled, refused_in_a_row) = (dialled + 1, 0);
            } else {
                refused_in_a_row += 1;
            }
        }
        let due = |crowd: &CrowdRun| crowd.next_dial_us(self.connects_left).is_some_and(|due| due <= self.now_us);
        self.crowds.iter().any(due)
    }

    fn dial_member(&mut self, number: usize) -> bool {
        let run = &mut self.crowds[number];
        if self.connects_left == 0 || run.next_us > self.now_us {
            return false;
        }
        let Some(member) = run.waiting.pop_front() else { return false };
        if run.crowd.rate > 0 {
            // Behind by more than a tenth of a second, the rest is not made up for: no bursts beyond the rate.
            run.next_us = run.next_us.max(self.now_us.saturating_sub(100_000)) + 1_000_000 / u64::from(run.crowd.rate);
        }
        self.connects_left -= 1;
        run.tally.opened();
        let serial = run.tally.total.attempts;
        let host = if run.crowd.fresh { serial } else { u64::from(member) };
        let from = run.crowd.from.host(host, run.key);
        let owner = Owner::Member { crowd: number as u16, member };
        let (role, rtt_ms) = (Role::Hostile(run.crowd.behaviour), run.crowd.rtt_ms);
        if let Err(cause) = self.dial(owner, role, from, rtt_ms, self.now_us, serial) {
            let run = &mut self.crowds[number];
            count(&mut run.tally.total.connect_errors, &cause);
            run.tally.open -= 1;
            // Out of descriptors or ports: a short rest instead of a busy loop.
            let due = self.now_us / 1_000 + REST_MS;
            self.wheel.set(due, Timer::Return { crowd: number as u16, member });
            return false;
        }
        true
    }

    /// Counts how it ended; the member comes back at once, or after its pause.
    pub(super) fn member_ended(&mut self, crowd: u16, member: u32, conn: &Conn, end: End) {
        let now_ms = self.now_ms();
        let run = &mut self.crowds[usize::from(crowd)];
        run.tally.open -= 1;
        run.tally.total.bytes_sent += conn.sent;
        match end {
            // A close behind the goodbye is no eviction.
            End::Gone if !conn.dialog.is_leaving() => run.tally.evicted(),
            End::TimedOut => run.tally.total.timeouts += 1,
            End::Gone | End::Done => {}
        }
        match run.crowd.pause_ms {
            0 => run.waiting.push_back(member),
            pause => self.wheel.set(now_ms + u64::from(pause), Timer::Return { crowd, member }),
        }
    }
}

/// A connect costs about 20 µs on loopback, the server's share of the handshake included: 0.3 ms at most between two
/// looks at the friends.
const DIALS_A_ROUND: usize = 16;

/// After a connect that failed here.
const REST_MS: u64 = 100;
