//! The client of doors: finds the quickest way in and hands out links.
//!
//! With a ticket, straight in; without, or when the gate would rather have a cookie, by HELLO and CHALLENGE, waiting for the
//! appointment when it is near; when nobody answers, by the second door. It never resolves names, never decides about port 25,
//! and knows no mail: the sending side calls it, keeps the links, and applies the downgrade rule to its errors.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_proto::door::CloseCode;
use quinn::{Endpoint, TokioRuntime, TransportConfig};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::attempt::{Attempt, Common, Family, Miss, Outcome, Reachable};
use super::clock::{ServerClocks, WallClock};
use super::error::DoorError;
use super::key::{KeyPair, PublicKey};
use super::link::{self, Link};
use super::prelude::{self, Appointment, Calendar, random};
use super::profile::{client_transport, plain_endpoint};
use super::purse::{Purse, PurseError};
use super::socket::DoorSocket;

/// Addresses of one door that are tried, the caller's order. More are left alone.
const ADDRESSES_MAX: usize = 4;
/// How often a gate may put an appointment off, within the time that is waited for one. More: it counts as silence.
const PUT_OFF_MAX: usize = 16;

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct DoorClientOptions {
    /// Our own key, until another is set.
    pub key: KeyPair,
    /// The domain that we speak for.
    pub domain: String,
    /// The DNS name where our key is published, when that is not the usual one.
    pub owner: Option<String>,
    /// Tickets and memories.
    pub purse: Purse,
    /// Our address; its family is then the only one used.
    pub bind: Option<IpAddr>,
    /// Our own clock.
    pub wall: WallClock,
    /// Deadlines.
    pub deadlines: Deadlines,
}

impl DoorClientOptions {
    /// The usual ones.
    pub fn new(key: KeyPair, domain: String, purse: Purse) -> Self {
        let (wall, deadlines) = (WallClock::system(), Deadlines::default());
        Self { key, domain, owner: None, purse, bind: None, wall, deadlines }
    }
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For any answer of a door; then it is silent.
    pub silence: Duration,
    /// For a ticket alone, within `silence`; then HELLO goes out beside it.
    pub ticket: Duration,
    /// For the handshake with a cookie.
    pub handshake: Duration,
    /// For an appointment to come. When it is farther off, `connect` returns at once.
    pub appointment: Duration,
    /// For ACCEPT: the server may have to ask DNS.
    pub accept: Duration,
    /// For a stream when all are in use.
    pub stream: Duration,
    /// How long a link without streams stays open.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(5),
            ticket: Duration::from_millis(1500),
            handshake: Duration::from_secs(5),
            appointment: Duration::from_secs(120),
            accept: Duration::from_secs(15),
            stream: Duration::from_secs(10),
            linger: Duration::from_secs(60),
        }
    }
}

/// Where a domain's door is, and who it must be. Made by the caller, from pins or DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorAddress {
    /// The domain the door is for: the name its tickets are kept under.
    pub domain: String,
    /// Its addresses, the preferred first. Four are tried.
    pub addresses: Vec<SocketAddr>,
    /// The keys it may show: one, or two during a roll-over.
    pub keys: Vec<PublicKey>,
    /// SHA-256 of further keys that it may show (SubjectPublicKeyInfo), as TLSA records have them.
    pub digests: Vec<[u8; 32]>,
    /// Addresses of its second door ([`Purse::alt`]), for when the first is silent.
    pub alternates: Vec<SocketAddr>,
}

impl DoorAddress {
    /// All keys that it may show, as digests.
    fn expected(&self) -> Vec<[u8; 32]> {
        self.keys.iter().map(PublicKey::sha256).chain(self.digests.iter().copied()).collect()
    }
}

/// Opens doors. Clones share sockets, purse and appointments.
#[derive(Clone, Debug)]
pub struct DoorClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: DoorClientOptions,
    /// Shown by the next attempt.
    key: ArcSwap<KeyPair>,
    transport: Arc<TransportConfig>,
    clocks: Arc<ServerClocks>,
    calendar: Calendar,
    /// IPv4, IPv6; opened when first used.
    families: Mutex<[Option<Family>; 2]>,
}

impl DoorClient {
    /// Opens nothing yet.
    pub fn new(options: DoorClientOptions) -> Self {
        let clocks = Arc::new(ServerClocks::new(options.wall.clone()));
        let (transport, calendar, families) = (Arc::new(client_transport()), Calendar::default(), Mutex::default());
        let key = ArcSwap::from_pointee(options.key.clone());
        Self { inner: Arc::new(Inner { options, key, transport, clocks, calendar, families }) }
    }

