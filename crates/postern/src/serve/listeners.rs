//! Every address is opened here, before privileges are dropped: bound, or handed over by the
//! service manager (LISTEN_FDS; names `smtp` and `relay`, without names the first is smtp).
//!
//! The public door gets two listeners for each thread where the kernel can steer: all those for
//! strangers first, then those for the known, in the order that `postern_net::steering` asks for.
//! All listen before any is accepted from. A restart makes a new group: the old process's sockets,
//! and with them its program, are gone before the address can be taken again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use postern_doors::gate::DoorSockets;
use postern_net::socket::{BACKLOG, listen};
use postern_net::steering::Steering;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::config::Config;
use crate::config::values::SteeringSetting;
use crate::exit::{Code, Failure};

/// Open listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Of the public door.
    pub(crate) smtp: Vec<Group>,
    /// Of the relay listener.
    pub(crate) relay: Vec<Group>,
    /// Of the postern.
    pub(crate) door: Option<DoorSockets>,
}

/// The listeners of one address.
#[derive(Debug)]
pub(crate) struct Group {
    /// Where they listen.
    pub(crate) addr: SocketAddr,
    /// For each thread the queue of strangers and, where they are steered, that of the known.
    pub(crate) threads: Vec<(TcpListener, Option<TcpListener>)>,
    /// What steers them, or why nothing does.
    pub(crate) steering: Result<Steering, String>,
}

/// Opens all of them, or none stays open.
///
/// # Errors
/// Which address, why, and what to do about it.
pub(crate) fn open(config: &Config, threads: usize) -> Result<Listeners, Failure> {
    let mut listeners = inherited(threads)?;
    if let Some(addr) = config.door {
        let sockets = DoorSockets::open(addr, config.settings.door.node);
        let sockets = sockets.map_err(|error| refused(addr, "UDP", &error))?;
        listeners.door = Some(sockets);
    }
    if listeners.smtp.is_empty() {
        let steer = config.settings.auto.steering == SteeringSetting::Auto;
        let groups = config.settings.smtp.listen.0.iter().map(|addr| Group::open(*addr, threads, steer));
        listeners.smtp = groups.collect::<Result<_, _>>()?;
    }
    if listeners.relay.is_empty()
        && let Some(addr) = config.settings.relay.listen
    {
        let why = "the relay listener is for this machine's own mail".to_owned();
        listeners.relay.push(Group::plain(addr, vec![bind(addr, false)?], why));
    }
    Ok(listeners)
}

impl Group {
    pub(super) fn open(addr: SocketAddr, threads: usize, steer: bool) -> Result<Self, Failure> {
        refuse_occupied(addr)?;
        // One listener per thread: the kernel then spreads connections over them (SO_REUSEPORT).
        let why_not = if steer {
            match Self::steered(bind_all(addr, 2 * threads, true)?) {
                Ok(group) => return Ok(group),
                Err(why) => why,
            }
        } else {
            "auto.steering is off".to_owned()
        };
        Ok(Self::plain(addr, bind_all(addr, threads, threads > 1)?, why_not))
    }

    /// Without known networks for now, so that nobody lands among the known by chance. Should the
    /// kernel not take even that, the listeners are closed: in a group that is not steered the
    /// queues of the known would get half of all strangers.
    fn steered(mut listeners: Vec<TcpListener>) -> Result<Self, String> {
        let known = listeners.split_off(listeners.len() / 2);
        let cores = u16::try_from(known.len()).map_err(|error| error.to_string())?;
        let addr = listeners[0].local_addr().map_err(|error| error.to_string())?;
        let mut steering = Steering::new(&listeners[0], cores).map_err(|error| error.to_string())?;
        steering.attach(&[]).map_err(|error| error.to_string())?;
        let threads = listeners.into_iter().zip(known.into_iter().map(Some)).collect();
        Ok(Self { addr, threads, steering: Ok(steering) })
    }

