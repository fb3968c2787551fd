//! The book as bytes, and back. It owns the format: a head of 16 bytes (magic, version), everything in little-endian integers, so that any
//! machine reads it, and a checksum of 8 bytes. It does no I/O; the trust task writes it aside, syncs, renames.
//!
//! The bytes hold the book's secret key (fingerprints are worthless without it), so the file is for the owner only. Pins are not in
//! it: they belong to the configuration. Time in it is the book's clock beside the wall clock of the last write: after a
//! restart the book ages by what has passed since, see `book::clock`. The checksum finds damage, not malice; still no bytes
//! whatever make [`Book::restore`] panic or take more memory than the options say.

use core::hash::Hasher;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ipnet::IpNet;
use siphasher::sip::SipHasher24;

use crate::book::clock::{Clock, day};
use crate::book::roster::{Pins, Provider, Roster};
use crate::book::{Book, BookOptions, Hot, Promotions};
use crate::limits::{PROVIDER_NETWORKS_EACH, PROVIDER_NETWORKS_MAX, PROVIDERS_MAX};
use crate::sketch::Source;
use crate::sketch::marks::Marks;

const MAGIC: [u8; 8] = *b"PSTNBOOK";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 16;
/// Written at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Why bytes are no book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It does not begin as a snapshot does.
    #[error("this is no snapshot of a trust book")]
    NotASnapshot,
    /// Written by a program with another format.
    #[error("the snapshot of the trust book has format {found}, this program reads {expected}")]
    Version {
        /// What the bytes say.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// The length or the checksum does not match, or what is inside cannot be.
    #[error("the snapshot of the trust book is damaged: {0}")]
    Damaged(&'static str),
}

impl Book {
    /// Everything as bytes, see [`Self::write_snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing into memory does not fail.
        let _ = self.write_snapshot(&mut bytes);
        bytes
    }

    /// Everything as bytes, in pieces of some kilobytes: at most the tables' size and a quarter of a megabyte, less when there
    /// is little in them. To be called by whoever holds the [`crate::Writer`], between two batches; at another time single
    /// records may be of before or after.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        to.write_all(&head)?;
        let mut out = Output { to, piece: Vec::with_capacity(PIECE_BYTES), sum: checksum() };
        out.put(&self.keys.secret())?;
        out.put(&self.clock.both().to_le_bytes())?;
        self.put_desk(&mut out)?;
        self.put_providers(&mut out)?;
        for (print, state) in self.credits.dump() {
            out.put(&print.to_le_bytes())?;
            out.put(&state.to_le_bytes())?;
        }
        // No fingerprint is zero: the end of the credits.
        out.put(&0_u64.to_le_bytes())?;
        for table in [&self.marks, &self.prefixes, &self.links] {
            put_marks(&mut out, table)?;
        }
        out.finish()
    }

    /// A book from bytes. Tables of another size than the options say are taken over as far as possible: good senders always,
    /// bad ones only when the size is the same.
    ///
    /// # Errors
    /// When the bytes are no snapshot, of another version, or damaged. An empty book is then better than none.
    pub fn restore(options: BookOptions, bytes: &[u8]) -> Result<Arc<Self>, SnapshotError> {
        let mut input = Input(bytes);
        if bytes.len() < HEAD_BYTES || input.array()? != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let (found, _reserved) = (input.u32()?, input.u32()?);
        if found != VERSION {
            return Err(SnapshotError::Version { found, expected: VERSION });
        }
        let Some((payload, sum)) = input.0.split_last_chunk::<8>() else {
            return Err(SnapshotError::Damaged("it ends too early"));
        };
        let mut expected = checksum();
        expected.write(payload);
        if u64::from_le_bytes(*sum) != expected.finish() {
            return Err(SnapshotError::Damaged("its checksum does not match"));
        }
        Self::restore_payload(options, payload)
    }

    /// What stands before the checksum. Apart, so that tests reach it with any bytes.
    pub(crate) fn restore_payload(options: BookOptions, payload: &[u8]) -> Result<Arc<Self>, SnapshotError> {
        let mut input = Input(payload);
        let key = input.array()?;
        let clock = Clock::resumed(input.u64()?);
        let today = day(clock.both() >> 32);
        let book = Self::with_clock(options, key, clock);
        book.take_desk(&mut input)?;
        book.take_providers(&mut input)?;
        loop {
            let print = input.u64()?;
            if print == 0 {
                break;
            }
            book.credits.load(print, input.u64()?, today);
        }
        for table in [&book.marks, &book.prefixes, &book.links] {
            take_marks(&mut input, table)?;
        }
        if !input.0.is_empty() {
            return Err(SnapshotError::Damaged("something follows its end"));
        }
        Ok(Arc::new(book))
    }

    fn put_desk(&self, out: &mut Output<'_>) -> io::Result<()> {
        let desk = self.desk();
        let (promotions, hot) = (desk.promotions.clone(), desk.hot.by_heat());
        drop(desk);
        out.put(&promotions.day.to_le_bytes())?;
        out.put_count(promotions.prefixes.len())?;
        for prefix in promotions.prefixes {
            out.put(&prefix.to_le_bytes())?;
        }
        out.put_count(hot.len())?;
        for Hot { source, heat } in hot {
            out.put(&source.0.to_le_bytes())?;
            out.put(&heat.to_le_bytes())?;
        }
        Ok(())
    }

    fn take_desk(&self, input: &mut Input<'_>) -> Result<(), SnapshotError> {
        let mut desk = self.desk();
        let day = input.u16()?;
        desk.promotions = Promotions { day, prefixes: core::mem::take(&mut desk.promotions.prefixes) };
        for at in 0..input.u32()? {
            let prefix = input.u64()?;
            // A cap that was lowered since is full, not overfull.
            if at < self.options.promotions_a_day {
                desk.promotions.prefixes.push(prefix);
            }
        }
        for at in 0..input.u32()? {
            let (source, heat) = (Source(u128::from_le_bytes(input.array()?)), input.u32()?);
            if (at as usize) < self.options.hot_entries {
                desk.hot.warm(Source::of(source.address()), heat);
            }
        }
        Ok(())
    }

    fn put_providers(&self, out: &mut Output<'_>) -> io::Result<()> {
        let roster = self.roster.load();
        out.put_count(roster.providers().len())?;
        for (provider, mail) in roster.providers().iter().zip(&self.provider_mail) {
            out.put(&mail.load(Relaxed).to_le_bytes())?;
            out.put(&[u8::from(provider.declared)])?;
            out.put_count(provider.domain.len())?;
            out.put(provider.domain.as_bytes())?;
            out.put_count(provider.networks.len())?;
            for net in &provider.networks {
                out.put(&Source::whole(net.network()).to_le_bytes())?;
                out.put(&[net.prefix_len()])?;
            }
        }
        Ok(())
    }

    fn take_providers(&self, input: &mut Input<'_>) -> Result<(), SnapshotError> {
        let count = input.u32()? as usize;
        if count > PROVIDERS_MAX {
            return Err(SnapshotError::Damaged("it names more providers than there can be"));
        }
        let (mut providers, mut networks_left) = (Vec::new(), PROVIDER_NETWORKS_MAX);
        for mail in &self.provider_mail[..count] {
            mail.store(input.u64()?, Relaxed);
            let declared = input.u8()? != 0;
            let length = input.u32()? as usize;
            let domain = core::str::from_utf8(input.bytes(length)?)
                .map_err(|_| SnapshotError::Damaged("a provider's name is no text"))?
                .to_owned();
            let length = input.u32()? as usize;
            if length > PROVIDER_NETWORKS_EACH.min(networks_left) {
                return Err(SnapshotError::Damaged("a provider has more networks than it can"));
            }
            networks_left -= length;
            let networks = (0..length).map(|_| input.network()).collect::<Result<_, _>>()?;
            providers.push(Provider { domain, networks, declared });
        }
        let roster = Roster::new(Pins::default(), providers, self.options.well_known_providers);
        self.roster.store(Arc::new(roster));
        Ok(())
    }
}

