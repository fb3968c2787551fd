//! `buffer import`.
//!
//! Messages are told by their id: the X-Postern-Id field in an mbox, the file's name in a Maildir.
//! An mbox whose fields a tool has dropped is matched by order, but only when it has as many
//! messages as the second file has lines. What the buffer has already is left alone, and so is what
//! an earlier run has taken (TARGET.postern.done): it may have been delivered since.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use postern_proto::envelope::Meta;

use super::super::print;
use super::export::progress;
use super::mbox::{Entries, id_of, message_of, text_of};
use super::{Kept, SIDECAR_VERSION, append_done, done_of, id_of_name, sidecar_of};
use crate::args::{ImportArgs, MailFormat};
use crate::config::data_dir;
use crate::control::client::Client;
use crate::control::{FRAMES_MAX, Frame, hex, unhex};
use crate::exit::{Code, Failure};

/// `postern buffer import --format F TARGET [--judged] [--again]`.
pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let data = data_dir(args.server.data.as_deref(), args.server.config.as_deref())?;
    let mut sidecar = Sidecar::open(&sidecar_of(&args.target))?;
    if sidecar.copies > 0 && !args.again {
        let what = format!(
            "{} messages in {} are copies: the buffer kept them, and those delivered since would be delivered twice",
            sidecar.copies,
            args.target.display()
        );
        return Err(
            Failure::new(Code::Data, what).cure("export with --remove, or say --again if that is what you want")
        );
    }
    let done = read_done(&args.target)?;
    let mut batch = Batch::new(Client::connect(&data)?, args.judged, args.target.clone(), done);
    match args.format {
        MailFormat::Mbox => from_mbox(&args.target, &mut sidecar, &mut batch)?,
        MailFormat::Maildir => from_maildir(&args.target, &mut sidecar, &mut batch)?,
    }
    batch.send()?;
    batch.progress.finish_and_clear();
    batch.report(sidecar.order.len())
}

fn from_mbox(target: &Path, sidecar: &mut Sidecar, batch: &mut Batch) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(Code::Io, target.display(), &error);
    let entries = || File::open(target).map(|file| Entries::new(BufReader::new(file))).map_err(failed);
    let mut ids = Vec::new();
    let mut first = entries()?;
    while let Some(entry) = first.next().map_err(failed)? {
        ids.push(id_of(&entry).filter(|id| sidecar.places.contains_key(id)));
    }
    let named: HashSet<&String> = ids.iter().flatten().collect();
    let in_order = ids.len() == sidecar.order.len();
    let mut second = entries()?;
    let mut seen = HashSet::new();
    for (at, known) in ids.iter().enumerate() {
        let Some(entry) = second.next().map_err(failed)? else { break };
        let by_order = || sidecar.order.get(at).filter(|id| in_order && !named.contains(id)).cloned();
        let Some(id) = known.clone().or_else(by_order) else {
            batch.strangers += 1;
            continue;
        };
        if !seen.insert(id.clone()) {
            batch.twice += 1;
            continue;
        }
        let kept = sidecar.read(&id)?;
        let text = text_of(&entry, known.is_some(), kept.final_newline);
        batch.add(kept.frame, message_of(text, kept.crlf))?;
    }
    Ok(())
}

fn from_maildir(target: &Path, sidecar: &mut Sidecar, batch: &mut Batch) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(Code::Io, target.display(), &error);
    let mut files: HashMap<String, PathBuf> = HashMap::new();
    for dir in ["cur", "new"] {
        for file in fs::read_dir(target.join(dir)).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let id = path.file_name().and_then(|name| id_of_name(name.to_str()?)).map(str::to_owned);
            match id.filter(|id| sidecar.places.contains_key(id)) {
                Some(id) => batch.twice += u64::from(files.insert(id, path).is_some()),
                None => batch.strangers += 1,
            }
        }
    }
    for id in sidecar.order.clone() {
        if let Some(path) = files.get(&id) {
            let kept = sidecar.read(&id)?;
            batch.add(kept.frame, message_of(fs::read(path).map_err(failed)?, kept.crlf))?;
        }
    }
    Ok(())
}

/// What an earlier run has taken.
fn read_done(target: &Path) -> Result<HashSet<String>, Failure> {
    let path = done_of(target);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(Failure::io(Code::Io, path.display(), &error)),
    }
}

/// The second file, read line by line when a line is needed.
struct Sidecar {
    file: BufReader<File>,
    path: PathBuf,
    /// Where each line begins.
    places: HashMap<String, u64>,
    order: Vec<String>,
    /// Those that the buffer kept when they were written.
    copies: usize,
}

