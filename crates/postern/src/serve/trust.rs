//! The one task that writes the trust book: takes the evidence that doors, drain and identity hand
//! over, seeds of `postern learn`, reports and pins of the operator, and keeps the book in
//! `DATA/trust`.
//!
//! It never decides about a connection: doors read the book themselves, through atomic cells.
//! Losing the book costs quality, never mail: a damaged one is put aside and the server starts
//! with an empty one. `kill -9` loses what came after the last snapshot.

pub(crate) mod pins;
pub(crate) mod seed;
pub(crate) mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_trust::{Book, Evidence, EvidenceReceiver, EvidenceSender, Pins, Writer};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::settings;
use crate::exit::{Code, Failure};
use pins::{Pin, PinFile};
use seed::Seed;

/// A message to the task.
enum Message {
    Seed { seeds: Vec<Seed>, done: oneshot::Sender<usize> },
    Pin { pin: Pin, add: bool, done: oneshot::Sender<Result<bool, String>> },
    Report { evidence: Vec<Evidence>, done: oneshot::Sender<()> },
    Configure(settings::Trust),
    ShowPins(oneshot::Sender<Value>),
    Show(oneshot::Sender<Value>),
    Save(oneshot::Sender<()>),
}

/// Speaks to the task, and holds what others read.
#[derive(Clone)]
pub(crate) struct TrustHandle {
    book: Arc<Book>,
    evidence: EvidenceSender,
    messages: mpsc::Sender<Message>,
}

impl TrustHandle {
    /// What doors, drain, identity and steering read.
    pub(crate) fn book(&self) -> Arc<Book> {
        self.book.clone()
    }

    /// Where doors, drain and identity put what they see; a clone for each thread.
    pub(crate) fn evidence(&self) -> EvidenceSender {
        self.evidence.clone()
    }

    /// Takes seeds; says how many were of use.
    pub(crate) async fn seed(&self, seeds: Vec<Seed>) -> Option<usize> {
        self.ask(|done| Message::Seed { seeds, done }).await
    }

    /// Adds or removes a pin; false when it was there, or was not. Durable when it returns.
    ///
    /// # Errors
    /// Why it could not be kept.
    pub(crate) async fn pin(&self, pin: Pin, add: bool) -> Result<bool, String> {
        let stopping = || Err("the server is stopping".to_owned());
        self.ask(|done| Message::Pin { pin, add, done }).await.unwrap_or_else(stopping)
    }

    /// The operator's own word: taken at once and in order, past the channel that may drop.
    pub(crate) async fn report(&self, evidence: Vec<Evidence>) {
        let _ = self.ask(|done| Message::Report { evidence, done }).await;
    }

    /// A new configuration: its pins hold from now on.
    pub(crate) async fn configure(&self, configured: settings::Trust) {
        let _ = self.messages.send(Message::Configure(configured)).await;
    }

    /// Pins, with where each comes from.
    pub(crate) async fn show_pins(&self) -> Value {
        self.ask(Message::ShowPins).await.unwrap_or_default()
    }

    /// For `status`.
    pub(crate) async fn show(&self) -> Value {
        self.ask(Message::Show).await.unwrap_or_default()
    }

    /// Takes what is still in the channel and writes the book; the last thing before the end.
    pub(crate) async fn save(&self) {
        let _ = self.ask(Message::Save).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.messages.send(message(done)).await.ok()?;
        answer.await.ok()
    }
}

