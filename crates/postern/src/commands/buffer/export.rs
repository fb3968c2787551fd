//! `buffer export`.
//!
//! With `--remove` the order is: hold each message in the buffer (durable), so that it cannot leave
//! twice; copy it; sync the copy, the second file and their directories; only then delete. After a
//! crash at any point each message is in the buffer, in the files, or in both: never in neither.
//! What fails before the deleting begins (a full disk, Ctrl-C) takes its files away again and lets
//! go what it has held.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use postern_proto::address::is_domain_or_literal;
use postern_proto::envelope::Meta;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::super::print;
use super::mbox::{Text, entry};
use super::{Facts, Kept, SIDECAR_VERSION, append_done, done_of, maildir_name, sidecar_of};
use crate::args::{ExportArgs, MailFormat};
use crate::config::data_dir;
use crate::control::client::Client;
use crate::control::{Ask, Frame, PAGE_MAX, QueueAction, class_word, unhex};
use crate::exit::{Code, Failure};
use crate::log::rfc3339;

/// `postern buffer export DOMAIN --format F TARGET [--remove]`.
pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let domain = args.domain.to_lowercase();
    if !is_domain_or_literal(&domain) {
        return Err(Failure::new(Code::Usage, format!("\"{domain}\" is not a domain")));
    }
    let data = data_dir(args.server.data.as_deref(), args.server.config.as_deref())?;
    let client = Client::connect(&data)?;
    let stop = Stop::on_signals()?;
    let sink = Sink::create(args.format, &args.target, args.remove)?;
    let mut run = Run { data, client, remove: args.remove, held: Vec::new(), stay: 0, progress: progress("exported") };
    let copied = run.copy_all(&domain, sink, &stop);
    run.progress.finish_and_clear();
    let written = copied.map_err(|failure| run.undone(failure, &domain, args))?;
    let mut out = format!("{} messages of {domain} are in {}\n", written.len(), args.target.display());
    out.push_str(&format!("what they need to come back is in {}\n", sidecar_of(&args.target).display()));
    if run.stay > 0 {
        out.push_str(&format!("{} were leaving at that moment and were not touched\n", run.stay));
    }
    print(&out)?;
    if args.remove { delete(&run.data, written, &domain, &args.target) } else { Ok(()) }
}

/// Everything is in the files: the buffer lets go of it. What is gone there already was delivered or
/// deleted by others, and must not come back with an import.
fn delete(data: &Path, written: Vec<String>, domain: &str, target: &Path) -> Result<(), Failure> {
    let again = format!("what is not deleted is held in the buffer: see `postern queue ls {domain}`");
    let done = act_on_all(data, written, QueueAction::Delete).map_err(|failure| failure.cure(again.clone()))?;
    let of = |acted: Acted| done.iter().filter(move |(_, done)| *done == acted).map(|(id, _)| id.as_str());
    let gone: Vec<&str> = of(Acted::Gone).collect();
    append_done(target, &gone)?;
    let mut out = format!("{} are deleted in the buffer\n", of(Acted::Done).count());
    if !gone.is_empty() {
        out.push_str(&format!("{} had left it before; an import leaves them out\n", gone.len()));
    }
    print(&out)?;
    match of(Acted::Not).count() {
        0 => Ok(()),
        left => Err(Failure::new(Code::Failed, format!("{left} could not be deleted")).cure(again)),
    }
}

/// One export on its way.
struct Run {
    data: PathBuf,
    client: Client,
    remove: bool,
    /// Held by us, not by the operator.
    held: Vec<String>,
    stay: u64,
    progress: ProgressBar,
}

impl Run {
    /// The ids that are in the files when it returns, all synced.
    fn copy_all(&mut self, domain: &str, mut sink: Sink, stop: &Stop) -> Result<Vec<String>, Failure> {
        let mut written = Vec::new();
        let mut after = None;
        loop {
            let ask = Ask::QueueList { domain: Some(domain.to_owned()), dead: false, after, limit: PAGE_MAX };
            let page = self.client.ask(ask)?;
            let rows: Vec<(String, bool)> =
                page["items"].as_array().into_iter().flatten().filter_map(buffered).collect();
            let mut busy = Vec::new();
            if self.remove {
                busy = self.hold(&rows)?;
            }
            for (id, held) in &rows {
                stop.check()?;
                if !busy.contains(id) && copy(&mut self.client, &mut sink, id, *held)? {
                    written.push(id.clone());
                    self.progress.inc(1);
                    continue;
                }
                self.stay += 1;
                // Its delivery goes on; if that fails for now, it must be tried again.
                if let Some(at) = self.held.iter().rposition(|ours| ours == id) {
                    let ours = vec![self.held.swap_remove(at)];
                    act_on_all(&self.data, ours, QueueAction::Release)?;
                }
            }
            after = page["after"].as_str().map(str::to_owned);
            if page["more"] != true {
                break;
            }
        }
        sink.finish()?;
        stop.check()?;
        Ok(written)
    }

