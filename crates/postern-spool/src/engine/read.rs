//! Reading items back: metadata and body come from the log or a body file through the background queue, so that a cold
//! page never holds up a commit. Checks what it reads; an item that cannot be read is held and counted, never given out.

use bytes::Bytes;

use crate::disk::{DiskError, DiskOpKind, PartData, ReadPart};
use crate::index::{Entry, Place};
use crate::item::{BodySource, Item, ItemId, Lease};
use crate::record::{Payload, PutBody, read_record};
use crate::request::Reply;

use super::{Engine, State, Tentative, TentativeBody, Waiting};

/// A read under way.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) purpose: Purpose,
    pub(super) items: Vec<ReadItem>,
}

#[derive(Debug)]
pub(super) enum Purpose {
    Lease { token: u64, until_unix_ms: u64 },
    Show { token: u64 },
    Copy,
}

#[derive(Debug)]
pub(super) struct ReadItem {
    pub(super) id: ItemId,
    pub(super) turn: u32,
    pub(super) source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    Memory { meta: Vec<u8>, body: Bytes },
    File { meta: Vec<u8>, len: u64 },
    Log { put: Place, part: u32, meta: Place, body_file: u64, body_len: u64 },
}

impl Source {
    pub(super) fn of_entry(entry: &Entry) -> Self {
        let &Entry { put, part, meta, body_file, body_len, .. } = entry;
        Self::Log { put, part, meta, body_file, body_len }
    }

    pub(super) fn of_tentative(item: &Tentative) -> Self {
        let meta = item.meta.clone();
        match &item.body {
            TentativeBody::Inline(body) => Self::Memory { meta, body: body.clone() },
            &TentativeBody::File { len, .. } => Self::File { meta, len },
        }
    }
}

impl Engine {
    /// Begins a read; it ends in `read_done`, at once when everything is in memory.
    pub(super) fn read(&mut self, reading: Reading) {
        let mut parts = Vec::new();
        let files = reading.purpose.wants_files();
        for item in &reading.items {
            match item.source {
                Source::Memory { .. } => {}
                Source::File { .. } => parts.push(ReadPart::Body { body: item.id }),
                Source::Log { put, meta, body_file, .. } => {
                    self.segments.get_mut(put.slot).pins += 1;
                    self.segments.get_mut(meta.slot).pins += 1;
                    if body_file == 0 || meta == put {
                        parts.push(self.part_of(put));
                    }
                    if meta != put {
                        parts.push(self.part_of(meta));
                    }
                    if body_file != 0 && files {
                        parts.push(ReadPart::Body { body: ItemId(body_file) });
                    }
                }
            }
        }
        if parts.is_empty() {
            self.read_done(reading, Vec::new());
        } else {
            self.submit(DiskOpKind::Read(parts), Waiting::Read(reading));
        }
    }

    fn part_of(&self, place: Place) -> ReadPart {
        ReadPart::Log { segment: self.segments.get(place.slot).no, offset: place.offset.into(), len: place.len }
    }