/// The number of buckets; for each a byte that says which of its eight entries are there, and those.
fn put_marks(out: &mut Output<'_>, table: &Marks) -> io::Result<()> {
    out.put_count(table.dump().len())?;
    for ways in table.dump() {
        let there = ways.iter().enumerate().fold(0, |there, (way, bits)| there | u8::from(*bits != 0) << way);
        out.put(&[there])?;
        for bits in ways.iter().filter(|bits| **bits != 0) {
            out.put(&bits.to_le_bytes())?;
        }
    }
    Ok(())
}

fn take_marks(input: &mut Input<'_>, table: &Marks) -> Result<(), SnapshotError> {
    let count = input.u32()? as usize;
    let same = count == table.dump().len();
    for index in 0..count {
        let there = input.u8()?;
        let mut ways = [0; 8];
        for (way, bits) in ways.iter_mut().enumerate() {
            if there >> way & 1 == 1 {
                *bits = input.u64()?;
            }
        }
        if same {
            table.load(index, ways);
        }
    }
    Ok(())
}

/// SipHash with a fixed key: a checksum here, no secret.
fn checksum() -> SipHasher24 {
    SipHasher24::new_with_key(&[0x50; 16])
}

/// Gathers small pieces, so that neither the receiver nor the checksum is called for each integer.
struct Output<'a> {
    to: &'a mut dyn Write,
    piece: Vec<u8>,
    sum: SipHasher24,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            self.flush()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    fn put_count(&mut self, count: usize) -> io::Result<()> {
        self.put(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sum.write(&self.piece);
        self.to.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        let sum = self.sum.finish();
        self.to.write_all(&sum.to_le_bytes())
    }
}

/// Bytes still to be read. Every reading says when they end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SnapshotError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, SnapshotError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, SnapshotError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        self.array().map(u64::from_le_bytes)
    }

    fn network(&mut self) -> Result<IpNet, SnapshotError> {
        let ip: IpAddr = Source(u128::from_le_bytes(self.array()?)).address();
        IpNet::new(ip, self.u8()?)
            .map(|net| net.trunc())
            .map_err(|_| SnapshotError::Damaged("a provider's network is none"))
    }
}

#[cfg(test)]
mod tests;