    /// Those that could not be held.
    fn hold(&mut self, rows: &[(String, bool)]) -> Result<Vec<String>, Failure> {
        let free: Vec<String> = rows.iter().filter(|(_, held)| !held).map(|(id, _)| id.clone()).collect();
        // Before the answer: one that is lost may have been obeyed.
        self.held.extend(free.iter().cloned());
        let done = act_on_all(&self.data, free, QueueAction::Hold)?;
        let busy: Vec<String> = done.into_iter().filter(|(_, done)| *done != Acted::Done).map(|(id, _)| id).collect();
        self.held.retain(|id| !busy.contains(id));
        Ok(busy)
    }

    /// After a failure: nothing is held that was not, and no half of an export is left.
    fn undone(&mut self, failure: Failure, domain: &str, args: &ExportArgs) -> Failure {
        let _ = fs::remove_file(sidecar_of(&args.target));
        let _ = match args.format {
            MailFormat::Mbox => fs::remove_file(&args.target),
            MailFormat::Maildir => fs::remove_dir_all(&args.target),
        };
        let held = std::mem::take(&mut self.held);
        let all = held.len();
        let released = act_on_all(&self.data, held, QueueAction::Release);
        let not = released.map_or(all, |done| done.iter().filter(|(_, done)| *done == Acted::Not).count());
        if not == 0 {
            return failure;
        }
        let cure = format!(
            "{not} messages are still held by this export: `postern queue release ID` for each in `postern queue ls {domain}`"
        );
        failure.cure(cure)
    }
}

/// Ctrl-C and its like end the copying in order.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Os, "signals", &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            let on = |kind| signal(kind).map_err(failed);
            (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let said = stop.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            });
            said.store(true, Relaxed);
            // The files are there: the second one means it.
            runtime.block_on(interrupt.recv());
            std::process::exit(130);
        });
        Ok(Self(stop))
    }

    fn check(&self) -> Result<(), Failure> {
        if self.0.load(Relaxed) { Err(Failure::new(Code::Failed, "interrupted; nothing was exported")) } else { Ok(()) }
    }
}

/// The id of a row that is part of the buffer, and whether it is held. Dead letters and the
/// quarantine are not the buffer, and whoever sent a tentative one still waits.
fn buffered(row: &Value) -> Option<(String, bool)> {
    let ordinary = row["class"].as_u64()? < u64::from(postern_drain::QUARANTINE_CLASS);
    let state = row["state"].as_str()?;
    let here = ordinary && state != "tentative" && state != "leaving";
    here.then(|| Some((row["id"].as_str()?.to_owned(), state == "held")))?
}

/// False when it has left meanwhile, or is being delivered.
fn copy(client: &mut Client, sink: &mut Sink, id: &str, held: bool) -> Result<bool, Failure> {
    let answer = match client.ask(Ask::BufferGet { id: id.to_owned() }) {
        Err(failure) if failure.code == Code::Data => return Ok(false),
        answer => answer?,
    };
    // Also one that was leased between the list and the hold: a hold does not stop a delivery under way.
    let leased = answer["leased"] == true;
    let unreadable = |error: &dyn std::fmt::Display| Failure::new(Code::Software, format!("{id}: {error}"));
    let mut frame: Frame = serde_json::from_value(answer).map_err(|error| unreadable(&error))?;
    frame.held = held;
    let mut body = Vec::new();
    client.copy_octets(frame.octets, &mut body)?;
    if leased {
        return Ok(false);
    }
    let meta = unhex(&frame.meta).and_then(|bytes| Meta::from_bytes(&bytes).ok());
    let text = Text::of(&body);
    sink.put(&frame, meta.as_ref(), &text)?;
    Ok(true)
}

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acted {
    Done,
    /// There is no such item any more.
    Gone,
    Not,
}