    pub(super) fn read_done(&mut self, reading: Reading, parts: Vec<Result<PartData, DiskError>>) {
        let mut parts = parts.into_iter();
        let mut leases = Vec::new();
        let mut copied = false;
        let Reading { purpose, items } = reading;
        let files = purpose.wants_files();
        for item in items {
            let ReadItem { id, turn, source } = item;
            let place = if let Source::Log { put, meta, .. } = source { Some((put, meta)) } else { None };
            let content = self.content(source, files, &mut parts);
            if let Some((put, meta)) = place {
                self.segments.get_mut(put.slot).pins -= 1;
                self.segments.get_mut(meta.slot).pins -= 1;
            }
            let (meta, body) = match content {
                Ok(content) => content,
                Err(unread) => {
                    let pause = match unread {
                        Unread::NotNow => READ_RETRY_MS,
                        Unread::Damaged(reason) => {
                            self.damaged(id, &reason);
                            0
                        }
                    };
                    if let Purpose::Lease { until_unix_ms, .. } = purpose {
                        self.take_back(id, turn, until_unix_ms, pause);
                    }
                    continue;
                }
            };
            match purpose {
                Purpose::Lease { until_unix_ms, .. } => {
                    leases.extend(self.granted(id, turn, until_unix_ms, meta, body));
                }
                Purpose::Copy => copied |= place.is_some_and(|from| self.copy(id, from, &meta, &body)),
                Purpose::Show { token } => {
                    let shown = self.summary(id).map(|summary| Box::new(Item { summary, meta, body }));
                    self.reply(token, Reply::Shown(shown));
                    return self.release_segments();
                }
            }
        }
        match purpose {
            Purpose::Lease { token, .. } => self.reply(token, Reply::Leased(leases)),
            Purpose::Show { token } => self.reply(token, Reply::Shown(None)),
            Purpose::Copy => self.copy_read(copied),
        }
        // A pinned segment may have become free meanwhile.
        self.release_segments();
    }

    /// Metadata and body of one item from the parts read for it; without `files` the body of a file is left out.
    fn content(
        &self,
        source: Source,
        files: bool,
        parts: &mut impl Iterator<Item = Result<PartData, DiskError>>,
    ) -> Result<(Vec<u8>, BodySource), Unread> {
        let mut next = || parts.next().unwrap_or(Err(DiskError::Failed("not read".into()))).map_err(Unread::from);
        let (put, part, meta, body_file, body_len) = match source {
            Source::Memory { meta, body } => return Ok((meta, BodySource::Inline(body))),
            Source::File { meta, len } => return Ok((meta, body_source(next()?, len)?)),
            Source::Log { put, part, meta, body_file, body_len } => (put, part, meta, body_file, body_len),
        };
        // All parts of the item are taken first, so that an error in one does not shift those of the next item.
        let put_bytes = (body_file == 0 || meta == put).then(&mut next);
        let meta_bytes = (meta != put).then(&mut next);
        let file = (body_file != 0 && files).then(&mut next);
        if [&put_bytes, &meta_bytes, &file].into_iter().any(|part| matches!(part, Some(Err(Unread::NotNow)))) {
            return Err(Unread::NotNow);
        }
        let put_bytes = put_bytes.transpose()?;
        let (mut meta_found, mut body) = (None, None);
        if let Some(PartData::Bytes(bytes)) = &put_bytes {
            let (put_meta, put_body) =
                self.read_put(bytes, put, part).ok_or("its record does not hold its checksum")?;
            (meta_found, body) = (Some(put_meta), put_body);
        }
        if let Some(PartData::Bytes(bytes)) = meta_bytes.transpose()? {
            let life = self.segments.get(meta.slot).life;
            meta_found = match read_record(&bytes, life, meta.offset.into()) {
                Some(Payload::Update { meta: Some(meta), .. }) => Some(meta.to_vec()),
                _ => return Err("its metadata does not hold its checksum".into()),
            };
        }
        let body = match (file, body) {
            (Some(file), _) => body_source(file?, body_len)?,
            (None, Some(body)) => BodySource::Inline(body),
            (None, None) if body_file != 0 => BodySource::Inline(Bytes::new()),
            (None, None) => return Err("its record holds no body".into()),
        };
        Ok((meta_found.ok_or("its metadata was not read")?, body))
    }

    fn read_put(&self, bytes: &Bytes, place: Place, part: u32) -> Option<(Vec<u8>, Option<Bytes>)> {
        let life = self.segments.get(place.slot).life;
        let put = match read_record(bytes, life, place.offset.into())? {
            Payload::Put(put) => put,
            Payload::Finish { children, .. } => children.into_iter().find(|child| child.0 == part as usize)?.1,
            Payload::Update { .. } => return None,
        };
        let body = match put.body {
            PutBody::Inline(body) | PutBody::Shared(body) => Some(bytes.slice_ref(body)),
            PutBody::File { .. } => None,
        };
        Some((put.meta.to_vec(), body))
    }

