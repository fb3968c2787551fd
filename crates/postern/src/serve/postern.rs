//! From the configuration to the postern, at both ends: the door that is opened for peers, and how mail leaves by theirs.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_doors::gate::{DoorSockets, Gate, GateOptions};
use postern_doors::postern::{Postern, PosternOptions};
use postern_doors::{Admission, CalloutCache, Policy};
use postern_drain::{Doors, OutboundOptions, PinnedDoor, Speaker};
use postern_identity::keys::KeyDesk;
use postern_net::dns::{Resolver, ResolverOptions};
use postern_net::door::{DoorClient, DoorClientOptions, PublicKey, Purse};
use postern_net::mx::{MxFinder, Policies};
use postern_net::published::Roots;
use postern_net::sts::FetchOptions;
use postern_proto::door::Mode;
use postern_proto::door::limits::PORT_DEFAULT;
use postern_proto::envelope::Via;
use postern_proto::mode::Modes;
use postern_proto::session::{SessionLimits, SessionOptions};
use postern_spool::Spool;
use serde_json::{Value, json};

use super::masters::Masters;
use super::own::OwnKeys;
use super::peers::{DoorPeers, PeerFile, make_door_dir};
use super::prover::Witness;
use super::{Shared, proofs, random};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::serve::trust::now_s;

/// What the postern is opened with.
pub(super) struct Wiring<'a> {
    pub(super) spool: Spool,
    pub(super) policy: Shared<Policy>,
    pub(super) modes: Shared<Modes>,
    pub(super) admission: &'a Admission,
    pub(super) callouts: Option<CalloutCache>,
    pub(super) keys: KeyDesk,
    pub(super) own: &'a OwnKeys,
    pub(super) config: &'a Config,
}

/// Opens it on sockets that are bound already.
///
/// # Errors
/// The secret cannot be kept, or the thread cannot be started.
pub(super) fn start(sockets: DoorSockets, wiring: Wiring<'_>) -> Result<Postern, Failure> {
    let Wiring { spool, policy, modes, admission, callouts, keys, own, config } = wiring;
    let masters = Masters::load(&config.settings.general.data, now_s())?;
    let door = &config.settings.door;
    let options = GateOptions {
        worker: door.node,
        strangers_per_second: door.strangers_per_second,
        work_ns: door.work_ns,
        ..GateOptions::default()
    };
    let gate = Gate::new(masters.keyring(now_s()), options, random()?);
    let prover = Arc::new(Witness::new(keys, admission.book.clone()));
    let smtp = &config.settings.smtp;
    let session = SessionOptions {
        size_max: smtp.size_max.0,
        recipients_max: smtp.recipients_max,
        author: true,
        limits: SessionLimits {
            command: postern_doors::limits::STREAM_COMMAND_TIMEOUT,
            body: postern_doors::limits::FLOOR_WINDOW,
            outcome: smtp.outcome_timeout.0,
            ..SessionLimits::default()
        },
        ..SessionOptions::new(config.hostname.clone(), Via::Postern)
    };
    let gate = Arc::new(Mutex::new(gate));
    own.attach_gate(Arc::clone(&gate));
    let options = PosternOptions {
        // Whose key it is was proven: nobody asks DNS about the address as well.
        admission: Some(Admission { identity: None, ..admission.clone() }),
        callouts,
        ..PosternOptions::new(sockets, gate, own.profile(), masters.reset.reset_secret(), prover, session)
    };
    Postern::start(spool, policy, modes, options).map_err(|error| Failure::new(Code::Os, format!("postern: {error}")))
}