    fn plain(asked_for: SocketAddr, listeners: Vec<TcpListener>, why: String) -> Self {
        let addr = listeners.first().and_then(|one| one.local_addr().ok()).unwrap_or(asked_for);
        Self { addr, threads: listeners.into_iter().map(|one| (one, None)).collect(), steering: Err(why) }
    }
}

/// All of them at one address; with port 0 the first finds one for all.
fn bind_all(addr: SocketAddr, count: usize, reuse_port: bool) -> Result<Vec<TcpListener>, Failure> {
    let first = bind(addr, reuse_port)?;
    let addr = first.local_addr().unwrap_or(addr);
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(bind(addr, reuse_port)?);
    }
    Ok(listeners)
}

/// With `SO_REUSEPORT` a second server of the same user would get the address too, and half of the
/// mail with it: so it is first taken without. Not listened on, so that no client is cut off when
/// it is given back.
fn refuse_occupied(addr: SocketAddr) -> Result<(), Failure> {
    let bound = socket(addr).and_then(|socket| {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if addr.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &addr)
    });
    bound.map_err(|error| refused(addr, "TCP", &error.into()))
}

fn socket(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn bind(addr: SocketAddr, reuse_port: bool) -> Result<TcpListener, Failure> {
    listen(addr, BACKLOG, reuse_port).map_err(|error| refused(addr, "TCP", &error))
}

fn refused(addr: SocketAddr, transport: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let cure = match error.kind() {
        ErrorKind::AddrInUse => {
            let sockets = if transport == "UDP" { "-lunp" } else { "-ltnp" };
            format!("another program listens there: `ss {sockets} sport = :{}` names it", addr.port())
        }
        ErrorKind::PermissionDenied => {
            "ports under 1024 need CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service+ep`), socket activation, or root with [run_as]".to_owned()
        }
        ErrorKind::AddrNotAvailable => "this machine does not have that address: `ip addr` shows those it has".to_owned(),
        _ => String::new(),
    };
    Failure::io(Code::Unavailable, format!("cannot listen on {addr} ({transport})"), error).cure(cure)
}

/// What the service manager opened. Such a socket cannot be opened again: the threads share its one
/// queue, and there is nothing to steer to.
fn inherited(threads: usize) -> Result<Listeners, Failure> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut fds = ListenFd::from_env();
    let (mut smtp, mut relay) = (BTreeMap::new(), BTreeMap::new());
    for index in 0..fds.len() {
        let refused = |error: &std::io::Error| {
            Failure::io(Code::Os, format!("socket {index} from the service manager"), error)
                .cure("the socket unit needs ListenStream= with an address, and FileDescriptorName=smtp or relay")
        };
        let Some(listener) = fds.take_tcp_listener(index).map_err(|error| refused(&error))? else { continue };
        listener.set_nonblocking(true).map_err(|error| refused(&error))?;
        let addr = listener.local_addr().map_err(|error| refused(&error))?;
        let for_relay = names.get(index) == Some(&"relay");
        if for_relay && !addr.ip().is_loopback() {
            let what = "the socket unit hands over a relay listener that is not on loopback";
            return Err(
                Failure::new(Code::Config, what).cure("whoever reaches it may send anywhere: use 127.0.0.1 or [::1]")
            );
        }
        let (at, copies) = if for_relay { (&mut relay, 0) } else { (&mut smtp, threads.saturating_sub(1)) };
        let at: &mut Vec<TcpListener> = at.entry(addr).or_default();
        for _ in 0..copies {
            at.push(listener.try_clone().map_err(|error| refused(&error))?);
        }
        at.push(listener);
    }
    let groups = |by_address: BTreeMap<SocketAddr, Vec<TcpListener>>| {
        let why = "the service manager opened the socket (LISTEN_FDS): it has one queue";
        by_address.into_iter().map(|(addr, listeners)| Group::plain(addr, listeners, why.to_owned())).collect()
    };
    Ok(Listeners { smtp: groups(smtp), relay: groups(relay), door: None })
}

/// Where they listen.
pub(crate) fn addresses(groups: &[Group]) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = groups.iter().map(|group| group.addr).collect();
    addresses.sort_unstable();
    addresses
}

#[cfg(test)]
mod tests;
