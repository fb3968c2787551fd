//! Friends at work: messages that come due whatever the server does, attempts, patience, retries.

use std::net::IpAddr;

use crate::plan::{FloodError, Friends, Plan};
use crate::stats::{FriendsTally, count};

use super::conn::Owner;
use super::dialog::{Note, Role};
use super::letter::Paper;
use super::pool::{End, Pool, Timer};

/// What became of a message so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Accepted,
    Failed,
}

struct Message {
    due_us: u64,
    /// The attempt under way began then.
    started_us: u64,
    attempts: u32,
    state: State,
    /// The last attempt was refused for good.
    refused: bool,
}

/// One group of friends of the plan.
pub(super) struct FriendsRun {
    friends: Friends,
    pub(super) tally: FriendsTally,
    papers: Vec<Paper>,
    messages: Vec<Message>,
    random: fastrand::Rng,
    /// When the next message is due; `None` when the last was offered.
    next_us: Option<u64>,
    prefix: String,
    key: u64,
}

impl FriendsRun {
    pub(super) fn new(friends: &Friends, number: u16, plan: &Plan) -> Self {
        let seed = plan.seed.wrapping_mul(31).wrapping_add(u64::from(number));
        let paper = |n: u32| {
            let domain = &friends.domain;
            Paper::new(
                &format!("mail.{domain}"),
                &format!("f{n}@{domain}"),
                &friends.recipient,
                "Hello",
                friends.bytes,
                seed,
            )
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let first = (random.f64() * 1e6 / friends.rate) as u64;
        Self {
            friends: friends.clone(),
            tally: FriendsTally::new(&friends.name),
            // Senders repeat after this many: their paper is kept, their addresses are computed.
            papers: (0..friends.count.min(PAPERS_MAX)).map(paper).collect(),
            messages: Vec::new(),
            random,
            next_us: Some(plan.friends_after_ms * 1_000 + first),
            prefix: format!("{:x}-f{number}-", plan.seed),
            key: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8,
        }
    }

    pub(super) fn next_due_us(&self) -> Option<u64> {
        self.next_us
    }

    pub(super) fn id(&self, message: u32) -> String {
        format!("{}{message:x}", self.prefix)
    }

    pub(super) fn paper(&self, message: u32) -> &Paper {
        let friend = (message % self.friends.count) as usize;
        &self.papers[friend % self.papers.len()]
    }

    fn host(&self, message: u32) -> IpAddr {
        let n = if self.friends.fresh { message } else { message % self.friends.count };
        self.friends.from.host(u64::from(n), self.key)
    }

    /// The next message when it is due by `now_us`, and when the one after it is.
    fn take_due(&mut self, now_us: u64, until_us: u64) -> Option<u32> {
        let due_us = self.next_us.filter(|due| *due <= now_us)?;
        if due_us >= until_us {
            self.next_us = None;
            return None;
        }
        // Spread evenly between half and one and a half of the mean distance: a steady rate without a beat.
        let distance = (0.5 + self.random.f64()) * 1e6 / self.friends.rate;
        self.next_us = Some(due_us + distance as u64);
        self.tally.offered();
        self.messages.push(Message { due_us, started_us: due_us, attempts: 0, state: State::Pending, refused: false });
        Some((self.messages.len() - 1) as u32)
    }

    pub(super) fn note(&mut self, number: u32, note: Note, started_us: u64, seen_us: u64) {
        let message = &mut self.messages[number as usize];
        match note {
            Note::Greeted => self.tally.greeted(seen_us.saturating_sub(started_us)),
            Note::Accepted if message.state == State::Pending => {
                message.state = State::Accepted;
                self.tally.accepted(seen_us.saturating_sub(message.due_us), self.friends.patience_ms);
            }
            Note::Refused(code) if message.state == State::Pending => {
                message.refused |= (500..=599).contains(&code);
                *self.tally.total.refused.entry(code).or_default() += 1;
            }
            _ => {}
        }
    }

    /// After an attempt without a 250: when to try again, if at all.
    fn retry_at(&mut self, number: u32, now_us: u64) -> Option<u64> {
        let friends = &self.friends;
        let message = &mut self.messages[number as usize];
        if message.state != State::Pending {
            return None;
        }
        let pause_us = 1_000_000 << (message.attempts - 1).min(6);
        if message.refused || now_us + pause_us > message.due_us + u64::from(friends.retry_ms) * 1_000 {
            message.state = State::Failed;
            self.tally.failed();
            return None;
        }
        Some(now_us + pause_us)
    }
}

impl Pool<'_> {
    /// Offers what is due; true when nobody will offer more.
    pub(super) fn offer_due(&mut self, until_us: u64) -> Result<bool, FloodError> {
        for group in 0..self.friends.len() {
            for _ in 0..OFFERS_A_ROUND {
                let Some(message) = self.friends[group].take_due(self.now_us, until_us) else { break };
                self.attempt(group as u16, message, false);
            }
        }
        Ok(self.friends.iter().all(|friends| friends.next_us.is_none_or(|due| due >= until_us)))
    }