/// How mail leaves: by the posterns of others, else by MX.
///
/// # Errors
/// The resolver's, or the purse's.
pub(super) fn outbound(config: &Config, own: Option<&OwnKeys>, peers: &DoorPeers) -> Result<OutboundOptions, Failure> {
    let dns = &config.settings.dns;
    let resolver = Resolver::with_options(&ResolverOptions {
        server: dns.resolver,
        trust: proofs::trust(&dns.dnssec),
        ..ResolverOptions::new(LOOK_UP)
    });
    let resolver = resolver.map_err(|error| Failure::new(Code::Config, error.to_string()).cure("see [dns]"))?;
    let listens = config.settings.smtp.listen.0.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
    let mx = MxFinder {
        own_names: vec![config.hostname.to_lowercase()],
        own_addresses: listens.filter(|ip| !ip.is_loopback()).collect::<Vec<IpAddr>>(),
        ..MxFinder::new(Arc::new(resolver))
    };
    let doors = match (own, config.door_domains()) {
        (Some(own), domains) if !domains.is_empty() => Some(doors(config, own, domains, peers)?),
        _ => None,
    };
    let policies = Policies::new(FetchOptions { roots: Roots::Mozilla, ..FetchOptions::default() });
    Ok(OutboundOptions { mx, roots: Roots::Mozilla, policies, doors })
}

fn doors(config: &Config, own: &OwnKeys, domains: Vec<String>, peers: &DoorPeers) -> Result<Doors, Failure> {
    let data = &config.settings.general.data;
    let dir = make_door_dir(data).map_err(|error| Failure::io(Code::CannotCreate, data.display(), &error))?;
    let open = |dir: &Path| Purse::open(dir).map_err(|error| Failure::new(Code::CannotCreate, error.to_string()));
    let purse = open(&dir.join("purse"))?;
    if domains.len() > SPEAKERS_MAX {
        let left = &domains[SPEAKERS_MAX..];
        tracing::warn!(domains = ?left, "mail of these goes by no postern: {SPEAKERS_MAX} domains speak for themselves");
    }
    let mut speakers = Vec::new();
    for domain in domains.into_iter().take(SPEAKERS_MAX) {
        // The first has what was kept before the others had their own.
        let purse = if speakers.is_empty() { purse.clone() } else { open(&dir.join("purses").join(&domain))? };
        let client = DoorClient::new(DoorClientOptions::new(own.key(), domain.clone(), purse.clone()));
        own.attach_client(client.clone());
        speakers.push(Speaker { org: domain.clone(), domain, opener: Arc::new(client), purse });
    }
    let mut follow = peers.follow();
    let pins = Arc::new(ArcSwap::from_pointee(pinned(&follow.borrow_and_update())));
    let published = Arc::clone(&pins);
    tokio::task::spawn_local(async move {
        while follow.changed().await.is_ok() {
            let now = pinned(&follow.borrow_and_update());
            published.store(Arc::new(now));
        }
    });
    Ok(Doors { purse, pins, speakers })
}

/// Peers whose place the operator has told; of the others DNS says where they are, and the pin whose key counts. What the
/// domain itself enforces counts beside the pin.
fn pinned(file: &PeerFile) -> HashMap<String, PinnedDoor> {
    let door = |(domain, peer): (&String, &super::peers::DoorPeer)| {
        let (host, port) = peer.at.as_deref().map_or((domain.as_str(), PORT_DEFAULT), |at| {
            let (host, port) = at.rsplit_once(':').unwrap_or((at, ""));
            (host.trim_matches(['[', ']']), port.parse().unwrap_or(PORT_DEFAULT))
        });
        let keys: Vec<PublicKey> = peer.keys.iter().filter_map(|key| key.parse().ok()).collect();
        let mode = if peer.enforce { Mode::Enforce } else { Mode::Prefer };
        (!keys.is_empty()).then(|| (domain.clone(), PinnedDoor { host: host.to_owned(), port, keys, mode }))
    };
    file.peers.iter().filter_map(door).collect()
}

/// The postern's part of `status`.
pub(super) struct Counters {
    addr: SocketAddr,
    stats: Arc<postern_doors::postern::PosternStats>,
    sessions: Arc<postern_doors::DoorStats>,
    gate: postern_doors::gate::SharedGate,
    panic: Box<dyn Fn()>,
}

