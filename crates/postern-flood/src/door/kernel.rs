//! What the kernel drops: packets before any socket, and datagrams that find a socket's queue full.
//!
//! Reads /proc of the namespace that we are in, before and after a run; a program that answers nothing may have been asked
//! nothing. Changes nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use super::report::KernelReport;

/// The counters as they stand.
pub(super) fn read(target: SocketAddr) -> KernelReport {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut report = KernelReport::default();
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let (sockets, drops) = sockets(&text(table), target);
        report.door_sockets += sockets;
        report.door_drops += drops;
    }
    (report.softnet_dropped, report.softnet_squeezed) = softnet(&text("/proc/self/net/softnet_stat"));
    report
}

/// What they grew by.
pub(super) fn grown(before: KernelReport, after: KernelReport) -> KernelReport {
    KernelReport {
        door_sockets: after.door_sockets,
        door_drops: after.door_drops.saturating_sub(before.door_drops),
        softnet_dropped: after.softnet_dropped.saturating_sub(before.softnet_dropped),
        softnet_squeezed: after.softnet_squeezed.saturating_sub(before.softnet_squeezed),
    }
}

/// Sockets that listen at the target (its address or any) and their drops, of a table as /proc/net/udp shows it.
fn sockets(table: &str, target: SocketAddr) -> (u32, u64) {
    let (mut count, mut drops) = (0, 0);
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace();
        let (local, dropped) = (fields.nth(1), fields.last());
        let (Some((address, port)), Some(dropped)) = (local.and_then(|local| local.split_once(':')), dropped) else {
            continue;
        };
        let here = u16::from_str_radix(port, 16) == Ok(target.port())
            && (address.bytes().all(|digit| digit == b'0') || address == hex(target.ip()));
        if here {
            count += 1;
            drops += dropped.parse::<u64>().unwrap_or(0);
        }
    }
    (count, drops)
}

/// An address as the kernel prints it: words of 32 bits in the machine's order.
fn hex(address: IpAddr) -> String {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let word = |word: &[u8]| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    octets.chunks(4).map(word).collect()
}

/// Second and third column of each processor's line, in hexadecimal.
fn softnet(text: &str) -> (u64, u64) {
    let column = |line: &str, n: usize| {
        line.split_whitespace().nth(n).and_then(|field| u64::from_str_radix(field, 16).ok()).unwrap_or(0)
    };
    text.lines().fold((0, 0), |(dropped, squeezed), line| (dropped + column(line, 1), squeezed + column(line, 2)))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_datagram_that_finds_the_queue_full_is_counted_at_its_socket() {
        let door = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&door, 2_304).unwrap();
        let target = door.local_addr().unwrap();
        let before = read(target);
        assert_eq!((before.door_sockets, before.door_drops), (1, 0));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1_200], target).unwrap();
        }
        let mut read_by_the_door = 0;
        door.set_nonblocking(true).unwrap();
        while door.recv(&mut [0; 2_000]).is_ok() {
            read_by_the_door += 1;
        }
        assert_eq!(grown(before, read(target)).door_drops, 100 - read_by_the_door);
        assert!(read_by_the_door < 100);
    }

    #[test]
    fn the_kernels_own_drops_are_in_hexadecimal_in_the_second_column() {
        assert_eq!(softnet("0000a000 0000000a 00000001 0\n00000000 00000010 00000002 0\n"), (26, 3));
    }
}
