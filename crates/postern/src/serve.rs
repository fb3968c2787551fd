//! `postern serve`: opens everything in the right order, runs until told to stop, stops in order.
//!
//! Order matters: addresses before privileges are dropped, the spool before anything that uses it,
//! the `ready` line when all listeners are open. Threads: doors one per core, spool engine, drain,
//! log; this thread runs control socket, modes, signals and reloads.

mod admission;
pub(crate) mod bypass;
pub(crate) mod doors;
pub(crate) mod files;
pub(crate) mod filters;
pub(crate) mod judging;
pub(crate) mod keys;
mod listeners;
pub(crate) mod masters;
pub(crate) mod modes;
pub(crate) mod names;
pub(crate) mod own;
pub(crate) mod peers;
mod postern;
pub(crate) mod privileges;
mod proofs;
mod prover;
pub(crate) mod queue;
mod reload;
pub(crate) mod status;
pub(crate) mod steering;
pub(crate) mod trust;
pub(crate) mod weather;

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_doors::postern::Postern;
use postern_drain::{Drain, DrainHandle, DrainOptions};
use postern_net::tls::{CertificateFiles, ReloadableCert, self_signed};
use postern_spool::{OpenError, Spool, SpoolOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::ServeArgs;
use crate::config::Config;
use crate::control;
use crate::control::client::running;
use crate::control::server::{ControlSocket, Owners};
use crate::exit::{Code, Failure};
use admission::{Desk, Gauges};
use judging::Judging;
use listeners::Listeners;
use modes::{ModesHandle, ModesTask};
use own::OwnKeys;
use peers::{DoorPeers, PeerFile};
pub(crate) use privileges::pin;
use reload::Reloader;
use status::StatusSource;
use steering::SteeringTask;
use trust::{TrustHandle, TrustTask};
use weather::{Watched, WeatherTask};

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// Why it cannot run.
pub(crate) fn run(flags: &ServeArgs) -> Result<(), Failure> {
    if let Some(core) = flags.pin {
        pin(core)?;
    }
    let config = Config::load(flags)?;
    let data = config.settings.general.data.clone();
    let identity = privileges::identity(&config.settings.run_as)?;
    control::refuse_long_path(&data)?;
    make_data_dir(&data, identity)?;
    refuse_second_server(&data)?;
    let threads = door_threads(&config, flags);
    let listeners = listeners::open(&config, threads)?;
    if let Some(identity) = identity {
        privileges::become_identity(identity, &data)?;
    }
    let _log = crate::log::start(&config.settings.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(Code::Os, "cannot start", &error))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(flags.clone(), config, listeners))
}

