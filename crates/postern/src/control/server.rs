//! The server's end of the control socket: reads requests, asks the owners, writes answers.
//!
//! It holds handles only. A slow or silent command costs one of a bounded number of tasks and is
//! dropped at a deadline; no door or drain ever waits for one.

use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use postern_doors::Policy;
use postern_drain::DrainHandle;
use postern_spool::{BodySource, ItemId, Spool, SpoolError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Answer, Ask, PAGE_MAX, QueueAction, REQUEST_BYTES_MAX, Request, Response, SEEDS_MAX, VERSION, buffer, socket_path,
    trust,
};
use crate::config::parse::nearest;
use crate::exit::{Code, Failure};
use crate::serve::Shared;
use crate::serve::judging::Judging;
use crate::serve::modes::ModesHandle;
use crate::serve::own::OwnKeys;
use crate::serve::peers::DoorPeers;
use crate::serve::queue;
use crate::serve::status::StatusSource;
use crate::serve::trust::seed::Seed;

/// Who is asked what.
pub(crate) struct Owners {
    /// What is in the spool.
    pub(crate) spool: Spool,
    /// What leaves.
    pub(crate) drain: DrainHandle,
    /// When senders are answered.
    pub(crate) modes: ModesHandle,
    /// Who judges.
    pub(crate) judging: Judging,
    /// Peers of the postern with pinned keys.
    pub(crate) peers: DoorPeers,
    /// Our own keys; `None`: no postern.
    pub(crate) own: Option<OwnKeys>,
    /// Which domains are ours.
    pub(crate) policy: Shared<Policy>,
    /// What `status` shows.
    pub(crate) status: StatusSource,
    /// Read the configuration again; the answer comes back.
    pub(crate) reload: mpsc::Sender<Reload>,
}

/// A request to read the configuration again.
pub(crate) type Reload = tokio::sync::oneshot::Sender<Result<Value, Failure>>;