impl Counters {
    pub(super) fn of(postern: &Postern) -> Self {
        Self {
            addr: postern.addr(),
            stats: Arc::clone(postern.stats()),
            sessions: Arc::clone(postern.sessions()),
            gate: postern.shared_gate(),
            panic: Box::new(postern.panic_injector()),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn panic_thread(&self) {
        (self.panic)();
    }

    pub(super) fn show(&self) -> Value {
        let (now, sessions) = (self.stats.snapshot(), self.sessions.snapshot());
        let gate = self.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner).stats();
        let mut shown = json!({
            "addr": self.addr, "open": now.open, "streams": now.streams, "accepted": now.accepted,
            "known": now.accepted_known, "vouched": now.accepted_vouched, "proven": now.accepted_proven,
            "handshakes": now.shaking, "waiting": now.waiting, "begun": now.begun, "failed": now.failed,
            "expired": now.expired, "crowded_out": now.crowded_out, "parked": now.parked, "unproven": now.unproven,
            "revoked": now.revoked, "foreign_tickets": now.foreign_tickets, "too_many": now.too_many, "tickets": now.tickets,
        });
        let more = json!({
            "protocol_errors": now.protocol_errors, "lifetimes_over": now.lifetimes_over, "rebuilt": now.rebuilt,
            "queued": sessions.queued, "delivered": sessions.delivered, "refused": sessions.refused,
            "use_mx": sessions.use_mx, "gate": show_gate(&gate),
        });
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    }
}

fn show_gate(gate: &postern_doors::gate::GateStats) -> Value {
    let lost = gate.kernel_drops;
    json!({
        "kernel_drops": {
            "established": lost.established, "ticket": lost.ticket, "cookie": lost.cookie, "rest": lost.rest,
        },
        "level": gate.level, "received": gate.received, "passed": gate.passed, "by_id": gate.passed_known_id,
        "by_ticket": gate.admitted_ticket, "by_cookie": gate.admitted_cookie, "by_both": gate.admitted_both,
        "answered": gate.answered, "unanswered": gate.unanswered, "garbage": gate.garbage, "bad_id": gate.bad_id,
        "id_elsewhere": gate.id_elsewhere, "old_id": gate.old_id, "no_token": gate.no_token, "bad_ticket": gate.bad_ticket,
        "burnt_ticket": gate.burnt_ticket, "over_share": gate.over_share, "bad_cookie": gate.bad_cookie, "untimely_cookie": gate.untimely_cookie,
        "used": gate.used_cookie, "appointments": gate.appointments, "full": gate.full,
        "prefixes": gate.prefixes, "waiting": gate.waiting, "fair_wait_ms": gate.fair_wait_ms,
    })
}

/// Domains of ours that knock in their own name. Each has a purse (at most 1 MiB of memory, 4 MiB of disk; a few KiB as a rule)
/// and, while it is in use, two sockets. The mail of more goes by MX.
const SPEAKERS_MAX: usize = 64;
/// For one look-up of a domain's door or servers.
const LOOK_UP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use postern_net::door::KeyPair;

    use super::*;
    use crate::serve::peers::PeerChange;

    #[test]
    fn a_peer_that_is_added_with_enforce_is_pinned_so() {
        let key = KeyPair::from_pkcs8(&KeyPair::generate().expect("randomness")).expect("a key").public().to_string();
        let (mut file, at) = (PeerFile::default(), Some("[2001:db8::1]:4000".to_owned()));
        let strict = PeerChange {
            domain: "strict.example".into(),
            key: Some(key.clone()),
            at: at.clone(),
            enforce: true,
            add: true,
        };
        let usual = PeerChange { domain: "usual.example".into(), enforce: false, ..strict.clone() };
        for change in [&strict, &usual] {
            file.change(change, 0).expect("added");
        }
        let pins = pinned(&file);
        let pin =
            |mode| PinnedDoor { host: "2001:db8::1".into(), port: 4000, keys: vec![key.parse().expect("a key")], mode };
        assert_eq!(pins["strict.example"], pin(Mode::Enforce));
        assert_eq!(pins["usual.example"], pin(Mode::Prefer));
    }
}