async fn serve(flags: ServeArgs, config: Config, mut listeners: Listeners) -> Result<(), Failure> {
    let data = config.settings.general.data.clone();
    warn_about(&config);
    raise_file_limit(&config);
    // The spool's lock first: whoever does not get it must not touch the socket of whoever has it.
    let spool = open_spool(&config)?;
    let socket = control::server::bind(&data)?;
    let (weather_task, weather) = WeatherTask::load(&data, &config);
    let (modes_task, modes) = load_modes(&data, &config, weather.forecast())?;
    let certificate = certificate(&config)?;
    let (trust_task, trust) = TrustTask::load(&data, &config.settings.trust)?;
    let peers =
        DoorPeers::load(&data).map_err(|error| Failure::io(Code::Data, PeerFile::path(&data).display(), &error))?;
    let gauges = Gauges::default();
    let judging = Judging::new(&data, &config, trust.clone(), gauges.observe.clone());
    let filters = judging.filters.published();
    let own = config.door.map(|_| OwnKeys::load(data.clone())).transpose()?;
    let options = DrainOptions {
        filters: filters.clone(),
        evidence: Some(trust.evidence()),
        outbound: Some(postern::outbound(&config, own.as_ref(), &peers)?),
        ..drain_options(&config)
    };
    let mut reloader = Reloader::new(flags, config, modes.clone(), certificate.clone(), judging.clone());
    let drain = Drain::start(spool.clone(), reloader.routes(), modes.published(), options)
        .map_err(|error| Failure::io(Code::Os, "drain", &error))?;
    reloader.attach(drain.clone(), own.clone());
    let wake = drain.clone();
    tokio::task::spawn_local(modes_task.run(move || wake.wake()));
    tokio::task::spawn_local(trust_task.run());
    let (smtp, relay) = (listeners::addresses(&listeners.smtp), listeners::addresses(&listeners.relay));
    let (steering_task, steering) = SteeringTask::new(&mut listeners.smtp, trust.book());
    let identity = admission::identity(reloader.config(), &trust)?;
    let admission = admission::admission(reloader.config(), &trust, &judging.bypass, &gauges, identity.clone())?;
    let keys = proofs::start(reloader.config(), &peers)?;
    let desk = Desk { identity: identity.clone(), book: trust.book() };
    let callouts = doors::callout_cache(reloader.config())?;
    let signals = Signals::heard()?;
    let door = match (listeners.door.take(), &keys, &own) {
        (Some(sockets), Some(keys), Some(own)) => {
            let wiring = postern::Wiring {
                spool: spool.clone(),
                policy: reloader.policy(),
                modes: modes.published(),
                admission: &admission,
                callouts: callouts.clone(),
                keys: keys.clone(),
                own,
                config: reloader.config(),
            };
            Some(postern::start(sockets, wiring)?)
        }
        _ => None,
    };
    let doors = doors::start(doors::Wiring {
        spool: spool.clone(),
        listeners,
        policy: reloader.policy(),
        modes: modes.published(),
        certificate,
        admission,
        callouts,
        config: reloader.config(),
    })?;
    let steering_task = tokio::task::spawn_local(steering_task.run());
    let weather_task = tokio::task::spawn_local(weather_task.run(Watched {
        gauges,
        doors: doors.counters(),
        spool: spool.clone(),
        drain: drain.clone(),
        routes: reloader.routes(),
        filters,
        desk,
        modes: modes.clone(),
    }));
    announce(&smtp, door.as_ref().map(Postern::addr), &relay);
    let (reload, reload_requests) = mpsc::channel(1);
    let status = StatusSource {
        started: Instant::now(),
        smtp,
        relay,
        doors: doors.counters(),
        door: door.as_ref().map(postern::Counters::of),
        steering,
        weather,
        identity,
        keys,
    };
    let owners = Owners {
        spool: spool.clone(),
        drain: drain.clone(),
        modes,
        judging,
        peers,
        own,
        policy: reloader.policy(),
        status,
        reload,
    };
    attend(signals, socket, owners, reloader, reload_requests).await;
    // It holds a socket of each door, whose queue would go on taking clients for nobody.
    steering_task.abort();
    let _gone = steering_task.await;
    // A spool that is closing answers nobody, and that is no weather.
    weather_task.abort();
    stop(doors, door, drain, spool, trust).await;
    Ok(())
}

/// What the operator and the service manager say.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself. Before the first door opens and `ready` is said: whoever
    /// reads that may send SIGHUP at once. Not earlier: a recovery that takes long can be ended.
    fn heard() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::io(Code::Os, "signals", &error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }
}

/// Signals, reloads and the control socket, until it is time to stop.
async fn attend(
    mut signals: Signals,
    socket: ControlSocket,
    owners: Owners,
    mut reloader: Reloader,
    mut requests: mpsc::Receiver<control::server::Reload>,
) {
    let mut poll = tokio::time::interval(NAMES_POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut carries = owners.drain.carries();
    let control = tokio::task::spawn_local(control::server::serve(socket, Rc::new(owners)));
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => drop(reloader.reload().await),
            Some(done) = requests.recv() => drop(done.send(reloader.reload().await)),
            _ = poll.tick() => reloader.poll_names(),
            Ok(()) = carries.changed() => reloader.publish_policy(),
        }
    }
    // Aborting drops the socket, which removes its file: a command started now is told the truth.
    control.abort();
}

