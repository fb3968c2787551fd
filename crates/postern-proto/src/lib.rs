//! Wire formats of mail, and the SMTP session on both sides, as machines without I/O.
//!
//! Bytes, answers and `now` go in; bytes, questions and the next timeout come out. Nothing here
//! opens a socket, reads a clock, draws a random number or knows tokio: the doors and the drain
//! pump these machines, the simulator and the fuzzers drive the very same code.
//!
//! Entry points: [`session::Session`] (the server side), [`client::Client`] (SMTP and LMTP towards
//! a next hop), [`envelope::Meta`] (what the spool keeps beside a body).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod author;
pub mod checks;
pub mod client;
pub mod command;
pub mod data;
pub mod door;
pub mod envelope;
mod header;
pub mod header_edit;
pub mod judgement;
pub mod limits;
pub mod milter;
pub mod mode;
pub mod proxy;
pub mod received;
pub mod reply;
pub mod session;
pub mod time;
pub mod xclient;