    /// Shows another key of ours from the next attempt on. Links that stand keep theirs: it was proven when they began.
    pub fn set_key(&self, key: KeyPair) {
        self.inner.key.store(Arc::new(key));
    }

    /// What is kept on disk.
    pub fn purse(&self) -> &Purse {
        &self.inner.options.purse
    }

    /// Connects, says who we are, and waits until the server has accepted. One call makes one connection: the caller keeps
    /// the link and uses it again.
    ///
    /// # Errors
    /// [`DoorError::Silent`] after [`Deadlines::silence`] for each of the two doors, [`DoorError::Appointment`] at once when
    /// it is later than [`Deadlines::appointment`], and the others as the server answers.
    pub async fn connect(&self, door: &DoorAddress) -> Result<Link, DoorError> {
        if door.keys.is_empty() && door.digests.is_empty() {
            return Err(DoorError::Address("no key is known of the door"));
        }
        let silent = match self.try_door(door, &door.addresses).await {
            // Another key is somebody's in its place.
            Err(error @ (DoorError::Silent | DoorError::WrongKey)) => error,
            other => return other,
        };
        let mut second = door.alternates.clone();
        if let Some(alt) = self.purse().alt(&door.domain)
            && let Ok(address) = alt.host.parse()
        {
            second.push(SocketAddr::new(address, alt.port));
        }
        second.retain(|address| !door.addresses.contains(address));
        if second.is_empty() {
            return Err(silent);
        }
        tracing::info!(domain = door.domain, "the door is silent; trying its second one");
        self.try_door(door, &second).await
    }

    async fn try_door(&self, door: &DoorAddress, addresses: &[SocketAddr]) -> Result<Link, DoorError> {
        let reachable = self.reachable(addresses).await?;
        let deadline = Instant::now() + self.inner.options.deadlines.silence;
        let mut ticket = self.start_with_ticket(door, &reachable).await?;
        let mut appointment = None;
        if let Some(attempt) = &mut ticket {
            match timeout(self.inner.options.deadlines.ticket, attempt.done()).await {
                Ok(Ok(Outcome::In(connection))) => match self.introduce(door, connection).await {
                    // The purse was copied, or the domain renamed: our tickets say nothing, the key still does.
                    Err(DoorError::Refused(CloseCode::ForeignTicket)) => ticket = None,
                    other => return other,
                },
                Ok(Ok(Outcome::Come(cookie))) => appointment = Some(cookie),
                Ok(Err(Miss::Final(error))) => return Err(error),
                Ok(Err(Miss::Lost)) => ticket = None,
                Err(_) => tracing::debug!(domain = door.domain, "the ticket alone does not open the door"),
            }
        }
        let appointment = match appointment.or_else(|| self.inner.calendar.take(&door.domain, addresses)) {
            Some(appointment) => appointment,
            None => match self.ask(ticket, &reachable, deadline).await? {
                Outcome::In(connection) => return self.introduce(door, connection).await,
                Outcome::Come(appointment) => appointment,
            },
        };
        self.come(door, &reachable, appointment).await
    }

