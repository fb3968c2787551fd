//! Breaks a promise on purpose and requires that a named test turns red.
//!
//! A test that passes whether or not the disk is synced tests nothing. Each mutant replaces a few lines of a copy of the
//! tree in `target/mutants` (the work tree is never touched); its test must pass before and fail after. When the lines
//! have changed so that they are no longer found exactly once, the task fails: the mutant is to be brought up to date.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{run, suite};

/// A change that breaks a promise, and the test that must notice.
struct Mutant {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// Arguments of `cargo test`: package, which binary, and after `--` the full name of one test.
    cargo: &'static [&'static str],
    test: &'static str,
}

const WRITER: &str = "crates/postern-spool/src/engine/writer.rs";
const SIM: &[&str] = &["--package", "postern-sim", "--test", "spool"];
const SPOOL: &[&str] = &["--package", "postern-spool", "--lib"];
const DOORS: &[&str] = &["--package", "postern-doors", "--lib"];
const POSTERN: &[&str] = &["--package", "postern-doors", "--test", "postern"];
const POWER: &str = "nothing_promised_is_lost_when_the_power_goes_at_any_moment";

const MUTANTS: [Mutant; 17] = [
    Mutant {
        name: "no-sync",
        file: WRITER,
        from: "                Some((slot, _)) => self.sync_log(slot, Phase::Sync),\n",
        to: "                Some(_) => self.apply_front(),\n",
        cargo: SIM,
        test: POWER,
    },
    Mutant {
        name: "no-sync-in-the-kernel",
        file: "crates/postern-spool/src/real_disk.rs",
        from: "self.segment(segment)?.file.sync_data()?;",
        to: "self.segment(segment)?;",
        cargo: SPOOL,
        test: "real_disk::tests::a_log_sync_reaches_the_kernel_and_its_failure_comes_back",
    },
    Mutant {
        name: "reply-before-sync",
        file: WRITER,
        from: "\
                Some((slot, _)) => self.sync_log(slot, Phase::Sync),
                None => self.fail(\"a batch was written to no segment\".into()),
            },
            Phase::Sync => self.apply_front(),
",
        to: "\
                Some((slot, _)) => {
                    self.apply_front();
                    self.sync_log(slot, Phase::Sync);
                }
                None => self.fail(\"a batch was written to no segment\".into()),
            },
            Phase::Sync => {}
",
        cargo: SIM,
        test: POWER,
    },
    Mutant {
        name: "no-directory-sync",
        file: WRITER,
        from: "            (Waiting::CreatedSynced(no), Ok(())) => self.submit(DiskOpKind::SyncLogDir, Waiting::CreatedNamed(no)),
            (Waiting::CreatedNamed(no), Ok(())) => {
",
        to: "            (Waiting::CreatedSynced(no) | Waiting::CreatedNamed(no), Ok(())) => {\n",
        cargo: SIM,
        test: POWER,
    },
    Mutant {
        name: "stale-generation",
        file: "crates/postern-spool/src/record.rs",
        from: "self.life == life && self.offset == offset",
        to: "(self.life == life || self.life.generation > 0) && self.offset == offset",
        cargo: SPOOL,
        test: "scan::tests::a_recycled_segment_never_gives_back_records_of_an_earlier_life",
    },
    Mutant {
        name: "no-directory-sync-in-the-kernel",
        file: "crates/postern-spool/src/real_disk.rs",
        from: "DiskOpKind::SyncLogDir => self.log_dir.sync_all()?,",
        to: "DiskOpKind::SyncLogDir => {}",
        cargo: SPOOL,
        test: "real_disk::tests::a_directory_sync_reaches_the_kernel_and_its_failure_comes_back",
    },
    Mutant {
        name: "judged-dropped",
        file: "crates/postern-proto/src/envelope.rs",
        from: "postcard::to_extend(self, bytes)",
        to: "postcard::to_extend(&Self { judged: false, ..self.clone() }, bytes)",
        cargo: &["--package", "postern-proto", "--lib"],
        test: "envelope::tests::what_was_judged_and_all_else_is_read_as_it_was_written",
    },
    Mutant {
        name: "evicted-after-the-dot",
        file: "crates/postern-proto/src/session.rs",
        from: "if self.has_ended_message() || self.is_closed() {",
        to: "if self.is_closed() {",
        cargo: DOORS,
        test: "conn::tests::an_eviction_gives_back_what_was_stored_and_never_comes_between_dot_and_reply",
    },
    Mutant {
        name: "borrowed-findings",
        file: "crates/postern-doors/src/runtime.rs",
        from: "slot.serial == serial && slot.looked_into.get() == key;",
        to: "slot.serial == serial && slot.looked_into.get() != 0;",
        cargo: DOORS,
        test: "runtime::tests::an_answer_about_one_sender_lends_nothing_to_the_next_one_of_the_same_connection",
    },
    Mutant {
        name: "filter-open",
        file: "crates/postern-drain/src/filters.rs",
        from: "!meta.judged && self.judges(domain)",
        to: "!meta.judged && self.judges(domain) && meta.attempts > 0",
        cargo: &["--package", "postern-drain", "--test", "judging"],
        test: "nothing_unjudged_leaves_while_the_filter_is_down",
    },
    Mutant {
        name: "credit-for-anybody",
        file: "crates/postern-trust/src/book/writer.rs",
        from: "        if !authorised {
            self.hold(ip, source);
            return;
        }
        if !self.credit_domain(name, n, source) {
",
        to: "        if !self.credit_domain(name, n, source) {\n",
        cargo: &["--package", "postern-trust", "--lib"],
        test: "book::tests::known::a_replayed_newsletter_makes_no_address_known",
    },
    Mutant {
        name: "no-seen-sketch",
        file: "crates/postern-doors/src/gate/seen.rs",
        from: "                return Shown::Other(entry.others);\n",
        to: "                continue;\n",
        cargo: DOORS,
        test: "gate::machine::tests::a_million_replays_of_a_ticket_create_nothing_and_its_owner_is_served_at_level_two",
    },
    Mutant {
        name: "id-for-any-address",
        file: "crates/postern-doors/src/gate/bindings.rs",
        from: "if binding.address != address {",
        to: "if binding.address != address && binding.packets == 0 {",
        cargo: DOORS,
        test: "gate::machine::tests::a_captured_connection_id_is_of_no_use_from_anywhere_else",
    },
    Mutant {
        name: "ticket-of-any-domain",
        file: "crates/postern-doors/src/postern/peer.rs",
        from: "&& !threshold.keys(|keys| keys.is_domain_tag(body.domain_tag, domain))",
        to: "&& !threshold.keys(|keys| keys.is_domain_tag(body.domain_tag, domain) || body.domain_tag != 0)",
        cargo: POSTERN,
        test: "a_ticket_is_for_the_domain_that_it_was_given_to",
    },
    Mutant {
        name: "weights-ignored",
        file: "crates/postern-doors/src/postern/pool/line.rs",
        from: "    TURN / u64::from(weight.max(1))\n",
        to: "    TURN / u64::from(weight.clamp(1, 1))\n",
        cargo: DOORS,
        test: "postern::pool::line::tests::flows_are_called_by_their_weights_within_a_turn",
    },
    Mutant {
        name: "suffixes-ignored",
        file: "crates/postern-doors/src/postern/share.rs",
        from: "if class == PeerClass::Proven { suffix } else { ALL }",
        to: "if class == PeerClass::Proven { ALL } else { ALL }",
        cargo: DOORS,
        test: "postern::share::tests::the_proven_are_placed_by_their_suffix_and_all_names_of_an_owner_are_one",
    },
    Mutant {
        name: "author-unread",
        file: "crates/postern-doors/src/runtime.rs",
        from: "let Some(author) = author else { return Ok(()) };\n        let peer",
        to: "let Some(author) = author.filter(|author| author.is_ok() && author.is_err()) else { return Ok(()) };\n        let peer",
        cargo: POSTERN,
        test: "an_author_of_another_domain_is_told_to_use_the_mx_and_nothing_is_stored",
    },
];