impl Sidecar {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::io(Code::Data, path.display(), &error)
                .cure("it keeps the envelopes, and is written beside the target by `postern buffer export`")
        };
        let mut sidecar = Self {
            file: BufReader::new(File::open(path).map_err(failed)?),
            path: path.to_owned(),
            places: HashMap::new(),
            order: Vec::new(),
            copies: 0,
        };
        let mut at = 0;
        loop {
            let mut line = String::new();
            let octets = sidecar.file.read_line(&mut line).map_err(failed)?;
            if octets == 0 {
                return Ok(sidecar);
            }
            let kept = sidecar.parse(&line)?;
            sidecar.copies += usize::from(!kept.removed);
            sidecar.places.insert(kept.frame.id.clone(), at);
            sidecar.order.push(kept.frame.id);
            at += octets as u64;
        }
    }

    fn parse(&self, line: &str) -> Result<Kept, Failure> {
        let wrong = |what: String| Failure::new(Code::Data, format!("{}: {what}", self.path.display()));
        let kept: Kept = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        match kept.v {
            SIDECAR_VERSION => Ok(kept),
            version => Err(wrong(format!("version {version} is from a later release"))),
        }
    }

    fn read(&mut self, id: &str) -> Result<Kept, Failure> {
        let failed = |error: std::io::Error| Failure::io(Code::Io, "the second file", &error);
        self.file.seek(SeekFrom::Start(self.places[id])).map_err(failed)?;
        let mut line = String::new();
        self.file.read_line(&mut line).map_err(failed)?;
        self.parse(&line)
    }
}

/// Messages on their way, and what became of those before.
struct Batch {
    client: Client,
    judged: bool,
    target: PathBuf,
    /// Taken by an earlier run.
    done: HashSet<String>,
    frames: Vec<(Frame, Vec<u8>)>,
    octets: usize,
    taken: u64,
    there: u64,
    before: u64,
    renamed: u64,
    twice: u64,
    strangers: u64,
    failed: Vec<String>,
    progress: indicatif::ProgressBar,
}

impl Batch {
    fn new(client: Client, judged: bool, target: PathBuf, done: HashSet<String>) -> Self {
        Self {
            client,
            judged,
            target,
            done,
            frames: Vec::new(),
            octets: 0,
            taken: 0,
            there: 0,
            before: 0,
            renamed: 0,
            twice: 0,
            strangers: 0,
            failed: Vec::new(),
            progress: progress("imported"),
        }
    }

    fn add(&mut self, mut frame: Frame, body: Vec<u8>) -> Result<(), Failure> {
        if self.done.contains(&frame.id) {
            self.before += 1;
            return Ok(());
        }
        let Some(mut meta) = unhex(&frame.meta).and_then(|bytes| Meta::from_bytes(&bytes).ok()) else {
            self.failed.push(format!("{}: its metadata cannot be read", frame.id));
            return Ok(());
        };
        if self.judged {
            meta.judged = true;
            // The header says what the site's own tool found; ours is of the message before that.
            meta.judgement = None;
        }
        meta.size = body.len() as u64;
        meta.eight_bit |= body.iter().any(|byte| !byte.is_ascii());
        frame.meta = hex(&meta.to_bytes());
        frame.octets = meta.size;
        if self.octets + body.len() > BATCH_BYTES || self.frames.len() == FRAMES_MAX {
            self.send()?;
        }
        self.octets += body.len();
        self.frames.push((frame, body));
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let answer = self.client.put(&self.frames)?;
        self.progress.inc(self.frames.len() as u64);
        self.frames.clear();
        self.octets = 0;
        let ids = |key: &str| answer[key].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        append_done(&self.target, &ids("taken").chain(ids("there")).collect::<Vec<_>>())?;
        self.taken += ids("taken").count() as u64;
        self.there += ids("there").count() as u64;
        self.renamed += answer["renamed"].as_array().map_or(0, |renamed| renamed.len() as u64);
        for failed in answer["failed"].as_array().into_iter().flatten() {
            let word = |key: &str| failed[key].as_str().unwrap_or("?");
            self.failed.push(format!("{}: {}", word("id"), word("what")));
        }
        Ok(())
    }

    fn report(&self, exported: usize) -> Result<(), Failure> {
        let mut out = format!("{} of {exported} exported messages are in the buffer again\n", self.taken);
        let mut say = |n: u64, words: &str| {
            if n > 0 {
                out.push_str(&format!("{n} {words}\n"));
            }
        };
        say(self.renamed, "of them have a new id: others in the spool still carry the body of the old one");
        say(self.before, "were taken by an earlier import, or had left before the export ended: they were left out");
        say(self.there, "were there already and were left alone");
        say(self.twice, "are in the files twice; the first was taken");
        say(self.strangers, "are none of the exported ones and were left out");
        print(&out)?;
        if self.failed.is_empty() {
            return Ok(());
        }
        let shown: Vec<&str> = self.failed.iter().take(SHOWN_MAX).map(String::as_str).collect();
        let what = format!("{} could not be taken:\n  {}", self.failed.len(), shown.join("\n  "));
        Err(Failure::new(Code::Failed, what).cure("the files are unchanged: repeat the import when the cause is gone"))
    }
}

/// One sync for about this much; a larger message goes alone.
const BATCH_BYTES: usize = 1 << 20;
/// Failures that are named one by one.
const SHOWN_MAX: usize = 20;
