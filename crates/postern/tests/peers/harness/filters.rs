//! Real filters for tests: rspamd, SpamAssassin's spamd, OpenDKIM, and a libmilter daemon that does what
//! each mail asks of it (`scripted_milter.py`, on pymilter).
//!
//! Each can be frozen, thawed, slowed, killed and started again on its port, so that a flood can be played while it is away.
//! None asks DNS or the world, none needs a database.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{Guard, Peers, Scratch, free_port, wait_for, wait_for_port};

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Rspamd,
    Spamd,
    Opendkim,
    Scripted,
}

impl Which {
    /// Files it needs, for [`Peers::need`].
    pub(crate) fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Rspamd => &["usr/bin/rspamd"],
            Self::Spamd => &["usr/sbin/spamd", "usr/share/perl5/Mail/SpamAssassin.pm"],
            Self::Opendkim => &["usr/sbin/opendkim"],
            Self::Scripted => &["usr/lib/python3/dist-packages/Milter/__init__.py"],
        }
    }
}

/// A filter that runs, or ran.
pub(crate) struct FilterDaemon {
    which: Which,
    port: u16,
    peers: Peers,
    guard: Option<Guard>,
    scratch: Scratch,
}

impl FilterDaemon {
    pub(crate) fn start(peers: &Peers, which: Which) -> Self {
        let scratch = Scratch::new("filter");
        let mut daemon = Self { which, port: free_port(), peers: peers.clone(), guard: None, scratch };
        daemon.restart();
        daemon
    }

    /// As the configuration names it: `rspamd:127.0.0.1:PORT`.
    pub(crate) fn place(&self) -> String {
        let kind = match self.which {
            Which::Rspamd => "rspamd",
            Which::Spamd => "spamd",
            Which::Opendkim | Which::Scripted => "milter:inet",
        };
        format!("{kind}:127.0.0.1:{}", self.port)
    }

    /// It is there and answers nothing. Connections are still taken by the kernel.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on where it was.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// From now on it takes this long for each message; no time at all is as before. Not OpenDKIM.
    pub(crate) fn slow(&self, each: Duration) {
        assert!(self.which != Which::Opendkim, "{:?} cannot be slowed", self.which);
        self.scratch.file("delay", each.as_secs_f64().to_string());
    }

    /// It is gone at once, and connections are refused.
    pub(crate) fn kill(&mut self) {
        // None of them has anything to lose.
        self.signal(Signal::KILL);
        self.guard = None;
    }