    /// The lease, if the item is still there and nobody else got it while it was read: what was read may be out of date.
    fn granted(&self, id: ItemId, turn: u32, until: u64, meta: Vec<u8>, body: BodySource) -> Option<Lease> {
        let (lane, tentative, last) = if let Some(item) = self.tentative.get(&id.0) {
            (item.lane, !matches!(item.state, State::Committing), item.turn)
        } else {
            let entry = self.index.get(id)?;
            (entry.lane, false, entry.turn)
        };
        if last != turn {
            return None;
        }
        let lane = self.lanes.name(lane).clone();
        Some(Lease { id, lane, meta, body, tentative, until_unix_ms: until, turn })
    }

    /// An item that cannot be read: held in this process, so that nobody works on it and everybody sees it. Nothing of
    /// this is written: the next process may be able to read it.
    fn damaged(&mut self, id: ItemId, reason: &str) {
        if let Some(item) = self.tentative.get(&id.0) {
            // The record on its way to the disk says what becomes of it; what is read afterwards is seen then.
            if matches!(item.state, State::Committing | State::Settling(_)) {
                return;
            }
            tracing::error!(%id, reason, "a tentative item cannot be read; it is refused");
            let error = crate::event::SpoolError::Failed(reason.into());
            return self.refuse_tentative(id, &error);
        }
        let Some(entry) = self.index.get_mut(id).filter(|entry| !entry.damaged) else { return };
        tracing::error!(%id, reason, "an item of the spool cannot be read; it is held");
        self.stats.damaged += 1;
        self.stats.unreadable += 1;
        let (lane, due, held) = (entry.lane, entry.due_unix_ms, entry.held);
        let offered = !held && !entry.leased && !entry.closing;
        entry.damaged = true;
        if !held {
            self.held += 1;
            self.lanes.count_held(lane, true);
        }
        if offered {
            self.lanes.withdraw(lane, id, due);
        }
    }

    /// Takes back a lease whose item was not read; the item is due after the pause, so that nobody spins.
    fn take_back(&mut self, id: ItemId, turn: u32, until_unix_ms: u64, pause_ms: u64) {
        let due_unix_ms = if pause_ms > 0 { self.now_unix_ms + pause_ms } else { 0 };
        let due = if let Some(item) = self.tentative.get_mut(&id.0).filter(|item| item.leased && item.turn == turn) {
            &mut item.due_unix_ms
        } else if let Some(entry) = self.index.get_mut(id).filter(|entry| entry.leased && entry.turn == turn) {
            &mut entry.due_unix_ms
        } else {
            return;
        };
        *due = due_unix_ms.max(*due);
        self.end_lease(until_unix_ms, id);
        self.unlease(id);
    }
}

impl Purpose {
    /// Copying needs to know that there is a body file, not what is in it.
    const fn wants_files(&self) -> bool {
        !matches!(self, Self::Copy)
    }
}

/// Why an item was not read.
#[derive(Debug)]
enum Unread {
    /// No descriptor was left: nothing is known of the item.
    NotNow,
    Damaged(String),
}

impl From<DiskError> for Unread {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full => Self::NotNow,
            DiskError::Failed(reason) => Self::Damaged(reason),
        }
    }
}

impl From<&str> for Unread {
    fn from(reason: &str) -> Self {
        Self::Damaged(reason.into())
    }
}

fn body_source(data: PartData, len: u64) -> Result<BodySource, Unread> {
    match data {
        PartData::File(file, there) if there == len => Ok(BodySource::File { file, len }),
        PartData::Bytes(bytes) if bytes.len() as u64 == len => Ok(BodySource::Inline(bytes)),
        PartData::File(..) | PartData::Bytes(_) => Err("its body file has another length".into()),
    }
}

/// Parts an item is read in at most: put, metadata and body file.
pub(super) const PARTS_MAX: usize = 3;
/// When an item that no descriptor was left for is leasable again.
const READ_RETRY_MS: u64 = 1000;