/// Doors first, so that nothing new comes; then what leaves; then the spool, which syncs; last the trust
/// book, which has then heard from all of them.
async fn stop(doors: doors::RunningDoors, door: Option<Postern>, drain: DrainHandle, spool: Spool, trust: TrustHandle) {
    tracing::info!("stopping");
    let began = Instant::now();
    let stopped = tokio::time::timeout(STOP_WITHIN, async {
        // Together: a session that waits for an outcome needs the drain to give one.
        let postern = async {
            if let Some(door) = door {
                door.stop(DOORS_GRACE).await;
            }
        };
        tokio::join!(doors.stop(DOORS_GRACE), postern, async {
            tokio::time::sleep(DRAIN_HEAD_START).await;
            drain.stop().await;
        });
        spool.shutdown().await;
        trust.save().await;
    });
    let in_time = stopped.await.is_ok();
    tracing::info!(in_time, seconds = began.elapsed().as_secs_f32(), "stopped");
}

fn announce(smtp: &[SocketAddr], door: Option<SocketAddr>, relay: &[SocketAddr]) {
    let joined = |addrs: &[SocketAddr]| match addrs {
        [] => "off".to_owned(),
        addrs => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    let door = door.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    let line = format!("ready smtp={} door={door} admin=off relay={}\n", joined(smtp), joined(relay));
    let mut stdout = std::io::stdout().lock();
    // Whoever started us may have closed it; the server runs all the same.
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    tracing::info!(smtp = joined(smtp), door, relay = joined(relay), version = env!("CARGO_PKG_VERSION"), "ready");
}

/// Octets that nobody can guess.
///
/// # Errors
/// The system has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| Failure::new(Code::Os, format!("random bytes: {error}")))?;
    Ok(octets)
}

/// Mode 0700, of the user that the server will be: whoever comes first, the server or a command, makes it, and what root
/// then puts into it belongs to that user.
pub(crate) fn make_data_dir(data: &Path, owner: Option<privileges::Identity>) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.and_then(|()| owner.map_or(Ok(()), |owner| privileges::give(data, owner))).map_err(|error| {
        Failure::io(Code::CannotCreate, format!("data directory {}", data.display()), &error)
            .cure("make it and give it to the server's user, or choose another with --data DIR")
    })
}

fn refuse_second_server(data: &Path) -> Result<(), Failure> {
    match running(data) {
        None => Ok(()),
        Some(pid) => {
            let what = format!("already running, pid {pid}, with the data directory {}", data.display());
            Err(Failure::new(Code::Unavailable, what).cure("stop it first, or give this one another --data DIR"))
        }
    }
}

fn open_spool(config: &Config) -> Result<Spool, Failure> {
    let settings = &config.settings.spool;
    let options = SpoolOptions {
        segment_bytes: settings.segment_bytes.0,
        items_max: settings.items_max,
        bytes_max: settings.bytes_max.0,
        tentative_bytes_max: settings.tentative_bytes_max.as_usize(),
        free_low_bytes: settings.free_low.0,
        free_high_bytes: settings.free_high.0,
        flush_delay: Some(Duration::from_millis(settings.flush_delay_ms)).filter(|delay| !delay.is_zero()),
        ..SpoolOptions::new(config.settings.general.data.join("spool"))
    };
    let (spool, report) = Spool::open(options).map_err(|error| {
        let (code, cure) = match &error {
            OpenError::Locked(_) => {
                (Code::Unavailable, "another server has it: stop that one, or choose another --data DIR")
            }
            OpenError::Options(_) => (Code::Config, "see [spool] in `postern check --print-sample`"),
            OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                (Code::NoPermission, "the data directory must belong to the server's user")
            }
            OpenError::Io { .. } => (Code::Io, "nothing was changed; look at the disk"),
        };
        Failure::new(code, error.to_string()).cure(cure)
    })?;
    tracing::info!(items = report.items, bytes = report.bytes, segments = report.segments, "spool recovered");
    if report.torn > 0 || !report.damaged.is_empty() {
        let (torn, damaged, kept) = (report.torn, report.damaged.len(), report.quarantined.len());
        tracing::warn!(
            torn,
            damaged,
            quarantined = kept,
            "spool: incomplete records were set aside; nobody was told 250 for a torn one"
        );
    }
    Ok(spool)
}

