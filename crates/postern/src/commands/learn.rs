//! `learn`: whom this site knows, from what is there already.
//!
//! Sources are read one after the other, a line or a header section at a time; what they show is
//! gathered by sender (bounded), and goes to the running server in batches, or straight into
//! `DATA/trust` when none runs. Nothing is ever written to a source.

mod folders;
mod gather;
mod log;
mod mail;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use postern_trust::Writer;

use super::peer::running;
use super::print;
use crate::args::{LearnArgs, ServeArgs};
use crate::config::Config;
use crate::control::{Ask, SEEDS_MAX};
use crate::exit::{Code, Failure};
use crate::serve::trust::now_s;
use crate::serve::trust::seed::Seed;
use crate::serve::trust::store;
use gather::Gathered;

/// What tells ours from others'.
pub(super) struct Site {
    /// Our domains, lower case.
    domains: BTreeSet<String>,
    /// Names that our own servers write into Received fields, lower case.
    hosts: BTreeSet<String>,
    /// Seconds since 1970.
    now_s: u64,
}

impl Site {
    fn is_ours(&self, domain: &str) -> bool {
        self.domains.contains(domain)
    }
}

/// `postern learn`.
pub(crate) fn learn(args: &LearnArgs) -> Result<(), Failure> {
    let flags =
        ServeArgs { config: args.server.config.clone(), data: args.server.data.clone(), ..ServeArgs::default() };
    let config = Config::load(&flags)?;
    let site = site(args, &config);
    let progress = progress();
    let mut gathered = Gathered::default();
    let mut sources = 0;
    for path in logs(args) {
        sources += 1;
        read_log(&path, &site, &mut gathered, &progress)?;
    }
    for path in &args.maildirs {
        sources += 1;
        folders::maildir(path, &site, &mut gathered, &progress)?;
    }
    for path in &args.mboxes {
        sources += 1;
        folders::mbox(path, mail::Folder::Kept, &site, &mut gathered, &progress)?;
    }
    for path in &args.sent {
        sources += 1;
        folders::sent(path, &site, &mut gathered, &progress)?;
    }
    progress.finish_and_clear();
    if sources == 0 {
        let what = "there is nothing to learn from: no mail log was found in /var/log";
        return Err(Failure::new(Code::Usage, what).cure("name sources: --log FILE, --maildir DIR, --sent PATH"));
    }
    let seeds = gathered.seeds(site.now_s);
    let mut out = gathered.summary(&site);
    if args.dry_run {
        out.push_str("nothing was learnt (--dry-run)\n");
    } else {
        out.push_str(&hand_over(&config, &seeds)?);
    }
    print(&out)
}

fn site(args: &LearnArgs, config: &Config) -> Site {
    let lower = |name: &String| name.trim_end_matches('.').to_lowercase();
    let mut domains: BTreeSet<String> = args.domains.iter().map(lower).collect();
    domains.extend(config.recipients.keys().cloned());
    let mut hosts: BTreeSet<String> = args.our_hosts.iter().map(lower).collect();
    if hosts.is_empty() {
        hosts.insert(config.hostname.to_lowercase());
    }
    Site { domains, hosts, now_s: now_s() }
}

/// The logs that were named; without any source, those where distributions put them.
fn logs(args: &LearnArgs) -> Vec<PathBuf> {
    if !(args.logs.is_empty() && args.maildirs.is_empty() && args.mboxes.is_empty() && args.sent.is_empty()) {
        return args.logs.clone();
    }
    let mut found = Vec::new();
    for (dir, stem) in DEFAULT_LOGS {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(stem) && !is_compressed(path)
        }));
    }
    found.sort();
    found
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ["gz", "xz", "bz2", "zst"].iter().any(|known| ext == *known))
}

fn read_log(path: &Path, site: &Site, gathered: &mut Gathered, progress: &ProgressBar) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| Failure::io(Code::Io, path.display(), error);
    if is_compressed(path) {
        let what = format!("{} is compressed", path.display());
        return Err(Failure::new(Code::Data, what)
            .cure(format!("zcat {} | postern learn --log - (xzcat, bzcat, zstdcat)", path.display())));
    }
    progress.set_message(path.display().to_string());
    let mut read: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|error| failed(&error))?))
    };
    let mut log = log::Log::new(site);
    let mut line = Vec::new();
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line).map_err(|error| failed(&error))? == 0 {
            gathered.count_log(log.lines, log.foreign);
            return Ok(());
        }
        if line.len() <= LINE_BYTES_MAX {
            log.line(&String::from_utf8_lossy(&line), &mut |seed| gathered.add(seed));
        }
        progress.inc(1);
    }
}

/// To the server, or into the book on the disk.
fn hand_over(config: &Config, seeds: &[Seed]) -> Result<String, Failure> {
    let data = &config.settings.general.data;
    if let Some(mut client) = running(data)? {
        for batch in seeds.chunks(SEEDS_MAX) {
            client.ask(Ask::Learn { seeds: batch.to_vec() })?;
        }
        return Ok("the running server has learnt it\n".to_owned());
    }
    if !data.is_dir() {
        let what = format!("there is no data directory {}", data.display());
        return Err(
            Failure::new(Code::Usage, what).cure("name the server's with --data DIR or -c FILE, or start it once")
        );
    }
    let book = store::load(data, &config.settings.trust)?;
    let mut writer = Writer::new(book.clone());
    for evidence in seeds.iter().filter_map(Seed::evidence) {
        writer.apply(&evidence, now_s());
    }
    let path = data.join("trust");
    store::save(data, &book.snapshot()).map_err(|error| Failure::io(Code::Io, path.display(), &error))?;
    Ok(format!("no server is running: it is kept in {} for the next one\n", path.display()))
}

/// To standard error, and only when that is a terminal.
fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} read, {per_sec}  {msg}");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Debian, Red Hat, SUSE; Exim on Debian and elsewhere.
const DEFAULT_LOGS: [(&str, &str); 5] = [
    ("/var/log", "mail.log"),
    ("/var/log", "maillog"),
    ("/var/log", "mail.info"),
    ("/var/log/exim4", "mainlog"),
    ("/var/log/exim", "main"),
];
/// A line of a log; syslog's own are 8 KiB at most.
const LINE_BYTES_MAX: usize = 64 << 10;
