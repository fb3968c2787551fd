//! Steering before `accept()`: a program in the kernel puts the connections of known networks into
//! accept queues of their own, so that they do not wait behind a flood.
//!
//! Owns the program (classic BPF, run by the kernel for each SYN of a `SO_REUSEPORT` group) and the
//! two system calls that install and remove it. Never decides who is known: the caller brings the
//! networks, hottest first. The program's task calls it; the doors only accept from the queues.
//!
//! A group of C cores has 2C listeners, listening in this order: C for strangers, C for the known.
//! The program answers with an index in this order. The kernel moves the last socket of a group
//! into the hole that a closed one leaves, so all of them stay open for the life of the group.
//!
//! What fits: the kernel takes at most [`INSTRUCTIONS_MAX`] instructions. A lone IPv4 network needs
//! two, a lone IPv6 /64 five, and neighbours share; that is 2,000 scattered IPv4 addresses or 800
//! scattered IPv6 networks. What does not fit is left out from the cold end, and waits with the
//! strangers: it loses its head start, never its mail.

mod compile;
#[cfg(test)]
mod interpreter;
mod kernel;
mod program;
mod ranges;
pub mod split;

use std::io;
use std::net::TcpListener;

use ipnet::IpNet;
use rustix::io::Errno;

pub use compile::{Compiled, compile};
pub use program::{INSTRUCTIONS_MAX, Program};

/// The steering of one group of listeners.
///
/// Keeps a descriptor of one of them, since the kernel needs a socket to name the group by. Drop it
/// before the group is to close, else clients go on being queued for nobody.
#[derive(Debug)]
pub struct Steering {
    listener: TcpListener,
    cores: u16,
    /// What the kernel was last seen to take; smaller than [`INSTRUCTIONS_MAX`] where it has less
    /// memory for programs (`net.core.optmem_max` was 20 KiB before Linux 6.7).
    instructions_max: usize,
    attached: Option<Program>,
}

/// What the kernel now holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Networks whose connections get queues of their own.
    pub networks: usize,
    /// Networks, the coldest, for which there was no room.
    pub left_out: usize,
    /// Length of the program.
    pub instructions: usize,
    /// Whether the program was exchanged; false when it was the same already.
    pub replaced: bool,
}

/// Steering is not to be had; the doors work all the same, from plain listeners.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// Not Linux.
    #[error("this system has no steering of accept queues; Linux has")]
    Unsupported,
    /// The kernel does not know the option.
    #[error("this kernel cannot steer TCP accept queues (Linux 4.6 can): {0}")]
    OldKernel(io::Error),
    /// A filter of system calls is in the way.
    #[error("the system forbids it; a filter of system calls (seccomp) may be in the way: {0}")]
    Forbidden(io::Error),
    /// Even the smallest program is too much.
    #[error("the kernel has no memory for the program (net.core.optmem_max): {0}")]
    NoMemory(io::Error),
    /// Anything else; a socket outside a `SO_REUSEPORT` group, for instance.
    #[error("the kernel refused the program: {0}")]
    Refused(io::Error),
}

impl Steering {
    /// For the group that `listener` is in. The group has `cores` listeners for strangers, then as
    /// many for the known.
    ///
    /// # Errors
    /// When the descriptor cannot be doubled.
    pub fn new(listener: &TcpListener, cores: u16) -> io::Result<Self> {
        Ok(Self {
            listener: listener.try_clone()?,
            cores: cores.max(1),
            instructions_max: INSTRUCTIONS_MAX,
            attached: None,
        })
    }

    /// Steers these networks, hottest first, to the queues for the known, and all others to those
    /// for strangers. Replaces the former program in one step: every SYN meets the one or the other.
    ///
    /// # Errors
    /// Why it cannot be; the former program, if there was one, is still in force.
    pub fn attach(&mut self, networks: &[IpNet]) -> Result<Held, SteeringError> {
        loop {
            let Compiled { program, held, left_out } = compile(networks, self.cores, self.instructions_max);
            let now = |replaced| Held { networks: held, left_out, instructions: program.len(), replaced };
            if self.attached.as_ref() == Some(&program) {
                return Ok(now(false));
            }
            match kernel::attach(&self.listener, &program) {
                Ok(()) => {
                    let held = now(true);
                    self.attached = Some(program);
                    return Ok(held);
                }
                Err(SteeringError::NoMemory(_)) if self.instructions_max > SMALLEST => self.instructions_max /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Back to the kernel's own way: each listener of the group, of either kind, gets its share of
    /// all connections.
    ///
    /// # Errors
    /// The kernel's: it cannot (before Linux 5.3). The program is then still in force.
    pub fn detach(&mut self) -> Result<(), SteeringError> {
        if self.attached.is_some() {
            kernel::detach(&self.listener)?;
            self.attached = None;
        }
        Ok(())
    }
}

/// The kernel's answer, sorted by what can be done about it.
fn sorted(error: io::Error) -> SteeringError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOPROTOOPT | Errno::OPNOTSUPP) => SteeringError::OldKernel(error),
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => SteeringError::Forbidden(error),
        Some(Errno::NOMEM | Errno::NOBUFS) => SteeringError::NoMemory(error),
        _ => SteeringError::Refused(error),
    }
}

/// A kernel that has no memory for so few instructions steers nobody.
const SMALLEST: usize = 256;

#[cfg(test)]
mod tests;