    /// Begins an attempt: at once, or when its first packets have travelled.
    pub(super) fn attempt(&mut self, group: u16, number: u32, dial: bool) {
        let now_us = self.now_us;
        let run = &mut self.friends[usize::from(group)];
        let rtt_ms = run.friends.rtt_ms;
        let message = &mut run.messages[number as usize];
        if !dial {
            message.attempts += 1;
            message.started_us = now_us;
            run.tally.total.attempts += 1;
            if rtt_ms > 0 {
                // SYN, SYN and ACK, ACK: the server can greet after one and a half round trips.
                let due = now_us / 1_000 + u64::from(rtt_ms) * 3 / 2;
                return self.wheel.set(due, Timer::Attempt { group, message: number, dial: true });
            }
        }
        let (started_us, from, patience_ms) = (message.started_us, run.host(number), run.friends.patience_ms);
        let owner = Owner::Friend { group, message: number };
        match self.dial(owner, Role::Friend { patience_ms }, from, rtt_ms, started_us, u64::from(number)) {
            Ok(token) => self.expect_connection(token, patience_ms),
            Err(cause) => {
                count(&mut self.friends[usize::from(group)].tally.total.connect_errors, &cause);
                self.try_again(group, number);
            }
        }
    }

    /// An attempt is over.
    pub(super) fn friend_ended(&mut self, group: u16, number: u32, end: End) {
        let run = &mut self.friends[usize::from(group)];
        let message = &run.messages[number as usize];
        if message.state == State::Pending && !message.refused {
            match end {
                End::TimedOut => run.tally.total.timeouts += 1,
                End::Gone => run.tally.total.evicted += 1,
                End::Done => {}
            }
        }
        self.try_again(group, number);
    }

    fn try_again(&mut self, group: u16, number: u32) {
        if let Some(due_us) = self.friends[usize::from(group)].retry_at(number, self.now_us) {
            self.wheel.set(due_us / 1_000, Timer::Attempt { group, message: number, dial: false });
        }
    }

    pub(super) fn all_concluded(&self) -> bool {
        self.friends.iter().all(|friends| friends.tally.concluded() == friends.tally.total.offered)
    }

    /// At the very end: who waits still has failed.
    pub(super) fn fail_the_rest(&mut self) {
        for run in &mut self.friends {
            for message in run.messages.iter_mut().filter(|message| message.state == State::Pending) {
                message.state = State::Failed;
                run.tally.failed();
            }
        }
    }
}

/// Papers of 4 KiB for each friend: 256 senders are many enough to differ and few enough to fit any cache.
const PAPERS_MAX: u32 = 256;

/// Messages of one group between two looks at replies.
const OFFERS_A_ROUND: usize = 32;