/// The task's state.
pub(crate) struct TrustTask {
    data: PathBuf,
    configured: settings::Trust,
    pins: PinFile,
    book: Arc<Book>,
    writer: Writer,
    receiver: EvidenceReceiver,
    messages: mpsc::Receiver<Message>,
    /// Reused for each batch.
    batch: Vec<Evidence>,
    applied: u64,
    saved: Option<Instant>,
    /// A snapshot on its way to the disk.
    saving: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl TrustTask {
    /// Reads book and pins of the last server.
    ///
    /// # Errors
    /// The pins cannot be read, or the system gives no random numbers.
    pub(crate) fn load(data: &Path, configured: &settings::Trust) -> Result<(Self, TrustHandle), Failure> {
        let pins = PinFile::load(data).map_err(|error| {
            Failure::io(Code::Data, data.join("pins").display(), &error)
                .cure("repair the file, or remove it and pin again with `postern peer add`")
        })?;
        let book = store::load(data, configured)?;
        let (evidence, receiver) = postern_trust::channel(EVIDENCE_MAX);
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = TrustHandle { book: book.clone(), evidence, messages: sender };
        let task = Self {
            data: data.to_owned(),
            configured: configured.clone(),
            pins,
            writer: Writer::new(book.clone()),
            book,
            receiver,
            messages,
            batch: Vec::new(),
            applied: 0,
            saved: None,
            saving: None,
        };
        task.publish_pins();
        Ok((task, handle))
    }

    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self) {
        let mut gather = tokio::time::interval(GATHER_EVERY);
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // No less than a second: a snapshot is some MiB, written by a thread of its own.
        let every = self.configured.snapshot_every.0.max(Duration::from_secs(1));
        let mut snapshot = tokio::time::interval_at(Instant::now() + every, every);
        snapshot.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.messages.recv() => match message {
                    None => return,
                    Some(message) => self.handle(message).await,
                },
                _ = gather.tick() => {
                    self.gather();
                }
                _ = snapshot.tick() => self.begin_snapshot(),
            }
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Seed { seeds, done } => {
                // With the time of now: the book's clock only goes forward. Their dates have been heeded by
                // whoever gathered them.
                let now = now_s();
                let mut used = 0;
                for evidence in seeds.iter().filter_map(Seed::evidence) {
                    self.writer.apply(&evidence, now);
                    used += 1;
                }
                let _ = done.send(used);
            }
            Message::Pin { pin, add, done } => {
                let _ = done.send(self.pin(pin, add));
            }
            Message::Report { evidence, done } => {
                self.gather();
                evidence.iter().for_each(|evidence| self.writer.apply(evidence, now_s()));
                let _ = done.send(());
            }
            Message::Configure(configured) => {
                self.configured = configured;
                self.publish_pins();
            }
            Message::ShowPins(done) => {
                let _ = done.send(self.show_pins());
            }
            Message::Show(done) => {
                let _ = done.send(self.show());
            }
            Message::Save(done) => {
                while self.gather() == BATCH_MAX {}
                self.finish_snapshot().await;
                self.begin_snapshot();
                self.finish_snapshot().await;
                let _ = done.send(());
            }
        }
    }

    /// Applies what has come; says how much. The rest waits for the next turn: this thread also
    /// serves the operator.
    fn gather(&mut self) -> usize {
        let now = now_s();
        let taken = self.receiver.drain(&mut self.batch, BATCH_MAX);
        for evidence in self.batch.drain(..) {
            self.writer.apply(&evidence, now);
        }
        self.applied += taken as u64;
        self.writer.tick(now);
        taken
    }

    /// Copies the book here; the disk is waited for elsewhere. One at a time: a disk that needs
    /// longer than the interval gets fewer snapshots, not more threads.
    fn begin_snapshot(&mut self) {
        if let Some(saving) = &self.saving
            && !saving.is_finished()
        {
            return;
        }
        let bytes = self.book.snapshot();
        let data = self.data.clone();
        self.saving = Some(tokio::task::spawn_blocking(move || {
            store::save(&data, &bytes).inspect_err(|error| {
                tracing::error!(%error, "the trust book cannot be written; it stays in memory");
            })
        }));
        self.saved = Some(Instant::now());
    }

    async fn finish_snapshot(&mut self) {
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
    }

    fn pin(&mut self, pin: Pin, add: bool) -> Result<bool, String> {
        let mut pins = self.pins.clone();
        let changed = pins.change(pin, add)?;
        if changed {
            pins.save(&self.data).map_err(|error| format!("{}: {error}", self.data.join("pins").display()))?;
            self.pins = pins;
            self.publish_pins();
        }
        Ok(changed)
    }

    fn publish_pins(&self) {
        self.book.set_pins(pins_in_force(&self.configured, &self.pins));
    }

    fn show_pins(&self) -> Value {
        let configured = &self.configured;
        let networks: Vec<String> = configured.pinned.iter().map(ToString::to_string).collect();
        json!({
            "configured": { "networks": networks, "domains": configured.pinned_domains },
            "added": { "networks": self.pins.networks, "domains": self.pins.domains },
        })
    }

    fn show(&self) -> Value {
        let pins = pins_in_force(&self.configured, &self.pins);
        json!({
            "observe": self.configured.observe,
            "evidence": self.applied,
            "evidence_dropped": self.receiver.dropped(),
            "pinned": pins.networks.len() + pins.domains.len(),
            "snapshot_age_seconds": self.saved.map(|saved| saved.elapsed().as_secs()),
        })
    }
}

/// Those of the configuration and those of `postern peer`.
pub(crate) fn pins_in_force(configured: &settings::Trust, added: &PinFile) -> Pins {
    let mut networks: Vec<ipnet::IpNet> = configured.pinned.iter().map(|network| network.0).collect();
    networks.extend(
        added
            .networks
            .iter()
            .filter_map(|text| text.parse().ok())
            .map(|network: crate::config::values::Network| network.0),
    );
    let mut domains: Vec<String> = configured.pinned_domains.iter().map(|domain| domain.to_lowercase()).collect();
    domains.extend(added.domains.iter().cloned());
    Pins {
        networks,
        domains,
        forwarders: configured.forwarders.iter().map(|network| network.0).collect(),
        providers: configured.providers.iter().map(|domain| domain.to_lowercase()).collect(),
    }
}

/// Wall clock, seconds since 1970.
pub(crate) fn now_s() -> u64 {
    super::now_unix_ms() / 1000
}

/// Doors see the effect of evidence this late at most.
const GATHER_EVERY: Duration = Duration::from_millis(100);
/// Observations in the channel: 65,536 of about 64 octets are 4 MiB, and 650,000 a second in each
/// 100 ms; more are dropped and counted.
const EVIDENCE_MAX: usize = 1 << 16;
/// Applied at once, about 5 ms of this thread.
const BATCH_MAX: usize = 1 << 14;
/// Commands waiting; each is a person or a script.
const MESSAGES_MAX: usize = 64;
