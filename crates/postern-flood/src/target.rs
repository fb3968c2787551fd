//! Whom a flood may be let loose on: this machine alone.
//!
//! An address is allowed when it is loopback, or when the network namespace we are in has no way out: every interface
//! that is up, loopback aside, is a veth or a dummy, so what answers is ours. (Interfaces that are down lead nowhere: a
//! fresh namespace has a few, the fallback tunnels of loaded modules.) Asked of the kernel by netlink (RTM_GETLINK), because
//! interface names prove nothing and /sys shows the namespace it was mounted in, not the one we are in.

use std::io;
use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::plan::FloodError;

/// Refuses any address behind which somebody else could be.
///
/// # Errors
/// [`FloodError::Foreign`] says why and what would be allowed.
pub fn check(address: IpAddr) -> Result<(), FloodError> {
    if address.is_loopback() {
        return Ok(());
    }
    let links = links().map_err(|error| FloodError::System("the interfaces of this namespace".into(), error))?;
    decide(address, &links).map_err(FloodError::Foreign)
}

/// An interface: its name and the kernel's word for its kind (`veth`, `dummy`); hardware has none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    name: String,
    kind: String,
    loopback: bool,
    up: bool,
}

fn decide(address: IpAddr, links: &[Link]) -> Result<(), String> {
    let allowed = "Allowed are 127.0.0.0/8, ::1, and any address from inside a network namespace of your own, whose \
                   interfaces are all veth or dummy (`unshare -n`, `ip netns add`).";
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is not the address of one server. {allowed}"));
    }
    let outside =
        links.iter().find(|link| link.up && !link.loopback && !matches!(link.kind.as_str(), "veth" | "dummy"));
    if let Some(link) = outside {
        let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
        return Err(format!(
            "{address} may be somebody else's: {} ({kind}) leads out of this machine. A flood is for servers of one's own. {allowed}",
            link.name
        ));
    }
    if links.iter().all(|link| link.loopback || !link.up) {
        return Err(format!("{address} cannot be reached: this namespace has loopback only. {allowed}"));
    }
    Ok(())
}

/// All interfaces of the namespace this thread is in.
fn links() -> io::Result<Vec<Link>> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut request = [0_u8; 32];
    request[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut links = Vec::new();
    let mut buffer = vec![0_u8; 65_536];
    // A dump ends with NLMSG_DONE; a namespace of 10,000 interfaces needs fewer datagrams than this.
    for _ in 0..4_096 {
        let (taken, _) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if read_dump(&buffer[..taken], &mut links)? {
            return Ok(links);
        }
    }
    Err(io::Error::other("the kernel's list of interfaces does not end"))
}

/// Adds the links of one datagram; true at the end of the dump.
fn read_dump(mut datagram: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    while datagram.len() >= 16 {
        let length = (u32_at(datagram, 0) as usize).clamp(16, datagram.len());
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::other("the kernel does not list its interfaces")),
            RTM_NEWLINK if length >= 32 => links.push(read_link(&datagram[16..length])),
            _ => {}
        }
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
    Ok(false)
}

/// From struct ifinfomsg on.
fn read_link(message: &[u8]) -> Link {
    let loopback = u16::from_ne_bytes([message[2], message[3]]) == ARPHRD_LOOPBACK;
    let up = u32_at(message, 8) & IFF_UP != 0;
    let mut link = Link { name: String::new(), kind: String::new(), loopback, up };
    for (kind, value) in attributes(&message[16..]) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_LINKINFO => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .map(|(_, v)| text(v))
                    .unwrap_or_default();
            }
            _ => {}
        }
    }
    link
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        if rest.len() < 4 {
            return None;
        }
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).clamp(4, rest.len());
        // The two highest bits say "nested" and "network order".
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        let value = &rest[4..length];
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        Some((kind, value))
    })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_arp.h>.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests;
