//! The one task that owns the modes: commands of the operator, kept over a restart in
//! `DATA/modes`, joined with the configuration and the weather, and published to doors and drain.
//!
//! A command beats the configuration, and a configured mode beats the weather, which speaks where
//! `auto` is configured. A command for all domains replaces those for single ones: `buffer on`
//! means all mail. `auto` for one domain, while a command for all is in force, is itself remembered.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_proto::mode::{Mode, Modes};
use postern_trust::weather::{Answer, Reason};
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

/// What holds where no command does; `None` is `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configured {
    /// Of every domain not named.
    pub(crate) all: Option<Mode>,
    /// Of single ones.
    pub(crate) domains: BTreeMap<String, Option<Mode>>,
    /// Whether mail has nowhere to go (`none`): of every domain not named, and of single ones.
    pub(crate) kept: (bool, BTreeMap<String, bool>),
}

/// What the weather says, and why: what holds where `auto` does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// Of every domain not named.
    pub(crate) all: (Answer, Reason),
    /// Of single ones.
    pub(crate) domains: BTreeMap<String, (Answer, Reason)>,
}

impl Forecast {
    fn of(&self, domain: &str) -> (Answer, Reason) {
        self.domains.get(domain).copied().unwrap_or(self.all)
    }
}

fn mode_for(answer: Answer) -> Mode {
    match answer {
        Answer::Through => Mode::Through,
        Answer::Collect => Mode::Collect,
    }
}

/// A message to the task.
enum Message {
    Command { domain: Option<String>, mode: Option<Mode>, done: oneshot::Sender<Result<Value, String>> },
    Configure(Configured),
    WeatherChanged,
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

    /// The forecast says something else than before.
    pub(crate) async fn weather_changed(&self) {
        let _ = self.messages.send(Message::WeatherChanged).await;
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
    forecast: Arc<ArcSwap<Forecast>>,
    published: Arc<ArcSwap<Modes>>,
    messages: mpsc::Receiver<Message>,
}

impl ModesTask {
    /// Reads the commands that were in force when the last server stopped.
    ///
    /// # Errors
    /// The file is there and cannot be read: guessing a mode could let buffered mail out.
    pub(crate) fn load(
        data: &Path,
        configured: Configured,
        forecast: Arc<ArcSwap<Forecast>>,
    ) -> io::Result<(Self, ModesHandle)> {
        let path = data.join("modes");
        let commands = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Commands::default(),
            Err(error) => return Err(error),
        };
        let published = Arc::new(ArcSwap::from_pointee(in_force(&commands, &configured, &forecast.load())));
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = ModesHandle { messages: sender, published: published.clone() };
        Ok((Self { path, commands, configured, forecast, published, messages }, handle))
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
                Message::WeatherChanged => {
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
        self.published.store(Arc::new(in_force(&self.commands, &self.configured, &self.forecast.load())));
    }

    fn show(&self) -> Value {
        let forecast = self.forecast.load();
        let modes = effective(&self.commands, &self.configured, &forecast);
        let one = |mode: Mode, fixed: Option<Mode>, (_, reason): (Answer, Reason)| match fixed {
            Some(_) => json!({ "mode": mode, "auto": false }),
            None => json!({ "mode": mode, "auto": true, "why": reason.words() }),
        };
        let domains: serde_json::Map<String, Value> = modes
            .domains
            .iter()
            .map(|(domain, mode)| {
                let fixed = fixed(&self.commands, &self.configured, domain);
                (domain.clone(), one(*mode, fixed, forecast.of(domain)))
            })
            .collect();
        let mut shown = one(modes.default, self.commands.all.or(self.configured.all), forecast.all);
        shown["domains"] = Value::Object(domains);
        shown
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

/// What a command or the configuration says about one domain; `None` leaves it to the weather.
fn fixed(commands: &Commands, configured: &Configured, domain: &str) -> Option<Mode> {
    let command = commands.domains.get(domain).copied().unwrap_or(commands.all);
    command.or_else(|| configured.domains.get(domain).copied().unwrap_or(configured.all))
}

/// Commands before configuration before weather, one domain before all.
fn effective(commands: &Commands, configured: &Configured, forecast: &Forecast) -> Modes {
    let of = |domain: &str| fixed(commands, configured, domain).unwrap_or_else(|| mode_for(forecast.of(domain).0));
    // A command for all leaves only those that have one of their own.
    let stormy = forecast.domains.keys().filter(|domain| fixed(commands, configured, domain).is_none());
    let others = commands.all.is_none().then(|| configured.domains.keys().chain(stormy));
    let named = commands.domains.keys().chain(others.into_iter().flatten());
    let domains = named.map(|domain| (domain.clone(), of(domain))).collect();
    let default = commands.all.or(configured.all).unwrap_or_else(|| mode_for(forecast.all.0));
    Modes { default, domains }
}

/// What doors and drain are told. Where mail has nowhere to go there is no outcome to wait for:
/// `through` then answers at the receipt, at once, and not after the deadline.
fn in_force(commands: &Commands, configured: &Configured, forecast: &Forecast) -> Modes {
    let Modes { mut default, mut domains } = effective(commands, configured, forecast);
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

fn save(path: &Path, commands: &Commands) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Commands { version: FORMAT_VERSION, ..commands.clone() })?;
    super::files::replace(path, &bytes)
}

const FORMAT_VERSION: u32 = 1;
/// Commands waiting; each is a person or a script at a terminal.
const MESSAGES_MAX: usize = 64;
/// Domains with a command of their own, about 60 octets each.
const DOMAINS_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
