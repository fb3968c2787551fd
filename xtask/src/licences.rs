//! Licences, sources and duplicates of everything we link, held against `deny.toml`.
//!
//! `cargo deny` does this when it is installed. Building it takes longer than all our tests on a small machine, so its
//! absence is no reason to check nothing: the same file is then read here, without the advisory database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run;

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks all dependencies.
pub(crate) fn run() -> Result<()> {
    if run::on_path("cargo-deny") {
        run::check(&mut run::cargo(["deny", "--workspace", "check", "licenses", "bans", "sources"]))?;
        return advisories();
    }
    let rules: toml::Table = fs::read_to_string(run::root().join("deny.toml"))?.parse()?;
    let allowed: BTreeSet<&str> = rules
        .get("licenses")
        .and_then(|licenses| licenses.get("allow")?.as_array())
        .context("deny.toml has no [licenses] allow")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let host = run::output(std::process::Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names its host")?;
    let json =
        run::output(&mut run::cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform", host]))?;
    let metadata: Value = serde_json::from_str(&json)?;
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let linked: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo metadata has no graph")?
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        if !linked.contains(text("id")) || package["source"].is_null() {
            continue;
        }
        versions.entry(text("name")).or_default().insert(text("version"));
        if text("source") != SOURCE {
            faults.push(format!("{} comes from {}", text("name"), text("source")));
        }
        if !satisfied(text("license"), &|licence| allowed.contains(licence)) {
            faults.push(format!("{} {}: {:?} is not allowed", text("name"), text("version"), text("license")));
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        println!("licences: {name} is linked {} times: {versions:?}", versions.len());
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!(
        "licences: {} crates, all allowed by deny.toml (cargo-deny is not installed: no advisories)",
        versions.len()
    );
    Ok(())
}

/// Known holes in what we link. The database is on GitHub; where that is out of reach the check is left out, and said.
fn advisories() -> Result<()> {
    let output = run::cargo(["deny", "--workspace", "check", "advisories"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.contains("failed to fetch advisory database") {
        println!("licences: advisories were not checked, the database is out of reach");
        return Ok(());
    }
    eprint!("{text}");
    if output.status.success() { Ok(()) } else { bail!("cargo deny check advisories: {}", output.status) }
}

/// Whether an SPDX expression can be met by allowed licences: `OR` (or the old `/`) needs one side, `AND` both.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && either(&words, &mut at, allowed) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed);
    }
    met
}

fn both(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = either(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed(&format!("{word} WITH {exception}")) || allowed(word);
    }
    allowed(word)
}

#[cfg(test)]
mod tests {
    use super::satisfied;

    fn check(expression: &str, expected: bool) {
        let allowed = |licence: &str| ["MIT", "Apache-2.0", "ISC"].contains(&licence);
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }

    #[test]
    fn an_expression_is_met_by_one_side_of_or_and_both_sides_of_and() {
        check("MIT OR GPL-3.0", true);
        check("MIT/Unlicense", true);
        check("MIT AND GPL-3.0", false);
        check("(GPL-3.0 OR Apache-2.0 WITH LLVM-exception) AND ISC", true);
        check("GPL-3.0 OR (ISC AND Zlib)", false);
        check("", false);
    }
}
