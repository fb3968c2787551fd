//! HELO, EHLO, STARTTLS and XCLIENT: who the client says it is, and what we say we can do.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use core::net::SocketAddr;

use super::{Session, State, Then, replies};
use crate::command::is_greeting_name;
use crate::envelope::Arrival;
use crate::limits;
use crate::time::Instant;
use crate::xclient::{ATTRIBUTES, Told, Xclient};

/// What XCLIENT told of the client besides its address.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldByXclient {
    /// Its verified name.
    name: Option<String>,
    /// What it called itself to the peer that speaks for it.
    helo: Option<String>,
    /// How it spoke to that peer.
    esmtp: Option<bool>,
}

impl Session {
    pub(super) fn handle_hello(&mut self, name: &str, extended: bool, out: &mut Vec<u8>) -> Option<Then> {
        // EHLO in a transaction is a reset (RFC 5321 section 4.1.4).
        let streamed = self.forget_transaction();
        self.steps += u32::from(self.helo.is_none());
        self.helo = Some(name.into());
        self.esmtp = extended;
        if extended {
            self.write_capabilities(out);
        } else {
            out.extend_from_slice(b"250 ");
            out.extend_from_slice(self.options.hostname.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        self.idle_commands += 1;
        let then = self.close_if(self.idle_commands > limits::IDLE_COMMANDS_MAX, out);
        if streamed { Some(Then::Ask(super::Ask::Abandon)) } else { then }
    }

    /// The EHLO reply, RFC 5321 section 4.1.1.1.
    fn write_capabilities(&self, out: &mut Vec<u8>) {
        let offers = self.options.offers;
        let mut lines: [Option<&str>; 5] = [None; 5];
        lines[0] = offers.eight_bit.then_some("8BITMIME");
        lines[1] = offers.smtputf8.then_some("SMTPUTF8");
        lines[2] = (offers.starttls && self.tls.is_none()).then_some("STARTTLS");
        lines[3] = offers.dsn.then_some("DSN");
        lines[4] = Some("PIPELINING\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES");
        push(out, &["250-", &self.options.hostname, "\r\n"]);
        for line in lines.into_iter().flatten() {
            push(out, &["250-", line, "\r\n"]);
        }
        if self.options.xclient {
            push(out, &["250-XCLIENT ", ATTRIBUTES, "\r\n"]);
        }
        push(out, &["250-LIMITS RCPTMAX=", &self.options.recipients_max.to_string(), "\r\n"]);
        push(out, &["250 SIZE ", &self.options.size_max.to_string(), "\r\n"]);
    }

    pub(super) fn handle_starttls(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Then> {
        if self.tls.is_some() {
            return self.error(&replies::TLS_IS_ON, out);
        }
        if !self.options.offers.starttls {
            return self.error(&replies::NO_STARTTLS, out);
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.streamed) {
            return self.error(&replies::CHUNKS_BEGUN, out);
        }
        self.transaction = None;
        replies::READY_FOR_TLS.write_to(out);
        self.state = State::AwaitTls;
        self.timer.wait(now, limits::TLS_TIMEOUT);
        Some(Then::StartTls)
    }

    /// XCLIENT (Postfix's XCLIENT_README): a configured peer tells whom it speaks for; the
    /// conversation starts again at the greeting.
    pub(super) fn handle_xclient(&mut self, attributes: &[u8], out: &mut Vec<u8>) -> Option<Then> {
        if !self.options.xclient {
            return self.error(&replies::XCLIENT_DENIED, out);
        }
        if self.transaction.is_some() {
            return self.error(&replies::NESTED_MAIL, out);
        }
        let Ok(told) = Xclient::parse(attributes) else {
            return self.error(&replies::BAD_ARGUMENTS, out);
        };
        if let Some(address) = told.addr.and_then(Told::known) {
            let port = told.port.and_then(Told::known).unwrap_or(0);
            self.peer = SocketAddr::new(address, port);
        }
        if let Some(address) = told.dest_addr.and_then(Told::known) {
            let port = told.dest_port.and_then(Told::known).unwrap_or(self.local.port());
            self.local = SocketAddr::new(address, port);
        }
        // What is not mentioned stays as it was told before. The HELO name goes into Received, so
        // it must be one that we would take from the client itself.
        let mut known = self.told.take().unwrap_or_default();
        if let Some(name) = told.name {
            known.name = name.known();
        }
        if let Some(helo) = told.helo {
            known.helo = helo.known().filter(|helo| is_greeting_name(helo));
        }
        known.esmtp = told.esmtp.or(known.esmtp);
        self.told = Some(known);
        self.helo = None;
        self.esmtp = false;
        replies::greeting(&self.options.hostname, out);
        None
    }

    /// The facts of arrival as they go into the message's metadata.
    pub(super) fn arrival(&self) -> Arrival {
        let told = self.told.as_deref();
        let own_helo = || self.helo.as_deref().map(String::from);
        Arrival {
            at_unix_ms: 0,
            peer: self.peer,
            peer_name: told.and_then(|told| told.name.clone()),
            local: self.local,
            by: self.options.hostname.clone(),
            helo: told.and_then(|told| told.helo.clone()).or_else(own_helo).unwrap_or_default(),
            esmtp: told.and_then(|told| told.esmtp).unwrap_or(self.esmtp),
            tls: self.tls.as_deref().cloned(),
            via: self.options.via,
        }
    }
}

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
