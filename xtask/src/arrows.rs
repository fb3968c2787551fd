//! The arrows between crates that may exist, held against every `Cargo.toml`; then the tidy rules.
//!
//! The table is the one of ARCHITECTURE.md. An arrow that is not in it fails CI, so that a shortcut (a door that calls
//! the drain, a spool that knows what mail is) is a decision somebody makes here, in the open.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{run, tidy};

/// Our crates and which of our crates each may depend on. The simulator is allowed to all as a dev-dependency.
const OURS: [(&str, &[&str]); 11] = [
    ("postern-proto", &[]),
    // Content-blind: new mail features cannot touch the code that keeps promises to disk.
    ("postern-spool", &[]),
    ("postern-net", &["postern-proto"]),
    // Evidence is data that others fill in: trust calls nobody.
    ("postern-trust", &[]),
    ("postern-identity", &["postern-proto", "postern-net", "postern-trust"]),
    // Doors and drain never meet but in the spool: either can stop while the other runs.
    ("postern-doors", &["postern-proto", "postern-spool", "postern-net", "postern-trust", "postern-identity"]),
    ("postern-drain", &["postern-proto", "postern-spool", "postern-net", "postern-trust"]),
    ("postern-flood", &["postern-proto", "postern-net"]),
    (
        "postern",
        &[
            "postern-proto",
            "postern-spool",
            "postern-net",
            "postern-trust",
            "postern-identity",
            "postern-doors",
            "postern-drain",
            "postern-flood",
        ],
    ),
    // It plays the drain's decisions, which speak of targets and findings.
    (
        "postern-sim",
        &["postern-proto", "postern-spool", "postern-trust", "postern-net", "postern-doors", "postern-drain"],
    ),
    ("xtask", &[]),
];

/// Only ever a dev-dependency.
const SIMULATOR: &str = "postern-sim";

/// What may be a dev-dependency though no arrow allows it: the crowds at the door are played against the real gate.
const TESTED_AGAINST: [(&str, &str); 1] = [("postern-flood", "postern-doors")];

/// Crates that may depend on nothing else from outside: they are pure.
const PURE: [(&str, &[&str]); 2] = [
    (
        "postern-proto",
        // idna: authors in other scripts. Those after it: gate, tickets and control frames of the postern.
        &["jiff", "memchr", "postcard", "serde", "idna", "base64", "chacha20poly1305", "hkdf", "sha2", "siphasher"],
    ),
    ("postern-trust", &["arc-swap", "ipnet", "postcard", "serde", "siphasher", "thiserror"]),
];

/// Foreign crates whose types stay on one side of a boundary, and where they may be named.
const FOREIGN: [(&str, &[&str]); 7] = [
    ("rustls", &["postern-net", "postern-doors", "postern"]),
    ("tokio-rustls", &["postern-net", "postern-doors", "postern-flood", "postern"]),
    ("rcgen", &["postern-net", "postern"]),
    ("hickory-resolver", &["postern-net", "postern-identity"]),
    // The flood plays stock QUIC servers and clients beside ours.
    ("quinn", &["postern-net", "postern-doors", "postern-flood"]),
    ("mail-auth", &["postern-identity"]),
    ("async-nats", &[]),
];

/// One line of a `Cargo.toml`: `from` depends on `to`.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    from: String,
    to: String,
    dev: bool,
}

/// Checks the tree; an error names every arrow and every untidy file.
pub(crate) fn run() -> Result<()> {
    let (crates, arrows) = read()?;
    let mut faults = faults(&crates, &arrows);
    faults.extend(tidy::faults(&run::root())?);
    if faults.is_empty() {
        println!("arrows: {} crates, {} dependencies, all allowed; the tree is tidy", crates.len(), arrows.len());
        return Ok(());
    }
    for fault in &faults {
        eprintln!("arrows: {fault}");
    }
    bail!("{} faults", faults.len())
}

/// Crates of the workspace and all their direct dependencies.
fn read() -> Result<(Vec<String>, Vec<Arrow>)> {
    let json = run::output(&mut run::cargo(["metadata", "--format-version", "1", "--no-deps"]))?;
    parse(&serde_json::from_str(&json)?).context("cargo metadata has an unknown form")
}