/// `mutants [NAME …]`
pub(crate) fn run(wanted: &[String]) -> Result<()> {
    let tree = run::target().join("mutants/tree");
    copy(&tree)?;
    let (mut passed, mut failed) = (0, 0);
    for mutant in MUTANTS.iter().filter(|mutant| wanted.is_empty() || wanted.iter().any(|name| name == mutant.name)) {
        match kill(mutant, &tree) {
            Ok(()) => {
                passed += 1;
                println!("mutant {}: {} turns red", mutant.name, mutant.test);
            }
            Err(why) => {
                failed += 1;
                eprintln!("mutant {}: {why:#}", mutant.name);
            }
        }
    }
    suite::print_count(passed, failed)
}

fn kill(mutant: &Mutant, tree: &Path) -> Result<()> {
    let path = tree.join(mutant.file);
    let original = fs::read_to_string(&path).with_context(|| mutant.file.to_owned())?;
    let mutated = mutate(&original, mutant.from, mutant.to)?;
    if !test(mutant, tree)?.passed {
        bail!("{} does not pass even without the change", mutant.test);
    }
    fs::write(&path, mutated)?;
    let outcome = test(mutant, tree);
    fs::write(&path, original)?;
    let outcome = outcome?;
    if outcome.passed {
        bail!("SURVIVES: {} does not notice", mutant.test);
    }
    if !outcome.ran {
        bail!("the changed code does not build, or {} does not exist:\n{}", mutant.test, outcome.text);
    }
    Ok(())
}

fn mutate(text: &str, from: &str, to: &str) -> Result<String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        found => bail!("these lines are there {found} times, not once:\n{from}"),
    }
}

struct Outcome {
    passed: bool,
    ran: bool,
    text: String,
}

fn test(mutant: &Mutant, tree: &Path) -> Result<Outcome> {
    let mut command = run::cargo(["test", "--quiet"]);
    command.args(mutant.cargo).args(["--", "--exact", mutant.test]).current_dir(tree);
    command.env("CARGO_TARGET_DIR", run::target().join("mutants/target"));
    let output = command.output().context("cannot start cargo")?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let ran_one = text.contains("1 passed") || text.contains("1 failed");
    Ok(Outcome { passed: output.status.success() && ran_one, ran: ran_one, text })
}

/// Brings the copy up to date. A file that is the same keeps its time, so that cargo builds only what changed.
fn copy(tree: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(run::root());
    for name in run::output(&mut git)?.lines() {
        let (from, to) = (run::root().join(name), tree.join(name));
        let Ok(bytes) = fs::read(&from) else {
            let _ = fs::remove_file(&to);
            continue;
        };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::write(to, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MUTANTS, mutate};

    #[test]
    fn a_change_needs_its_lines_exactly_once() {
        assert_eq!(mutate("a b c", "b", "x").expect("found once"), "a x c");
        assert!(mutate("a b b", "b", "x").is_err());
        assert!(mutate("a c", "b", "x").is_err());
    }

    #[test]
    fn every_mutant_still_finds_its_lines() {
        for mutant in &MUTANTS {
            let text = std::fs::read_to_string(crate::run::root().join(mutant.file)).expect(mutant.file);
            let mutated = mutate(&text, mutant.from, mutant.to).unwrap_or_else(|why| panic!("{}: {why}", mutant.name));
            assert_ne!(mutated, text, "{}", mutant.name);
        }
    }
}