    /// HELLO, while a ticket that was not answered may still be.
    async fn ask(
        &self,
        mut ticket: Option<Attempt>,
        reachable: &[Reachable],
        deadline: Instant,
    ) -> Result<Outcome, DoorError> {
        let sockets: Vec<_> = reachable.iter().map(|(to, family)| (*to, Arc::clone(&family.socket))).collect();
        let mut answer = std::pin::pin!(prelude::ask(&sockets, deadline));
        loop {
            let done = async {
                match &mut ticket {
                    Some(attempt) => attempt.done().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = done => match done {
                    Ok(outcome) => return Ok(outcome),
                    Err(Miss::Final(error)) => return Err(error),
                    Err(Miss::Lost) => ticket = None,
                },
                answer = &mut answer => return answer?.map(Outcome::Come).ok_or(DoorError::Silent),
            }
        }
    }

    /// Waits for the appointment, and goes in with its cookie. A gate under attack may put it off.
    async fn come(
        &self,
        door: &DoorAddress,
        reachable: &[Reachable],
        mut appointment: Appointment,
    ) -> Result<Link, DoorError> {
        let deadlines = self.inner.options.deadlines;
        let patience = Instant::now() + deadlines.appointment;
        for _ in 0..PUT_OFF_MAX {
            if appointment.from > patience {
                let wait = appointment.from.saturating_duration_since(Instant::now());
                let not_before_unix_s = self.inner.clocks.wall_s().saturating_add(wait.as_secs() + 1);
                self.inner.calendar.put(&door.domain, appointment);
                return Err(DoorError::Appointment { not_before_unix_s });
            }
            let Some(to) = reachable.iter().find(|(address, _)| *address == appointment.address) else {
                return Err(DoorError::Address("the appointment is at another address"));
            };
            prelude::wait(&appointment).await;
            let attempt = Attempt::with_cookie(&self.common(door), to, &appointment.challenge);
            let done = match attempt {
                Ok(mut attempt) => timeout(deadlines.handshake, attempt.done()).await.unwrap_or(Err(Miss::Lost)),
                Err(miss) => Err(miss),
            };
            match done {
                Ok(Outcome::In(connection)) => return self.introduce(door, connection).await,
                Ok(Outcome::Come(later)) => appointment = later,
                Err(Miss::Final(error)) => return Err(error),
                Err(Miss::Lost) => return Err(DoorError::Silent),
            }
        }
        Err(DoorError::Silent)
    }

    /// Takes a ticket out of the purse, for good, and shows it at the first address.
    async fn start_with_ticket(
        &self,
        door: &DoorAddress,
        reachable: &[Reachable],
    ) -> Result<Option<Attempt>, DoorError> {
        let Some(first) = reachable.first() else { return Ok(None) };
        let now_s = self.inner.clocks.wall_s();
        let taken = keep(self.purse(), &door.domain, move |purse, domain| purse.take(domain, now_s)).await;
        let Some(Some(grant)) = taken else { return Ok(None) };
        let server_s = self.inner.clocks.estimate_s(&door.domain, self.purse());
        match Attempt::with_ticket(&self.common(door), first, &grant, server_s) {
            Ok(attempt) => Ok(Some(attempt)),
            Err(Miss::Final(error)) => Err(error),
            Err(Miss::Lost) => Ok(None),
        }
    }

    async fn introduce(&self, door: &DoorAddress, connection: quinn::Connection) -> Result<Link, DoorError> {
        let options = &self.inner.options;
        let ident = link::Ident {
            domain: options.domain.clone(),
            owner: options.owner.clone(),
            peer: door.domain.clone(),
            purse: options.purse.clone(),
            clocks: Arc::clone(&self.inner.clocks),
            deadlines: options.deadlines,
        };
        link::introduce(connection, ident).await
    }

    fn common<'a>(&'a self, door: &'a DoorAddress) -> Common<'a> {
        Common { key: self.inner.key.load_full(), expected: door.expected(), transport: &self.inner.transport }
    }

    /// The addresses that our sockets can reach. A family that the host does not have is left out.
    async fn reachable(&self, addresses: &[SocketAddr]) -> Result<Vec<Reachable>, DoorError> {
        let mut reachable = Vec::new();
        let mut failed = DoorError::Address("the door has no address of our family");
        for address in addresses.iter().filter(|address| self.may_use(address)).take(ADDRESSES_MAX) {
            match self.family(address.is_ipv6()).await {
                Ok(family) => reachable.push((*address, family)),
                Err(error) => failed = error,
            }
        }
        if reachable.is_empty() { Err(failed) } else { Ok(reachable) }
    }

    fn may_use(&self, address: &SocketAddr) -> bool {
        self.inner.options.bind.is_none_or(|bind| bind.is_ipv6() == address.is_ipv6())
    }

    async fn family(&self, is_ipv6: bool) -> Result<Family, DoorError> {
        let mut families = self.inner.families.lock().await;
        let slot = &mut families[usize::from(is_ipv6)];
        if let Some(family) = slot.as_ref().filter(|family| !family.socket.is_dead()) {
            return Ok(family.clone());
        }
        let socket = DoorSocket::open(self.inner.options.bind, is_ipv6)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            plain_endpoint(&random()?),
            None,
            Arc::clone(&socket) as Arc<dyn quinn::AsyncUdpSocket>,
            Arc::new(TokioRuntime),
        )?;
        Ok(slot.insert(Family { endpoint, socket }).clone())
    }
}

/// Uses the purse where its syncs hold nobody up. A failure costs a ticket, so it is only logged.
pub(super) async fn keep<T: Send + 'static>(
    purse: &Purse,
    domain: &str,
    work: impl FnOnce(&Purse, &str) -> Result<T, PurseError> + Send + 'static,
) -> Option<T> {
    let (purse, domain) = (purse.clone(), domain.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&purse, &domain)).await;
    match done {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the purse");
            None
        }
        Err(error) => {
            tracing::error!(%error, "the purse");
            None
        }
    }
}

#[cfg(test)]
mod tests;
