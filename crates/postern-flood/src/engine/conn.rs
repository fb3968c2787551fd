//! One connection of a member or a friend: its socket, what is still to be written, what was read of a reply.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::limits::REPLY_LINE_BYTES_MAX;

use super::dialog::Dialog;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Member { crowd: u16, member: u32 },
    Friend { group: u16, message: u32 },
}

pub(super) struct Conn {
    pub(super) socket: OwnedFd,
    pub(super) owner: Owner,
    pub(super) dialog: Dialog,
    pub(super) connected: bool,
    /// Round trip that is played to it.
    pub(super) rtt_ms: u32,
    /// When the attempt began, µs of the run.
    pub(super) started_us: u64,
    /// What the deadline says at the moment, ms of the run.
    pub(super) deadline_ms: Option<u64>,
    /// When the timer for it fires: one timer a connection, set again when it comes too early.
    pub(super) armed_ms: Option<u64>,
    /// It waits for room, and is told when there is some.
    pub(super) wants_room: bool,
    /// Written so far.
    pub(super) sent: u64,
    /// Number of the message it carries, when it carries any.
    pub(super) serial: u64,
    out: Vec<u8>,
    out_at: usize,
    line: Vec<u8>,
}

/// What a look into the socket found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All there is for now.
    Drained,
    /// The other side is gone.
    Gone,
}

impl Conn {
    pub(super) fn new(socket: OwnedFd, owner: Owner, dialog: Dialog, rtt_ms: u32, started_us: u64) -> Self {
        Self {
            socket,
            owner,
            dialog,
            connected: false,
            rtt_ms,
            started_us,
            deadline_ms: None,
            armed_ms: None,
            wants_room: false,
            sent: 0,
            serial: 0,
            out: Vec::new(),
            out_at: 0,
            line: Vec::new(),
        }
    }

    /// Adds to what is to be written.
    pub(super) fn queue(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Writes what the socket takes; true when nothing is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.out_at < self.out.len() {
            match rustix::net::send(&self.socket, &self.out[self.out_at..], SendFlags::NOSIGNAL) {
                Ok(taken) => {
                    self.out_at += taken;
                    self.sent += taken as u64;
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // An idle bot keeps no buffer: 18,000 of them would keep 18,000.
        self.out = Vec::new();
        self.out_at = 0;
        Ok(true)
    }

    /// Reads what is there; the codes of whole replies are added to `codes`.
    pub(super) fn read(&mut self, scratch: &mut [u8], codes: &mut Vec<u16>) -> Taken {
        loop {
            match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => return Taken::Gone,
                Ok((taken, _)) => {
                    read_replies(&mut self.line, &scratch[..taken], codes);
                    // Edge-triggered: less than was asked for means nothing is left, and a close comes as its own edge.
                    if taken < scratch.len() {
                        return Taken::Drained;
                    }
                }
                Err(Errno::AGAIN) => return Taken::Drained,
                Err(Errno::INTR) => {}
                Err(_) => return Taken::Gone,
            }
        }
    }
}

/// Codes of the replies that are whole, RFC 5321 section 4.2.1: `250-` goes on, `250 ` or `250` ends. A line that is
/// no reply counts as 999: nothing that follows it can be trusted.
pub(super) fn read_replies(partial: &mut Vec<u8>, mut octets: &[u8], codes: &mut Vec<u16>) {
    while let Some(end) = octets.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = octets.split_at(end + 1);
        let line: &[u8] = if partial.is_empty() {
            line
        } else {
            partial.extend_from_slice(line);
            partial
        };
        let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        match (digits, line.get(3)) {
            (Some(_), Some(b'-')) => {}
            (Some(digits), _) => codes.push(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))),
            (None, _) => codes.push(999),
        }
        partial.clear();
        octets = rest;
    }
    if partial.len() + octets.len() <= REPLY_LINE_BYTES_MAX {
        partial.extend_from_slice(octets);
    }
}

#[cfg(test)]
mod tests;
