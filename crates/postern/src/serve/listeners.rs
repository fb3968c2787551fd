//! Every address is opened here, before privileges are dropped: bound, or handed over by the
//! service manager (LISTEN_FDS; names `smtp` and `relay`, without names the first is smtp).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use postern_net::socket::{BACKLOG, listen};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::config::Config;
use crate::exit::{Code, Failure};

/// Open listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Of the public door; per address as many as there are threads.
    pub(crate) smtp: Vec<TcpListener>,
    /// Of the relay listener.
    pub(crate) relay: Vec<TcpListener>,
}

/// Opens all of them, or none stays open.
///
/// # Errors
/// Which address, why, and what to do about it.
pub(crate) fn open(config: &Config, threads: usize) -> Result<Listeners, Failure> {
    let mut listeners = inherited()?;
    share_among(threads, &mut listeners.smtp)?;
    if listeners.smtp.is_empty() {
        for addr in &config.settings.smtp.listen.0 {
            refuse_occupied(*addr)?;
            // One listener per thread: the kernel then spreads connections over them (SO_REUSEPORT).
            let first = bind(*addr, threads > 1)?;
            let addr = first.local_addr().unwrap_or(*addr);
            listeners.smtp.push(first);
            for _ in 1..threads {
                listeners.smtp.push(bind(addr, true)?);
            }
        }
    }
    if listeners.relay.is_empty() {
        listeners.relay =
            config.settings.relay.listen.iter().map(|addr| bind(*addr, false)).collect::<Result<_, _>>()?;
    }
    Ok(listeners)
}

/// A socket from the service manager cannot be opened again: the threads share its queue.
fn share_among(threads: usize, listeners: &mut Vec<TcpListener>) -> Result<(), Failure> {
    let copies = listeners.iter().flat_map(|listener| (1..threads).map(|_| listener.try_clone()));
    let copies: Vec<TcpListener> =
        copies.collect::<Result<_, _>>().map_err(|error| Failure::io(Code::Os, "inherited socket", &error))?;
    listeners.extend(copies);
    Ok(())
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
    bound.map_err(|error| refused(addr, &error.into()))
}

fn socket(addr: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn bind(addr: SocketAddr, reuse_port: bool) -> Result<TcpListener, Failure> {
    listen(addr, BACKLOG, reuse_port).map_err(|error| refused(addr, &error))
}

fn refused(addr: SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let cure = match error.kind() {
            ErrorKind::AddrInUse => format!("another program listens there: `ss -ltnp sport = :{}` names it", addr.port()),
            ErrorKind::PermissionDenied => {
                "ports under 1024 need CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service+ep`), socket activation, or root with [run_as]".to_owned()
            }
            ErrorKind::AddrNotAvailable => "this machine does not have that address: `ip addr` shows those it has".to_owned(),
            _ => String::new(),
        };
    Failure::io(Code::Unavailable, format!("cannot listen on {addr}"), error).cure(cure)
}

/// What the service manager opened.
fn inherited() -> Result<Listeners, Failure> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut fds = ListenFd::from_env();
    let mut listeners = Listeners::default();
    for index in 0..fds.len() {
        let refused = |error: &std::io::Error| {
            Failure::io(Code::Os, format!("socket {index} from the service manager"), error)
                .cure("the socket unit needs ListenStream= with an address, and FileDescriptorName=smtp or relay")
        };
        let Some(listener) = fds.take_tcp_listener(index).map_err(|error| refused(&error))? else { continue };
        listener.set_nonblocking(true).map_err(|error| refused(&error))?;
        let relay = names.get(index) == Some(&"relay");
        if relay && !listener.local_addr().is_ok_and(|addr| addr.ip().is_loopback()) {
            let what = "the socket unit hands over a relay listener that is not on loopback";
            return Err(
                Failure::new(Code::Config, what).cure("whoever reaches it may send anywhere: use 127.0.0.1 or [::1]")
            );
        }
        if relay { listeners.relay.push(listener) } else { listeners.smtp.push(listener) }
    }
    Ok(listeners)
}

/// The distinct addresses of some listeners.
pub(crate) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
