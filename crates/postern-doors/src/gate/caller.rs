//! Who begins a connection: what the desks for tickets and for strangers decide about, and what they say.

use std::net::{IpAddr, SocketAddr};

use postern_proto::door::limits::CID_BYTES;

use super::admissions::AdmittedBy;
use super::answers::Shown;
use super::appointments::{Prefixes, Turn};
use super::now::Now;
use super::seen::By;
use super::sketch::Hash;
use super::verdict::DropReason;

/// An Initial whose connection id is not ours: somebody at the door. Nothing in it is proven.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) dcid: &'a [u8; CID_BYTES],
    pub(super) source: SocketAddr,
    pub(super) now: Now,
}

/// What a desk says to a caller.
#[derive(Clone, Copy)]
pub(super) enum Say {
    /// Another datagram of one who was let in.
    Again,
    /// Come in.
    Enter(AdmittedBy),
    /// Show a cookie, at this turn; the nonce goes into the CHALLENGE, which answers what was shown.
    ComeBack { nonce: [u8; 8], turn: Turn, shown: Shown },
    /// Nothing.
    Nothing(DropReason),
}

impl Caller<'_> {
    pub(super) fn ip(&self) -> IpAddr {
        self.source.ip()
    }

    /// For which connection, and from where, as the tables of used tickets and cookies keep it.
    #[inline]
    pub(super) fn by(&self, hash: &Hash) -> By {
        By { id: hash.of(b'd', self.dcid) as u32, source: address_of(hash, self.source) as u16 }
    }

    pub(super) fn prefixes(&self, hash: &Hash) -> Prefixes {
        Prefixes::of(hash, self.ip().to_canonical())
    }

    /// Who has shown a ticket is to show a cookie, at once. No HELLO asked for it: as the nonce the client finds the first
    /// octets of its own connection id.
    pub(super) fn show_a_cookie(&self) -> Say {
        let nonce = self.dcid.first_chunk().copied().unwrap_or_default();
        Say::ComeBack { nonce, turn: Turn::Now, shown: Shown::Ticket }
    }
}

/// A source, port included, as a table keeps it.
#[inline]
pub(super) fn address_of(hash: &Hash, source: SocketAddr) -> u32 {
    let mut bytes = [0; 18];
    match source.ip() {
        IpAddr::V4(v4) => bytes[..16].copy_from_slice(&v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => bytes[..16].copy_from_slice(&v6.octets()),
    }
    bytes[16..].copy_from_slice(&source.port().to_be_bytes());
    hash.of(b's', &bytes) as u32
}
