//! Real mail servers to test against, from Debian's packages, unpacked aside.
//!
//! Never installs anything: a developer's own mail server stays as it is. The packages are downloaded by apt (which
//! checks their signatures) and unpacked into `target/peers/root`, or `$POSTERN_PEERS/root`. The harness in
//! `crates/postern/tests/peers/harness` knows how to run each of them from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run;

/// What the tests and benches talk to. `openssl` makes keys and is on every machine that has apt.
const PACKAGES: [&str; 13] = [
    "postfix",
    "dovecot-core",
    "dovecot-lmtpd",
    "opendkim",
    "swaks",
    "libnet-ssleay-perl",
    "rspamd",
    "spamassassin",
    "spamd",
    "python3-milter",
    "nsd",
    "unbound",
    "ldnsutils",
];

/// A file of each peer: when all are there, nothing is left to do.
const LANDMARKS: [&str; 11] = [
    "usr/lib/postfix/sbin/master",
    "usr/sbin/smtp-source",
    "usr/lib/dovecot/lmtp",
    "usr/sbin/opendkim",
    "usr/bin/swaks",
    "usr/bin/rspamd",
    "usr/sbin/spamd",
    "usr/lib/python3/dist-packages/Milter/__init__.py",
    "usr/sbin/nsd",
    "usr/sbin/unbound",
    "usr/bin/ldns-signzone",
];

/// Written last, so that an interrupted run starts again. It names the packages: when a test needs a further one, the
/// tree is made anew.
const STAMP: &str = "complete";

/// Makes the directory of peers when it is not there yet, and returns it.
pub(crate) fn make() -> Result<PathBuf> {
    let dir = std::env::var_os("POSTERN_PEERS").map_or_else(|| run::target().join("peers"), PathBuf::from);
    let made = fs::read_to_string(dir.join(STAMP)).unwrap_or_default();
    if PACKAGES.iter().all(|package| made.lines().any(|line| line == *package))
        || LANDMARKS.iter().all(|file| Path::new("/").join(file).exists())
    {
        fs::create_dir_all(&dir)?;
        return Ok(dir.canonicalize()?);
    }
    if !run::on_path("apt-get") || !run::on_path("dpkg") {
        bail!(
            "real peers come from Debian's packages, and apt-get is not here.\n\
             Install {} (or set POSTERN_PEERS to a directory made on a Debian machine) and start again.",
            PACKAGES.join(", ")
        );
    }
    let debs = dir.join("debs");
    fs::create_dir_all(&debs)?;
    let packages = packages_to_unpack()?;
    eprintln!("peers: {} packages into {}", packages.len(), dir.display());
    download(&debs, &packages)?;
    let root = dir.join("root");
    fs::create_dir_all(&root)?;
    for entry in fs::read_dir(&debs)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            run::check(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
        }
    }
    make_dovecot_movable(&root)?;
    for file in LANDMARKS {
        if !root.join(file).exists() {
            bail!("the packages were unpacked into {}, but {file} is not among them", root.display());
        }
    }
    fs::write(dir.join(STAMP), packages.join("\n"))?;
    Ok(dir.canonicalize()?)
}

/// More packages, by themselves: they may exclude each other when installed, and only these are unpacked. Returns the
/// root they were unpacked into.
pub(crate) fn make_more(packages: &[&str], landmarks: &[&str]) -> Result<PathBuf> {
    let dir = std::env::var_os("POSTERN_PEERS").map_or_else(|| run::target().join("peers"), PathBuf::from).join("more");
    let (debs, root) = (dir.join("debs"), dir.join("root"));
    let complete = || landmarks.iter().all(|file| root.join(file).exists());
    if !complete() {
        fs::create_dir_all(&debs)?;
        fs::create_dir_all(&root)?;
        let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
        download(&debs, &packages)?;
        for entry in fs::read_dir(&debs)? {
            run::check(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&root))?;
        }
        if !complete() {
            bail!("the packages were unpacked into {}, but not all of {landmarks:?} are there", root.display());
        }
    }
    Ok(root.canonicalize()?)
}

/// The peers and whatever they need that this machine does not have. `--simulate` changes nothing and needs no root.
fn packages_to_unpack() -> Result<Vec<String>> {
    let simulate = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "--simulate", "--no-install-recommends"]).args(PACKAGES).env("LC_ALL", "C");
        run::output(&mut command)
    };
    let plan = match simulate() {
        Ok(plan) => plan,
        Err(why) if rustix::process::geteuid().is_root() => {
            eprintln!("peers: refreshing the package lists ({})", why.to_string().lines().next().unwrap_or_default());
            update()?;
            simulate()?
        }
        Err(why) => bail!(
            "{why}\n\nThe package lists are empty: run `apt-get update` once as root, or install {}.",
            PACKAGES.join(", ")
        ),
    };
    let needed = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let mut packages: Vec<String> = PACKAGES.into_iter().chain(needed).map(str::to_owned).collect();
    packages.sort_unstable();
    packages.dedup();
    Ok(packages)
}

/// Downloads into `debs`. Lists that are out of date name files the mirror no longer has: refreshed once.
fn download(debs: &Path, packages: &[String]) -> Result<()> {
    let fetch = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "-q"]).args(packages).current_dir(debs);
        // Root would otherwise be asked to hand the folder to the user `_apt` and warn that it cannot.
        command.args(["-o", "APT::Sandbox::User=root"]).args(PATIENT).stdout(Stdio::null());
        run::check(&mut command)
    };
    if fetch().is_ok() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("apt-get download failed; run `apt-get update` as root and start again");
    }
    update()?;
    fetch()
}

/// New package lists. Another apt may hold them (a machine that has just started looks for updates by itself): it is waited for.
fn update() -> Result<()> {
    let mut tries = 0..UPDATES_MAX;
    loop {
        match run::check(Command::new("apt-get").args(["update", "-q"]).args(PATIENT).stdout(Stdio::null())) {
            Err(_) if tries.next().is_some() => std::thread::sleep(UPDATE_PAUSE),
            other => return other,
        }
    }
}

/// A mirror may fail once.
const PATIENT: [&str; 2] = ["-o", "Acquire::Retries=5"];
/// Two minutes: longer than apt's own look at start takes.
const UPDATES_MAX: u32 = 12;
/// See [`UPDATES_MAX`].
const UPDATE_PAUSE: Duration = Duration::from_secs(10);

/// Dovecot's library has the path of its modules compiled in and reads it before its config. In our copy the path
/// becomes a relative one of the same length; Dovecot's working directory holds a link of that name (see the harness).
fn make_dovecot_movable(root: &Path) -> Result<()> {
    const COMPILED_IN: &[u8] = b"/usr/lib/dovecot/modules\0";
    const RELATIVE: &[u8] = b"modules/////////////////\0";
    const { assert!(COMPILED_IN.len() == RELATIVE.len(), "the library's layout must not move") };
    for file in ["libdovecot-storage.so.0.0.0", "libdovecot.so.0.0.0", "lmtp"] {
        let path = root.join("usr/lib/dovecot").join(file);
        let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let found: Vec<usize> =
            bytes.windows(COMPILED_IN.len()).enumerate().filter(|(_, w)| *w == COMPILED_IN).map(|(at, _)| at).collect();
        for at in found {
            bytes[at..at + RELATIVE.len()].copy_from_slice(RELATIVE);
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
}
