//! `check`: would this configuration work here? The file first, then its surroundings.
//!
//! Everything is looked at even when something is wrong already: the operator wants the whole list.
//! It changes nothing, except that it opens and closes addresses and connects to next hops.

mod certificate;
mod door;
mod judging;
mod next_hop;
mod place;
mod published;

use std::path::Path;

use postern_drain::Route;

use super::print;
use crate::args::{CheckArgs, ServeArgs};
use crate::config::Config;
use crate::config::sample::sample;
use crate::config::values::RecipientsSetting;
use crate::exit::{Code, Failure};

/// What was found, in order.
#[derive(Debug, Default)]
struct Findings {
    lines: Vec<String>,
    wrong: usize,
}

impl Findings {
    /// As it should be.
    fn good(&mut self, what: impl AsRef<str>) {
        self.push("ok   ", what.as_ref(), "");
    }

    /// Works, but the operator should know.
    fn note(&mut self, what: impl AsRef<str>, cure: &str) {
        self.push("note ", what.as_ref(), cure);
    }

    /// Would not work.
    fn wrong(&mut self, what: impl AsRef<str>, cure: &str) {
        self.wrong += 1;
        self.push("WRONG", what.as_ref(), cure);
    }

    fn push(&mut self, level: &str, what: &str, cure: &str) {
        self.lines.push(format!("{level}  {what}"));
        if !cure.is_empty() {
            self.lines.push(format!("         {cure}"));
        }
    }
}

/// `postern check [FILE]`.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    if args.print_sample {
        return print(&sample());
    }
    let flags = ServeArgs { config: args.file.clone(), ..ServeArgs::default() };
    let config = Config::load(&flags)?;
    let mut findings = Findings::default();
    place::check_data_dir(&config, &mut findings);
    place::check_addresses(&config, &mut findings);
    place::check_user_and_limits(&config, &mut findings);
    check_recipients(&config, &mut findings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(Code::Os, "cannot start", &error))?;
    runtime.block_on(async {
        for (key, route) in config.routes() {
            next_hop::check(&config, &key, route, &mut findings).await;
        }
        certificate::check(&config, &mut findings).await;
        door::check(&config, &mut findings).await;
        judging::check_filters(&config, &mut findings).await;
        judging::check_lists(&config, &mut findings).await;
    });
    let mut out = would_run(&config, args.file.as_deref());
    out.push('\n');
    for line in &findings.lines {
        out.push_str(line);
        out.push('\n');
    }
    print(&out)?;
    match findings.wrong {
        0 => Ok(()),
        1 => Err(Failure::new(Code::Failed, "one thing is wrong, see above")),
        wrong => Err(Failure::new(Code::Failed, format!("{wrong} things are wrong, see above"))),
    }
}

fn would_run(config: &Config, file: Option<&Path>) -> String {
    let file = file.map_or_else(|| "no configuration file".to_owned(), |file| file.display().to_string());
    let settings = &config.settings;
    let mut out = format!("{file}: would run as {}\n", config.hostname);
    let listen: Vec<String> = settings.smtp.listen.0.iter().map(ToString::to_string).collect();
    let relay = settings.relay.listen.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    out.push_str(&format!(
        "  smtp {}, relay {relay}, data in {}\n",
        listen.join(", "),
        settings.general.data.display()
    ));
    for (domain, setting) in config.recipients.iter().take(DOMAINS_SHOWN) {
        let who = match setting {
            RecipientsSetting::Any => "any recipient".to_owned(),
            RecipientsSetting::List(list) => format!("{} recipients", list.len()),
            RecipientsSetting::File(file) => format!("recipients from {}", file.display()),
            RecipientsSetting::Dir(dir) => format!("recipients from {}", dir.display()),
            RecipientsSetting::Callout => "recipients asked of the next hop".to_owned(),
        };
        out.push_str(&format!("  {domain}: {who}, {} -> {}\n", config.mode_of(domain), config.route_of(domain)));
    }
    if config.recipients.len() > DOMAINS_SHOWN {
        out.push_str(&format!("  and {} more domains\n", config.recipients.len() - DOMAINS_SHOWN));
    }
    if let Some(route) = &config.relay_next_hop {
        out.push_str(&format!("  relayed mail -> {route}\n"));
    }
    out
}

fn check_recipients(config: &Config, findings: &mut Findings) {
    let mut names = crate::serve::names::NameSources::default();
    for complaint in names.load(&config.recipients) {
        findings.wrong(complaint, "the file or directory must be there and readable for the server's user");
    }
    check_any_recipient(config, findings);
    for (domain, names) in names.iter() {
        if matches!(names, crate::serve::names::Names::Known(names) if names.is_empty()) {
            findings.note(format!("{domain} has no recipients: all but postmaster are refused"), "");
        }
    }
    for domain in config.deliver_by_domain.keys().chain(config.mode_by_domain.keys()) {
        if !config.recipients.contains_key(domain) {
            findings.note(
                format!("[domain.\"{domain}\"] is not among the accepted domains"),
                &format!("accept it: [recipients] \"{domain}\" = \"any\""),
            );
        }
    }
}

/// A next hop that refuses a name is heard in the session only when that name is alone in it.
fn check_any_recipient(config: &Config, findings: &mut Findings) {
    let any = config.recipients.iter().filter(|(_, setting)| **setting == RecipientsSetting::Any);
    let remote = any.filter(|(domain, _)| matches!(config.route_of(domain), Route::Lmtp(_) | Route::Smtp { .. }));
    let domains: Vec<&str> = remote.map(|(domain, _)| domain.as_str()).take(DOMAINS_SHOWN).collect();
    if !domains.is_empty() {
        findings.note(
            format!(
                "any recipient in front of a next hop ({}): a name that it does not know becomes a dead letter when the message has other recipients or was already answered 250",
                domains.join(", ")
            ),
            "let unknown names be refused at RCPT: { callout = true }, { file = \"…\" } or { list = […] } in [recipients]",
        );
    }
}

/// Domains that are listed one by one.
const DOMAINS_SHOWN: usize = 20;
