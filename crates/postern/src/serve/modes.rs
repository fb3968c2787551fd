//! The one task that owns the modes: commands of the operator, kept over a restart in
//! `DATA/modes`, joined with the configuration and published to doors and drain.
//!
//! A command for all domains replaces those for single ones: `buffer on` means all mail. `auto`
//! for one domain, while a command for all is in force, is itself remembered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_proto::mode::{Mode, Modes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// What the operator has commanded; `None` inside is `auto`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commands {
    version: u32,
    all: Option<Mode>,
    domains: BTreeMap<String, Option<Mode>>,
}

/// What holds where no command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Of every domain not named.
    pub(crate) all: Mode,
    /// Of single ones.
    pub(crate) domains: BTreeMap<String, Mode>,
    /// Whether mail has nowhere to go (`none`): of every domain not named, and of single ones.
    pub(crate) kept: (bool, BTreeMap<String, bool>),
}

/// A message to the task.
enum Message {
    Command { domain: Option<String>, mode: Option<Mode>, done: oneshot::Sender<Result<Value, String>> },
    Configure(Configured),
    Show(oneshot::Sender<Value>),
}

/// Speaks to the task.
#[derive(Clone)]
pub(crate) struct ModesHandle {
    messages: mpsc::Sender<Message>,
    published: Arc<ArcSwap<Modes>>,
}

impl ModesHandle {
    /// What doors and drain read.
    pub(crate) fn published(&self) -> Arc<ArcSwap<Modes>> {
        self.published.clone()
    }

    /// Sets (or with `None` withdraws) a command, for one domain or all. Durable when it returns.
    ///
    /// # Errors
    /// Why it could not be kept; then nothing has changed.
    pub(crate) async fn command(&self, domain: Option<String>, mode: Option<Mode>) -> Result<Value, String> {
        let (done, answer) = oneshot::channel();
        let gone = || "the server is stopping".to_owned();
        self.messages.send(Message::Command { domain, mode, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// A new configuration.
    pub(crate) async fn configure(&self, configured: Configured) {
        let _ = self.messages.send(Message::Configure(configured)).await;
    }

    /// Modes and what they come from, for `status`.
    pub(crate) async fn show(&self) -> Value {
        let (done, answer) = oneshot::channel();
        let _ = self.messages.send(Message::Show(done)).await;
        answer.await.unwrap_or(Value::Null)
    }
}

/// The task's state.
pub(crate) struct ModesTask {
    path: PathBuf,
    commands: Commands,
    configured: Configured,
    published: Arc<ArcSwap<Modes>>,
    messages: mpsc::Receiver<Message>,
}

impl ModesTask {
    /// Reads the commands that were in force when the last server stopped.
    ///
    /// # Errors
    /// The file is there and cannot be read: guessing a mode could let buffered mail out.
    pub(crate) fn load(data: &Path, configured: Configured) -> io::Result<(Self, ModesHandle)> {
        let path = data.join("modes");
        let commands = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Commands::default(),
            Err(error) => return Err(error),
        };
        let published = Arc::new(ArcSwap::from_pointee(in_force(&commands, &configured)));
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = ModesHandle { messages: sender, published: published.clone() };
        Ok((Self { path, commands, configured, published, messages }, handle))
    }

    /// Runs until every handle is gone; `changed` is called after each change.
    pub(crate) async fn run(mut self, changed: impl Fn()) {
        while let Some(message) = self.messages.recv().await {
            match message {
                Message::Command { domain, mode, done } => {
                    let result = self.command(domain, mode);
                    if result.is_ok() {
                        changed();
                    }
                    let _ = done.send(result);
                }
                Message::Configure(configured) => {
                    self.configured = configured;
                    self.publish();
                    changed();
                }
                Message::Show(done) => {
                    let _ = done.send(self.show());
                }
            }
        }
    }

    fn command(&mut self, domain: Option<String>, mode: Option<Mode>) -> Result<Value, String> {
        let mut commands = self.commands.clone();
        apply(&mut commands, domain, mode)?;
        save(&self.path, &commands).map_err(|error| format!("{}: {error}", self.path.display()))?;
        self.commands = commands;
        self.publish();
        Ok(self.show())
    }

    fn publish(&self) {
        self.published.store(Arc::new(in_force(&self.commands, &self.configured)));
    }

    fn show(&self) -> Value {
        let modes = effective(&self.commands, &self.configured);
        let domains: serde_json::Map<String, Value> = modes
            .domains
            .iter()
            .map(|(domain, mode)| {
                let command = self.commands.domains.get(domain).copied().unwrap_or(self.commands.all);
                (domain.clone(), json!({ "mode": mode, "auto": command.is_none() }))
            })
            .collect();
        json!({ "mode": modes.default, "auto": self.commands.all.is_none(), "domains": domains })
    }
}

fn apply(commands: &mut Commands, domain: Option<String>, mode: Option<Mode>) -> Result<(), String> {
    match domain {
        None => {
            commands.all = mode;
            commands.domains.clear();
        }
        Some(domain) if mode.is_none() && commands.all.is_none() => {
            commands.domains.remove(&domain);
        }
        Some(domain) => {
            if commands.domains.len() >= DOMAINS_MAX && !commands.domains.contains_key(&domain) {
                return Err(format!(
                    "{DOMAINS_MAX} domains have a mode of their own already: command all, or some auto"
                ));
            }
            commands.domains.insert(domain, mode);
        }
    }
    Ok(())
}

/// Commands before configuration, one domain before all.
fn effective(commands: &Commands, configured: &Configured) -> Modes {
    let of = |domain: &str| configured.domains.get(domain).copied().unwrap_or(configured.all);
    let mut domains = if commands.all.is_none() { configured.domains.clone() } else { BTreeMap::new() };
    for (domain, command) in &commands.domains {
        domains.insert(domain.clone(), command.unwrap_or_else(|| of(domain)));
    }
    Modes { default: commands.all.unwrap_or(configured.all), domains }
}

/// What doors and drain are told. Where mail has nowhere to go there is no outcome to wait for:
/// `through` then answers at the receipt, at once, and not after the deadline.
fn in_force(commands: &Commands, configured: &Configured) -> Modes {
    let Modes { mut default, mut domains } = effective(commands, configured);
    let (all_kept, kept) = &configured.kept;
    for domain in kept.keys() {
        domains.entry(domain.clone()).or_insert(default);
    }
    let answer = |mode: &mut Mode, kept: bool| {
        if kept && *mode == Mode::Through {
            *mode = Mode::Collect;
        }
    };
    for (domain, mode) in &mut domains {
        answer(mode, kept.get(domain).copied().unwrap_or(*all_kept));
    }
    answer(&mut default, *all_kept);
    Modes { default, domains }
}

fn parse(bytes: &[u8]) -> io::Result<Commands> {
    let commands: Commands = serde_json::from_slice(bytes)?;
    if commands.version > FORMAT_VERSION {
        return Err(io::Error::other(format!("version {} is from a later release", commands.version)));
    }
    Ok(commands)
}

/// Written aside, synced, renamed, and the directory synced: after a crash the file is the old or
/// the new one.
fn save(path: &Path, commands: &Commands) -> io::Result<()> {
    let new = path.with_extension("new");
    let bytes = serde_json::to_vec(&Commands { version: FORMAT_VERSION, ..commands.clone() })?;
    let mut file = File::create(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

const FORMAT_VERSION: u32 = 1;
/// Commands waiting; each is a person or a script at a terminal.
const MESSAGES_MAX: usize = 64;
/// Domains with a command of their own, about 60 octets each.
const DOMAINS_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