    /// Starts it (again), on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let out = self.scratch.path().join("out");
        let mut command = match self.which {
            Which::Rspamd => self.rspamd(),
            Which::Spamd => self.spamd(),
            Which::Opendkim => self.opendkim(),
            Which::Scripted => self.scripted(),
        };
        let mut guard = Guard::spawn(command.current_dir(self.scratch.path()), &out);
        wait_for_port(self.port, &mut guard, &out);
        self.guard = Some(guard);
    }

    /// What the scripted milter was told, one line each, as soon as it was told a line that starts with `last`.
    pub(crate) fn heard(&self, last: &str) -> Vec<String> {
        let file = self.scratch.path().join("heard");
        wait_for(&format!("the milter to hear {last}"), || {
            let heard: Vec<String> = fs::read_to_string(&file).ok()?.lines().map(str::to_owned).collect();
            heard.iter().any(|line| line.starts_with(last)).then_some(heard)
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(guard) = &self.guard {
            guard.signal(signal);
        }
    }

    /// A config of its own: Debian's asks DNS, and compiles patterns for ten seconds.
    fn rspamd(&self) -> Command {
        let dir = self.scratch.path().display().to_string();
        let rules = self.scratch.file("test.lua", RSPAMD_RULES.replace("{delay}", &format!("{dir}/delay")));
        let tld = self.scratch.file("tld", "com\nnet\norg\nexample\n");
        let config = format!(
            r#"
options {{
  pidfile = "{dir}/rspamd.pid"; control_socket = "{dir}/control mode=0600"; tempdir = "{dir}";
  cache_file = "{dir}/cache"; stats_file = "{dir}/stats"; hs_cache_dir = "{dir}/"; url_tld = "{tld}"; filters = "";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "notice"; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
lua = "{rules}";
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 2; }}
"#,
            tld = tld.display(),
            rules = rules.display(),
            port = self.port,
        );
        let config = self.scratch.file("rspamd.conf", config);
        let mut command = self.peers.command("usr/bin/rspamd");
        command.arg("-f").arg("-c").arg(config);
        if rustix::process::geteuid().is_root() {
            // Without a user of its own on this machine it would not start.
            command.args(["-i", "-u", "root", "-g", "root"]);
        }
        let share = self.peers.path("usr/share/rspamd");
        for (name, folder) in
            [("SHAREDIR", ""), ("RULESDIR", "rules"), ("LUALIBDIR", "lualib"), ("PLUGINSDIR", "plugins")]
        {
            command.arg(format!("--var={name}={}", share.join(folder).display()));
        }
        for name in ["DBDIR", "RUNDIR", "LOGDIR"] {
            command.arg(format!("--var={name}={dir}"));
        }
        command
    }

    /// Debian's rules, and no DNS. Not `--local`, which would leave out what was known of SPF too.
    fn spamd(&self) -> Command {
        let mut command = Command::new("/usr/bin/perl");
        command.env("LD_LIBRARY_PATH", self.peers.library_path()).env("HOME", self.scratch.path());
        // Its taint mode ignores PERL5LIB.
        command.arg("-T");
        for folder in perl_folders(&self.peers) {
            command.arg(format!("-I{}", folder.display()));
        }
        command.arg(self.peers.path("usr/sbin/spamd"));
        command.args(["--nouser-config", "--syslog=stderr", "--allowed-ips=127.0.0.1"]);
        command.args(["--max-children=2", "--min-children=1"]);
        command.arg(format!("--listen=127.0.0.1:{}", self.port));
        command.arg(format!("--configpath={}", self.peers.path("usr/share/spamassassin").display()));
        command.arg(format!("--siteconfigpath={}", self.spamassassin_config().display()));
        command.arg(format!("--pidfile={}", self.scratch.path().join("pid").display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--username=nobody");
        }
        command
    }

    fn spamassassin_config(&self) -> PathBuf {
        let debian = self.peers.path("etc/spamassassin");
        for entry in fs::read_dir(debian).expect("its package has a config").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".pre") || name.ends_with(".cf") {
                self.scratch.file(&format!("spamassassin/{name}"), fs::read(entry.path()).expect("readable"));
            }
        }
        let delay = self.scratch.path().join("delay").display().to_string();
        let plugin = self.scratch.file("spamassassin/slow.pm", SPAMASSASSIN_SLOW.replace("{delay}", &delay));
        let config = format!("dns_available no\nloadplugin Slow {}\nheader SLOW eval:slow()\n", plugin.display());
        self.scratch.file("spamassassin/zz.cf", config);
        self.scratch.path().join("spamassassin")
    }

    /// Signs what comes from 127.0.0.1 for `example.com`; verifies all else, and refuses what was changed on its way.
    fn opendkim(&self) -> Command {
        let key = self.scratch.path().join("key.pem");
        let dns = self.scratch.path().join("dns");
        // One key for as long as it lives, restarts included.
        if !dns.exists() {
            openssl(&["genrsa", "-out", &key.display().to_string(), "2048"]);
            let public = openssl(&["rsa", "-in", &key.display().to_string(), "-pubout"]);
            let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
            self.scratch.file("dns", format!("test._domainkey.example.com v=DKIM1; k=rsa; p={public}\n"));
        }
        let config = format!(
            "Domain example.com\nSelector test\nKeyFile {}\nInternalHosts 127.0.0.1\nRequireSafeKeys no\n\
             Socket inet:{}@127.0.0.1\nMode sv\nSyslog no\nBackground no\nAutoRestart no\nDNSTimeout 1\n\
             On-BadSignature reject\nAlwaysAddARHeader yes\nAuthservID mx.example.com\nTestDNSData {}\n",
            key.display(),
            self.port,
            dns.display(),
        );
        let config = self.scratch.file("opendkim.conf", config);
        let mut command = self.peers.command("usr/sbin/opendkim");
        command.arg("-f").arg("-x").arg(config);
        command
    }

    fn scripted(&self) -> Command {
        let script = self.scratch.file("scripted.py", include_str!("scripted_milter.py"));
        let system = Path::new("/usr/bin/python3");
        let mut command = if system.exists() { Command::new(system) } else { self.peers.command("usr/bin/python3") };
        if !system.exists() {
            command.env("PYTHONHOME", self.peers.path("usr"));
        }
        command.env("LD_LIBRARY_PATH", self.peers.library_path());
        command.env("PYTHONPATH", self.peers.path("usr/lib/python3/dist-packages"));
        command.arg("-u").arg(script).arg(format!("inet:{}@127.0.0.1", self.port)).arg(self.scratch.path());
        command
    }
}

impl Drop for FilterDaemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().expect("openssl is on every machine that has apt");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the modules of Perl's packages are, whatever its version.
fn perl_folders(peers: &Peers) -> Vec<PathBuf> {
    let list = |folder: PathBuf| {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut folders = vec![peers.path("usr/share/perl5")];
    folders.extend(list(peers.path("usr/share/perl")));
    for machine in list(peers.path("usr/lib")) {
        folders.extend(list(machine.join("perl5")));
        folders.extend(list(machine.join("perl")));
    }
    folders
}

/// What a mail asks of rspamd by its subject.
const RSPAMD_RULES: &str = r#"
rspamd_config:register_symbol({
  name = 'POSTERN_ASKED', score = 7.0, type = 'normal', group = 'test',
  callback = function(task)
    local delay = io.open('{delay}')
    if delay then
      os.execute('sleep ' .. delay:read('*l'))
      delay:close()
    end
    local subject = task:get_header('Subject') or ''
    local ip = task:get_from_ip()
    if subject:find('soft') then task:set_pre_result('soft reject', 'come back later') end
    if subject:find('headers') then
      task:set_milter_reply({
        remove_headers = { ['X-Old'] = 0 },
        add_headers = { ['X-Ip'] = tostring(ip), ['X-Helo'] = task:get_helo() or '', ['X-Top'] = { value = 'top', order = 0 } },
      })
    end
    return subject:find('mark') ~= nil, 'by its subject'
  end,
})
"#;

/// Takes its time for each message when it is told to.
const SPAMASSASSIN_SLOW: &str = r#"
package Slow;
use Mail::SpamAssassin::Plugin;
our @ISA = ('Mail::SpamAssassin::Plugin');
sub new {
  my ($class, $main) = @_;
  my $self = $class->SUPER::new($main);
  bless $self, $class;
  $self->register_eval_rule('slow');
  return $self;
}
sub slow {
  if (open(my $delay, '<', '{delay}')) { select(undef, undef, undef, 0 + <$delay>); }
  return 0;
}
1;
"#;
