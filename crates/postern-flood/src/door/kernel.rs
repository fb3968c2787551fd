//! What the kernel dropped before anybody read it: of one UDP port, and of the machine's backlog.
//!
//! A figure of a flood means little without these: a server that drops nothing because nothing reached it looks the
//! same as one that kept up. Read from /proc of the namespace that this thread is in.

use std::fs;
use std::ops::Sub;

use serde::{Deserialize, Serialize};

/// Counters since the sockets were opened and the machine was started; subtract two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Datagrams that found a full queue of a socket at the port (`drops` of /proc/net/udp and udp6).
    pub socket: u64,
    /// Packets that found a full backlog of a core (`dropped` of /proc/net/softnet_stat).
    pub softnet: u64,
}

impl Drops {
    /// Now, of the sockets at this port; also how many sockets there are.
    pub fn read(port: u16) -> (Self, usize) {
        let table = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        let of_port: Vec<u64> = ["udp", "udp6"].iter().flat_map(|name| socket_drops(&table(name), port)).collect();
        let drops = Self { socket: of_port.iter().sum(), softnet: softnet_drops(&table("softnet_stat")) };
        (drops, of_port.len())
    }
}

impl Sub for Drops {
    type Output = Self;

    /// What came in between. A socket that was closed in between takes its counter with it.
    fn sub(self, before: Self) -> Self {
        Self { socket: self.socket.saturating_sub(before.socket), softnet: self.softnet.saturating_sub(before.softnet) }
    }
}

/// A line is `sl local_address rem_address … drops`; the addresses are hexadecimal, with `:PORT`.
fn socket_drops(table: &str, port: u16) -> Vec<u64> {
    let at_port = format!(":{port:04X}");
    let drops = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.nth(1).filter(|local| local.ends_with(&at_port))?;
        words.next_back()?.parse().ok()
    };
    table.lines().skip(1).filter_map(drops).collect()
}

/// A line a core, columns are hexadecimal; the second is what was dropped.
fn softnet_drops(table: &str) -> u64 {
    table.lines().filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::{Drops, socket_drops, softnet_drops};

    #[test]
    fn drops_are_those_of_the_port_and_of_all_its_sockets() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                     \x20 5: 0100007F:09DE 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 ffff 12\n\
                     \x20 6: 0100007F:09DE 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 ffff 30\n\
                     \x20 7: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 ffff 9\n";
        assert_eq!(socket_drops(table, 2526), [12, 30]);
        assert_eq!(softnet_drops("0000ffff 0000000a 0\n00000001 00000010 0\n"), 26);
    }

    #[test]
    fn a_bound_socket_is_found_by_its_port() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(Drops::read(port).1, 1);
    }
}