/// On each id, over a few connections: their commits share syncs.
fn act_on_all(data: &Path, ids: Vec<String>, action: QueueAction) -> Result<Vec<(String, Acted)>, Failure> {
    let share = ids.len().div_ceil(CONNECTIONS).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = ids
            .chunks(share)
            .map(|ids| {
                scope.spawn(move || -> Result<Vec<(String, Acted)>, Failure> {
                    let mut client = Client::connect(data)?;
                    ids.iter()
                        .map(|id| match client.ask(Ask::QueueDo { id: id.clone(), action }) {
                            Ok(_) => Ok((id.clone(), Acted::Done)),
                            Err(failure) if matches!(failure.code, Code::Io | Code::Unavailable) => Err(failure),
                            Err(failure) if failure.code == Code::Data => Ok((id.clone(), Acted::Gone)),
                            Err(_) => Ok((id.clone(), Acted::Not)),
                        })
                        .collect()
                })
            })
            .collect();
        let mut done = Vec::new();
        for worker in workers {
            done.extend(worker.join().map_err(|_| Failure::new(Code::Software, "a worker ended in a fault"))??);
        }
        Ok(done)
    })
}

/// Where messages go.
struct Sink {
    place: Place,
    sidecar: BufWriter<File>,
    target: PathBuf,
    remove: bool,
}

enum Place {
    Maildir,
    Mbox(BufWriter<File>),
}

impl Sink {
    fn create(format: MailFormat, target: &Path, remove: bool) -> Result<Self, Failure> {
        let sidecar = sidecar_of(target);
        for path in [target, &sidecar, &done_of(target)] {
            if path.exists() {
                let what = format!("{} is there already", path.display());
                return Err(Failure::new(Code::CannotCreate, what).cure("name another target, or move that away first"));
            }
        }
        let failed = |error: std::io::Error| Failure::io(Code::CannotCreate, target.display(), &error);
        let place = match format {
            MailFormat::Mbox => Place::Mbox(BufWriter::new(new_file(target).map_err(failed)?)),
            MailFormat::Maildir => {
                for dir in ["tmp", "new", "cur"] {
                    fs::create_dir_all(target.join(dir)).map_err(failed)?;
                }
                Place::Maildir
            }
        };
        let sidecar = BufWriter::new(new_file(&sidecar).map_err(failed)?);
        Ok(Self { place, sidecar, target: target.to_owned(), remove })
    }

    fn put(&mut self, frame: &Frame, meta: Option<&Meta>, text: &Text) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Io, self.target.display(), &error);
        let at_ms = meta.map_or(0, |meta| meta.arrival.at_unix_ms);
        match &mut self.place {
            Place::Mbox(file) => {
                file.write_all(&entry(&from_line(meta, at_ms), &frame.id, text)).map_err(failed)?;
            }
            Place::Maildir => {
                let path = self.target.join("new").join(maildir_name(&frame.id, at_ms / 1000));
                new_file(&path).and_then(|mut file| file.write_all(&text.text)).map_err(failed)?;
            }
        }
        let kept = Kept {
            v: SIDECAR_VERSION,
            removed: self.remove,
            frame: frame.clone(),
            crlf: text.crlf,
            final_newline: text.final_newline,
            facts: meta.map(facts).unwrap_or_default(),
        };
        let mut line = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.sidecar.write_all(&line).map_err(failed)
    }

    /// Everything is on the disk when it returns.
    fn finish(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Io, self.target.display(), &error);
        if let Place::Mbox(file) = self.place {
            file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        } else {
            // One call for a hundred thousand small files and their directory.
            let dir = File::open(self.target.join("new")).map_err(failed)?;
            rustix::fs::syncfs(&dir).map_err(|error| failed(error.into()))?;
        }
        self.sidecar.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        crate::serve::files::sync_dir_of(&self.target).map_err(failed)
    }
}

/// Mail is nobody else's to read.
fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// `sender date`, as mbox has it; a sender with a space in it would end too early.
fn from_line(meta: Option<&Meta>, at_ms: u64) -> String {
    let sender = meta.and_then(|meta| meta.sender.as_ref()).map(ToString::to_string);
    let sender = sender.filter(|sender| sender.bytes().all(|byte| byte.is_ascii_graphic()));
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{} {}", sender.as_deref().unwrap_or("MAILER-DAEMON"), at.strftime("%a %b %e %H:%M:%S %Y"))
}

fn facts(meta: &Meta) -> Facts {
    Facts {
        sender: meta.sender.as_ref().map(ToString::to_string),
        recipients: meta.recipients.iter().map(|to| to.address.to_string()).collect(),
        peer: meta.arrival.peer.to_string(),
        helo: meta.arrival.helo.clone(),
        arrived: rfc3339(Duration::from_millis(meta.arrival.at_unix_ms)),
        class: class_word(meta.checks.class).to_owned(),
        judged: meta.judged,
    }
}

/// To standard error, and only when that is a terminal.
pub(super) fn progress(word: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{pos}} messages {word}, {{per_sec}}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Each waits for a commit; with this many they share it.
const CONNECTIONS: usize = 8;