fn parse(metadata: &Value) -> Option<(Vec<String>, Vec<Arrow>)> {
    let mut crates = Vec::new();
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array()? {
        let from = package["name"].as_str()?.to_owned();
        for dependency in package["dependencies"].as_array()? {
            let to = dependency["name"].as_str()?.to_owned();
            arrows.push(Arrow { from: from.clone(), to, dev: dependency["kind"] == "dev" });
        }
        crates.push(from);
    }
    Some((crates, arrows))
}

/// What breaks the table, one sentence each.
fn faults(crates: &[String], arrows: &[Arrow]) -> Vec<String> {
    let known = |name: &str| OURS.iter().find(|(ours, _)| *ours == name);
    let mut faults: Vec<String> = crates
        .iter()
        .filter(|name| known(name).is_none())
        .map(|name| format!("{name} is not in the table of xtask/src/arrows.rs"))
        .collect();
    for arrow in arrows {
        let Arrow { from, to, dev } = arrow;
        if let (Some((_, allowed)), Some(_)) = (known(from), known(to)) {
            let simulated = *dev && (to == SIMULATOR || TESTED_AGAINST.contains(&(from, to)));
            // A crate's own tests may name the crate itself.
            if !allowed.contains(&to.as_str()) && !simulated && from != to {
                faults.push(format!("{from} must not depend on {to}"));
            }
            continue;
        }
        let pure = PURE.iter().find(|(pure, _)| pure == from);
        if let Some((_, allowed)) = pure.filter(|(_, allowed)| !*dev && !allowed.contains(&to.as_str())) {
            faults.push(format!("{from} is pure and must not depend on {to} (allowed: {})", allowed.join(", ")));
        }
        let foreign = FOREIGN.iter().find(|(foreign, _)| foreign == to);
        if foreign.is_some_and(|(_, allowed)| !*dev && !allowed.contains(&from.as_str())) {
            faults.push(format!("{from} must not name types of {to}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::{Arrow, faults, read};

    fn check(from: &str, to: &str, dev: bool, expected: &[&str]) {
        let arrow = Arrow { from: from.to_owned(), to: to.to_owned(), dev };
        assert_eq!(faults(&[from.to_owned()], &[arrow]), expected, "{from} -> {to}");
    }

    #[test]
    fn the_tree_keeps_the_table() {
        let (crates, arrows) = read().expect("cargo metadata runs");
        assert_eq!(faults(&crates, &arrows), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_between_doors_and_drain_is_found_either_way() {
        check("postern-doors", "postern-drain", false, &["postern-doors must not depend on postern-drain"]);
        check("postern-drain", "postern-doors", false, &["postern-drain must not depend on postern-doors"]);
    }

    #[test]
    fn a_spool_that_knows_mail_is_found() {
        check("postern-spool", "postern-proto", false, &["postern-spool must not depend on postern-proto"]);
        check("postern-spool", "postern-proto", true, &["postern-spool must not depend on postern-proto"]);
    }

    #[test]
    fn the_simulator_serves_tests_only() {
        check("postern-spool", "postern-sim", true, &[]);
        check("postern-spool", "postern-sim", false, &["postern-spool must not depend on postern-sim"]);
    }

    #[test]
    fn a_pure_crate_that_does_io_is_found() {
        let why = "postern-proto is pure and must not depend on tokio (allowed: jiff, memchr, postcard, serde, idna, base64, chacha20poly1305, hkdf, sha2, siphasher)";
        check("postern-proto", "tokio", false, &[why]);
        check("postern-proto", "memchr", false, &[]);
    }

    #[test]
    fn a_foreign_type_outside_its_boundary_is_found() {
        check("postern-drain", "rustls", false, &["postern-drain must not name types of rustls"]);
        check("postern-net", "rustls", false, &[]);
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_found() {
        check("postern-new", "serde", false, &["postern-new is not in the table of xtask/src/arrows.rs"]);
    }
}
