//! What all servers said, as one Markdown page.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Column;

const HEAD: &str = "\
# The torture suite

Each attack of the suite against Postern and five other servers. Made by `cargo xtask torture` (Debian packages, unpacked
aside, each server on one core and the attackers on another); the same cases run against any server of yours:
`postern flood --suite --target 127.0.0.1:25 --to you@example.org`.

The others run as Debian ships them, as far as the suite allows: they take mail for one mailbox and store it without
delivering; no filters. A setting can change some of these verdicts (Postfix can refuse bare line feeds, for example);
what is shown is what an operator has who changes nothing. `partial` means that a part holds, or that SMTP alone cannot
show the rest; `–` that the server does not offer what the attack needs. The friend beside a crowd is an address whose
mail the server has been taking; *strangers* write once each from new addresses. A few figures vary with the machine;
those of the crowds count, not the last millisecond.
";

/// The page.
pub(super) fn page(columns: &[Column]) -> Result<String> {
    let reports: Vec<(&str, &Value)> =
        columns.iter().filter_map(|column| Some((column.name, column.what.as_ref().ok()?))).collect();
    let (_, first) = reports.first().context("no server could be started")?;
    let mut page = HEAD.to_owned();
    if reports.iter().any(|(_, report)| report["quick"] == true) {
        page.push_str(
            "\n**A quick run** (`--quick`): crowds of 150 for 1.5 s, few splits, on two cores that were shared with other\n\
             work. A `partial` beside a crowd may be a `pass` on a quiet machine; 0 % is 0 %.\n",
        );
    }
    let names: Vec<&str> = reports.iter().map(|(name, _)| *name).collect();
    let _ = write!(page, "\n## Verdicts\n\n| attack | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    let cases = first["cases"].as_array().context("a report has cases")?;
    for case in cases {
        let name = case["name"].as_str().unwrap_or_default();
        let verdicts: Vec<&str> = reports.iter().map(|(_, report)| verdict(find(report, name))).collect();
        let _ = writeln!(page, "| {name} | {} |", verdicts.join(" | "));
    }
    let count = |report: &Value, what: &str| {
        report["cases"].as_array().map_or(0, |cases| cases.iter().filter(|case| case["verdict"] == what).count())
    };
    let sums: Vec<String> = reports
        .iter()
        .map(|(_, r)| format!("{} / {} / {}", count(r, "pass"), count(r, "partial"), count(r, "fail")))
        .collect();
    let _ = writeln!(page, "| pass / partial / fail | {} |", sums.join(" | "));
    page.push_str("\n## What must hold, and what was measured\n");
    for case in cases {
        let name = case["name"].as_str().unwrap_or_default();
        let _ = write!(page, "\n### {name}\n\n{}\n\n", sentence(case["holds"].as_str().unwrap_or_default()));
        for (server, report) in &reports {
            let found = find(report, name);
            let measured = found.and_then(|case| case["measured"].as_str()).unwrap_or("not played");
            let _ = writeln!(page, "- {server}: {}. {}", verdict(found), cell(measured));
        }
    }
    let left_out: Vec<&Column> = columns.iter().filter(|column| column.what.is_err()).collect();
    if !left_out.is_empty() {
        page.push_str("\n## Left out\n\n");
        for column in left_out {
            let why = column.what.as_ref().err().map(String::as_str).unwrap_or_default();
            let _ = writeln!(page, "- {}: {}", column.name, cell(why));
        }
    }
    Ok(page)
}

fn find<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    report["cases"].as_array()?.iter().find(|case| case["name"] == name)
}

fn verdict(case: Option<&Value>) -> &'static str {
    match case.and_then(|case| case["verdict"].as_str()) {
        Some("pass") => "pass",
        Some("partial") => "partial",
        Some("fail") => "**fail**",
        _ => "–",
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(".".chars()).collect()).unwrap_or_default()
}

/// On one line, and no markup of its own.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('<', "&lt;").replace('|', "\\|")
}