/// The bound socket; its file goes when it is dropped.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Opens the socket, mode 0600. A file that nobody listens on (after `kill -9`) is replaced; call
/// [`super::client::running`] first. Needs a runtime.
///
/// # Errors
/// [`Code::CannotCreate`] or [`Code::NoPermission`].
pub(crate) fn bind(data: &Path) -> Result<ControlSocket, Failure> {
    let path = socket_path(data);
    let failed = |error: &io::Error| {
        Failure::io(Code::CannotCreate, path.display(), error)
            .cure("the data directory must be writable for the server's user")
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    // Its directory is 0700: between these two calls nobody else can reach the socket.
    let listener = UnixListener::bind(&path).map_err(|error| failed(&error))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(|error| failed(&error))?;
    Ok(ControlSocket { listener, path })
}

/// Serves commands for ever.
pub(crate) async fn serve(socket: ControlSocket, owners: Rc<Owners>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = slots.clone().acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let owners = owners.clone();
                tokio::task::spawn_local(async move {
                    let _permit = permit;
                    if let Err(error) = converse(stream, &owners).await {
                        tracing::debug!(%error, "control connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, owners: &Owners) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_BYTES_MAX as u64);
        let length = tokio::time::timeout(REQUEST_WAIT, limited.read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let (answer, body) = match serde_json::from_slice::<Request>(&line) {
            Ok(Request { v: VERSION, ask: Ask::BufferPut { frames } }) => {
                (buffer::put(&owners.spool, frames, &mut read).await?, None)
            }
            Ok(request) if request.v == VERSION => answer(request.ask, owners).await,
            Ok(request) => (Err(wrong_version(request.v)), None),
            Err(error) => (Err(Failure::new(Code::Usage, format!("not a request: {error}"))), None),
        };
        let answer = match answer {
            Ok(value) => Answer::Ok(value),
            Err(failure) => Answer::Error { code: failure.code as u8, what: failure.what, cure: failure.cure },
        };
        let mut line = serde_json::to_vec(&Response { v: VERSION, answer }).unwrap_or_default();
        line.push(b'\n');
        tokio::time::timeout(WRITE_WAIT, write.write_all(&line)).await??;
        if let Some(body) = body {
            send_body(&body, &mut write).await?;
        }
    }
}

fn wrong_version(theirs: u32) -> Failure {
    Failure::new(Code::Software, format!("the command speaks version {theirs}, the server {VERSION}"))
        .cure("use the `postern` of the release that is running, or restart the server")
}

async fn answer(ask: Ask, owners: &Owners) -> (Result<Value, Failure>, Option<BodySource>) {
    let result = match ask {
        Ask::Status => Ok(owners.status.show(owners).await),
        Ask::SetMode { domain, mode } => set_mode(owners, domain, mode).await,
        Ask::Drain { domain, rate } => {
            let domain = domain.map(|domain| domain.to_lowercase());
            let note = stranger(owners, domain.as_deref());
            let released = owners.drain.release(domain, rate).await;
            Ok(json!({
                "at_rate": released.covered_by_rate, "anyway": released.leaving_anyway, "note": note,
            }))
        }
        Ask::QueueList { domain, dead, after, limit } => list(owners, domain, dead, after, limit).await,
        Ask::QueueShow { id, body } => return show(owners, &id, body).await,
        Ask::QueueDo { id, action } => act(owners, &id, action).await,
        Ask::Reload => reload(owners).await,
        Ask::Why { what } => trust::why(owners, &what).await,
        Ask::Report { spam, what } => trust::report(owners, spam, &what).await,
        Ask::Learn { seeds } => learn(owners, seeds).await,
        Ask::Pin { change } => trust::pin(owners, change).await,
        Ask::Peer { change } => trust::peer(owners, change),
        Ask::OwnKeys => own_keys(owners),
        Ask::PanicDoor => Ok(json!({ "done": owners.status.panic_door() })),
        Ask::Domains => Ok(json!({ "domains": trust::domains(owners) })),
        Ask::Bypass { on } => trust::bypass(owners, on),
        Ask::BufferGet { id } => return get(owners, &id).await,
        Ask::BufferPut { .. } => Err(Failure::new(Code::Software, "its frames were not read")),
    };
    (result, None)
}

async fn set_mode(
    owners: &Owners,
    domain: Option<String>,
    mode: Option<postern_proto::mode::Mode>,
) -> Result<Value, Failure> {
    let domain = domain.map(|domain| domain.to_lowercase());
    if let Some(domain) = domain.as_deref().filter(|domain| !postern_proto::address::is_domain_or_literal(domain)) {
        return Err(Failure::new(Code::Usage, format!("\"{domain}\" is not a domain")));
    }
    tracing::info!(
        domain = domain.as_deref().unwrap_or("all"),
        mode = mode.map_or("auto", |mode| mode.as_str()),
        "mode"
    );
    let note = stranger(owners, domain.as_deref());
    let mut modes = owners.modes.command(domain, mode).await.map_err(|what| Failure::new(Code::Io, what))?;
    modes["note"] = note.into();
    Ok(modes)
}

/// What to say of a domain that the configuration does not have. Not an error: mail for it may
/// have come in by the relay listener, or before the configuration changed.
fn stranger(owners: &Owners, domain: Option<&str>) -> Option<String> {
    let policy = owners.policy.load();
    let domain = domain.filter(|domain| !policy.domains.contains_key(*domain))?;
    let meant = nearest(domain, policy.domains.keys().map(String::as_str));
    let meant = meant.map_or_else(String::new, |known| format!("; did you mean {known}?"));
    Some(format!("{domain} is not among our domains (relay mail may still have it){meant}"))
}

async fn reload(owners: &Owners) -> Result<Value, Failure> {
    let (done, answer) = tokio::sync::oneshot::channel();
    let stopping = || Failure::new(Code::Unavailable, "the server is stopping");
    owners.reload.send(done).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

/// A server without a postern has none in use, and so uses the ones that are there.
fn own_keys(owners: &Owners) -> Result<Value, Failure> {
    owners.own.as_ref().map_or(Ok(Value::Null), OwnKeys::reload)
}

async fn list(
    owners: &Owners,
    domain: Option<String>,
    dead: bool,
    after: Option<String>,
    limit: usize,
) -> Result<Value, Failure> {
    let mut after = after.map(|id| parse_id(&id)).transpose()?;
    let domain = domain.map(|domain| domain.to_lowercase());
    let limit = limit.min(PAGE_MAX);
    let mut rows = Vec::new();
    loop {
        let page = owners.spool.list(domain.clone(), after, PAGE_MAX).await;
        let last_page = page.len() < PAGE_MAX;
        for summary in page {
            if rows.len() == limit {
                return Ok(json!({ "items": rows, "more": true, "after": after.map(|id| id.to_string()) }));
            }
            after = Some(summary.id);
            if !dead || queue::is_dead(&summary) {
                // Gone between the two questions: delivered meanwhile.
                rows.extend(owners.spool.show(summary.id).await.map(|item| queue::row(&item)));
            }
        }
        if last_page {
            return Ok(json!({ "items": rows, "more": false }));
        }
    }
}

async fn learn(owners: &Owners, seeds: Vec<Seed>) -> Result<Value, Failure> {
    if seeds.len() > SEEDS_MAX {
        return Err(Failure::new(Code::Usage, format!("{} seeds at once", seeds.len())));
    }
    let used = owners.judging.trust.seed(seeds).await;
    used.map(|used| json!({ "used": used })).ok_or_else(|| Failure::new(Code::Unavailable, "the server is stopping"))
}

async fn get(owners: &Owners, id: &str) -> (Result<Value, Failure>, Option<BodySource>) {
    let got = match parse_id(id) {
        Ok(id) => buffer::get(&owners.spool, id).await,
        Err(failure) => Err(failure),
    };
    match got {
        Ok((frame, body)) => (Ok(frame), Some(body)),
        Err(failure) => (Err(failure), None),
    }
}

async fn show(owners: &Owners, id: &str, body: bool) -> (Result<Value, Failure>, Option<BodySource>) {
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(failure) => return (Err(failure), None),
    };
    match owners.spool.show(id).await {
        None => (Err(not_found(id)), None),
        Some(item) if body => (Ok(json!({ "octets": item.body.len() })), Some(item.body)),
        Some(item) => (Ok(queue::detail(&item)), None),
    }
}

async fn act(owners: &Owners, id: &str, action: QueueAction) -> Result<Value, Failure> {
    let id = parse_id(id)?;
    let done = match action {
        QueueAction::Hold => owners.spool.hold(id, true).await,
        QueueAction::Release => release(&owners.spool, id).await,
        QueueAction::Delete => owners.spool.delete(id).await,
        QueueAction::Retry => retry(&owners.spool, id).await,
    };
    tracing::info!(%id, ?action, ok = done.is_ok(), "queue command");
    match done {
        Ok(()) => {
            owners.drain.wake();
            Ok(Value::Null)
        }
        Err(SpoolError::NotFound) => Err(not_found(id)),
        Err(error @ (SpoolError::Leased | SpoolError::Tentative)) => {
            Err(Failure::new(Code::Failed, format!("{id}: {error}")).cure("try again in a moment"))
        }
        Err(error) => Err(Failure::new(Code::Io, format!("{id}: {error}"))),
    }
}

/// Out of the quarantine, with the marks of spam: `report ham` takes those off. Else no longer held.
async fn release(spool: &Spool, id: ItemId) -> Result<(), SpoolError> {
    let now = crate::serve::now_unix_ms();
    let quarantined = postern_drain::release_quarantined(spool, id, postern_drain::ReleaseAs::Marked, now).await?;
    if quarantined { Ok(()) } else { spool.hold(id, false).await }
}

/// A dead letter comes back into the queue (under a new id), any other item is due now.
async fn retry(spool: &Spool, id: ItemId) -> Result<(), SpoolError> {
    let now = crate::serve::now_unix_ms();
    if postern_drain::revive(spool, id, now).await? { Ok(()) } else { spool.retry(id, now).await }
}

async fn send_body(body: &BodySource, write: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
    match body {
        BodySource::Inline(bytes) => tokio::time::timeout(WRITE_WAIT, write.write_all(bytes)).await??,
        BodySource::File { file, len } => {
            let mut piece = vec![0; BODY_PIECE_BYTES];
            let mut at = 0;
            while at < *len {
                let want = usize::try_from(len - at).unwrap_or(usize::MAX).min(piece.len());
                file.read_exact_at(&mut piece[..want], at)?;
                tokio::time::timeout(WRITE_WAIT, write.write_all(&piece[..want])).await??;
                at += want as u64;
            }
        }
    }
    Ok(())
}

fn parse_id(text: &str) -> Result<ItemId, Failure> {
    let wrong = |error| Failure::new(Code::Data, format!("\"{text}\": {error}")).cure("`postern queue ls` shows them");
    text.parse().map_err(wrong)
}

fn not_found(id: ItemId) -> Failure {
    Failure::new(Code::Data, format!("{id} is not in the spool")).cure("it was delivered or deleted; the log says when")
}

/// Commands at once; each is a person or a script.
const CONNECTIONS_MAX: usize = 32;
/// A connection that asks nothing.
const REQUEST_WAIT: Duration = Duration::from_secs(60);
/// A command that does not read its answer.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const BODY_PIECE_BYTES: usize = 64 * 1024;
