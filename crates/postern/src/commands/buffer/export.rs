//! `buffer export`.
//!
//! With `--remove` the order is: hold each message in the buffer (durable), so that it cannot leave
//! twice; copy it; sync the copy, the second file and their directories; only then delete. After a
//! crash at any point each message is in the buffer, in the files, or in both: never in neither.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use postern_proto::address::is_domain_or_literal;
use postern_proto::envelope::Meta;
use serde_json::Value;

use super::super::print;
use super::mbox::{Text, entry};
use super::{Facts, Kept, SIDECAR_VERSION, maildir_name, sidecar_of};
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
    let mut client = Client::connect(&data)?;
    let mut sink = Sink::create(args.format, &args.target)?;
    let progress = progress("exported");
    let mut written: Vec<String> = Vec::new();
    let (mut stay, mut after) = (0_u64, None);
    loop {
        let ask = Ask::QueueList { domain: Some(domain.clone()), dead: false, after, limit: PAGE_MAX };
        let page = client.ask(ask)?;
        let rows: Vec<(String, bool)> = page["items"].as_array().into_iter().flatten().filter_map(buffered).collect();
        let held_here = if args.remove {
            let free = rows.iter().filter(|(_, held)| !held).map(|(id, _)| id.clone()).collect();
            act_on_all(&data, free, QueueAction::Hold)?
        } else {
            Vec::new()
        };
        let busy: Vec<&String> = held_here.iter().filter(|(_, done)| !done).map(|(id, _)| id).collect();
        for (id, held) in &rows {
            if busy.contains(&id) || !copy(&mut client, &mut sink, id, *held)? {
                stay += 1;
                continue;
            }
            written.push(id.clone());
            progress.inc(1);
        }
        after = page["after"].as_str().map(str::to_owned);
        if page["more"] != true {
            break;
        }
    }
    sink.finish()?;
    let mut out = format!("{} messages of {domain} are in {}\n", written.len(), args.target.display());
    out.push_str(&format!("what they need to come back is in {}\n", sidecar_of(&args.target).display()));
    if stay > 0 {
        out.push_str(&format!("{stay} were leaving at that moment and were not touched\n"));
    }
    if args.remove {
        let done = act_on_all(&data, written, QueueAction::Delete)?;
        let left = done.iter().filter(|(_, done)| !done).count();
        out.push_str(&format!("{} are deleted in the buffer\n", done.len() - left));
        if left > 0 {
            progress.finish_and_clear();
            print(&out)?;
            let what = format!("{left} could not be deleted and are held in the buffer");
            return Err(Failure::new(Code::Failed, what).cure("`postern queue ls` shows them; an import refuses them"));
        }
    }
    progress.finish_and_clear();
    print(&out)
}

/// The id of a row that is part of the buffer, and whether it is held. Dead letters and the
/// quarantine are not the buffer, and whoever sent a tentative one still waits.
fn buffered(row: &Value) -> Option<(String, bool)> {
    let ordinary = row["class"].as_u64()? < u64::from(postern_drain::QUARANTINE_CLASS);
    let state = row["state"].as_str()?;
    let here = ordinary && state != "tentative" && state != "leaving";
    here.then(|| Some((row["id"].as_str()?.to_owned(), state == "held")))?
}

/// False when it has left meanwhile.
fn copy(client: &mut Client, sink: &mut Sink, id: &str, held: bool) -> Result<bool, Failure> {
    let answer = match client.ask(Ask::BufferGet { id: id.to_owned() }) {
        Err(failure) if failure.code == Code::Data => return Ok(false),
        answer => answer?,
    };
    let unreadable = |error: &dyn std::fmt::Display| Failure::new(Code::Software, format!("{id}: {error}"));
    let mut frame: Frame = serde_json::from_value(answer).map_err(|error| unreadable(&error))?;
    frame.held = held;
    let mut body = Vec::new();
    client.copy_octets(frame.octets, &mut body)?;
    let meta = unhex(&frame.meta).and_then(|bytes| Meta::from_bytes(&bytes).ok());
    let text = Text::of(&body);
    sink.put(&frame, meta.as_ref(), &text)?;
    Ok(true)
}

/// On each id, over a few connections: their commits share syncs. True where it was done.
pub(super) fn act_on_all(data: &Path, ids: Vec<String>, action: QueueAction) -> Result<Vec<(String, bool)>, Failure> {
    let share = ids.len().div_ceil(CONNECTIONS).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = ids
            .chunks(share)
            .map(|ids| {
                scope.spawn(move || -> Result<Vec<(String, bool)>, Failure> {
                    let mut client = Client::connect(data)?;
                    ids.iter()
                        .map(|id| match client.ask(Ask::QueueDo { id: id.clone(), action }) {
                            Err(failure) if matches!(failure.code, Code::Io | Code::Unavailable) => Err(failure),
                            answer => Ok((id.clone(), answer.is_ok())),
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
}

enum Place {
    Maildir,
    Mbox(BufWriter<File>),
}

impl Sink {
    fn create(format: MailFormat, target: &Path) -> Result<Self, Failure> {
        let sidecar = sidecar_of(target);
        for path in [target, &sidecar] {
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
        Ok(Self { place, sidecar, target: target.to_owned() })
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