fn load_modes(
    data: &Path,
    config: &Config,
    forecast: Shared<modes::Forecast>,
) -> Result<(ModesTask, ModesHandle), Failure> {
    ModesTask::load(data, reload::configured_modes(config), forecast).map_err(|error| {
        Failure::io(Code::Data, data.join("modes").display(), &error)
            .cure("remove the file to start with the configured modes; buffered mail may then leave")
    })
}

fn certificate(config: &Config) -> Result<ReloadableCert, Failure> {
    let failed = |error: postern_net::tls::TlsError| {
        Failure::new(Code::Config, format!("TLS certificate: {error}"))
            .cure("see [tls]; `postern check` looks at it more closely")
    };
    let files = match (&config.settings.tls.cert, &config.settings.tls.key) {
        (Some(cert), Some(key)) => CertificateFiles { cert: cert.clone(), key: key.clone() },
        _ => self_signed(&config.settings.general.data.join("tls"), std::slice::from_ref(&config.hostname))
            .map_err(failed)?,
    };
    ReloadableCert::load(files).map_err(failed)
}

fn drain_options(config: &Config) -> DrainOptions {
    let settings = &config.settings.drain;
    DrainOptions {
        hostname: config.hostname.clone(),
        retry_first: settings.retry_first.0,
        retry_max: settings.retry_max.0,
        expire_after: settings.expiry.0,
        concurrency_max: settings.concurrency,
        quarantine_keep: config.settings.quarantine.keep.0,
        ..DrainOptions::default()
    }
}

fn warn_about(config: &Config) {
    use postern_drain::Route;
    use postern_net::client::ClientAddress;
    if privileges::stays_root(&config.settings.run_as) {
        tracing::warn!("running as root, which is never needed: see [run_as], or start as another user");
    }
    for (key, route) in config.routes() {
        if let Route::Smtp { client_address: ClientAddress::None, trust_loopback: false, .. } = route {
            tracing::warn!(
                key,
                %route,
                "the next hop will see every message come from this machine: it may skip its checks and sign forged mail; set client_address, or trust_loopback = true"
            );
        }
    }
    if let Some(addr) = config.settings.admin.listen {
        tracing::info!(%addr, "the admin address is accepted, but not part of this release");
    }
    if config.settings.relay.listen.is_some() && config.relay_next_hop.is_none() {
        tracing::warn!(
            "the relay listener has no relay.next_hop: it takes mail for our own domains only, and refuses any other with 550"
        );
    }
}

/// A connection is a descriptor; 1,024, the usual soft limit, are soon used up.
fn raise_file_limit(config: &Config) {
    let wanted = config.settings.smtp.connections_max as u64 + DESCRIPTORS_BESIDE;
    match postern_net::socket::raise_nofile_limit() {
        Ok(limit) if limit < wanted => {
            tracing::warn!(
                limit,
                wanted,
                "fewer open files allowed than smtp.connections_max needs: raise LimitNOFILE"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

fn door_threads(config: &Config, flags: &ServeArgs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match config.settings.general.threads {
        0 if flags.pin.is_some() => 1,
        0 => cores.min(THREADS_MAX),
        threads => threads.min(THREADS_MAX),
    }
}

/// Wall clock, milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What one task publishes and many threads read.
pub(crate) type Shared<T> = Arc<arc_swap::ArcSwap<T>>;

/// How soon a changed file of names is seen.
const NAMES_POLL: Duration = Duration::from_secs(2);
/// The promise is ten seconds from SIGTERM; one is left for the process to end.
const STOP_WITHIN: Duration = Duration::from_secs(9);
/// Sessions between their final dot and our reply get this long.
const DOORS_GRACE: Duration = Duration::from_secs(6);
/// What is being delivered when the doors close may still be answered at its outcome.
const DRAIN_HEAD_START: Duration = Duration::from_millis(50);
/// Spool, next hops, Maildirs, log, listeners.
pub(crate) const DESCRIPTORS_BESIDE: u64 = 1000;
/// More threads than this gain nothing for a mail server.
const THREADS_MAX: usize = 64;
