//! The commented sample file and the manual page of the file, from the definition.

use super::definition::{Key, Section};
use super::settings::{SECTIONS, key};

/// `etc/postern.toml`: every key, commented out, with its default or an example.
pub(crate) fn sample() -> String {
    let mut out = String::new();
    for section in &SECTIONS {
        if !out.is_empty() {
            out.push('\n');
        }
        for line in section.about {
            push_line(&mut out, &format!("#{line}"));
        }
        if section.name.is_empty() {
            out.push('\n');
        } else {
            // An empty table changes nothing, but [recipients] would replace its default, and a table that is
            // written once per name would be one of that name.
            let named = section.family().is_some();
            let mark = if named || section.keys.iter().all(|key| !key.is_default) { "#" } else { "" };
            push_line(&mut out, &format!("{mark}[{}]", section.name));
        }
        for key in section.keys.iter().filter(|key| !key.hidden) {
            push_key(&mut out, key);
        }
    }
    out
}

fn push_key(out: &mut String, key: &Key) {
    for line in key.about {
        push_line(out, &format!("#{line}"));
    }
    push_line(out, &format!("#{} = {}", key.name, key.value));
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// The help of a flag that stands for the setting `name` of table `section`.
pub(crate) fn help(section: &str, name: &str) -> String {
    key(section, name).map(|key| key.about.join("").trim().to_owned()).unwrap_or_default()
}

/// `postern.toml(5)`.
pub(crate) fn manual() -> String {
    let mut out = String::from(".TH postern.toml 5\n.SH NAME\npostern.toml \\- configuration of postern(1)\n");
    out.push_str(".SH DESCRIPTION\nTOML. Unknown keys are errors, named with their line and the nearest known key.\n");
    for section in &SECTIONS {
        let title =
            if section.name.is_empty() { "Before the first table".to_owned() } else { format!("[{}]", section.name) };
        out.push_str(&format!(".SH \"{}\"\n", roff(&title).replace('"', "\\(dq")));
        push_text(&mut out, section);
        for key in section.keys.iter().filter(|key| !key.hidden) {
            out.push_str(&format!(".TP\n\\fB{}\\fR\n", roff(key.name)));
            out.push_str(&format!("{}\n", roff(key.about.join("").trim())));
            let kind = if key.is_default { "Default" } else { "Example" };
            out.push_str(&format!(".br\n{kind}: {}\n", roff(key.value)));
        }
    }
    out.push_str(".SH SEE ALSO\n.BR postern (1)\n");
    out
}

fn push_text(out: &mut String, section: &Section) {
    for line in section.about {
        out.push_str(&format!("{}\n", roff(line.trim())));
    }
}

/// A backslash, a leading dot and a hyphen mean something to roff.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;

    #[test]
    fn the_sample_is_accepted_as_it_is_and_with_every_key_in_force() {
        parse("sample", &sample()).unwrap_or_else(|fault| panic!("{fault}"));
        let in_force: String = sample()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with([' ', '#']) || rest.is_empty() => "\n".to_owned(),
                Some(rest) => format!("{rest}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        parse("sample in force", &in_force).unwrap_or_else(|fault| panic!("{fault}\n{in_force}"));
    }

    #[test]
    fn the_committed_sample_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/postern.toml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == sample(), "run: cargo run -p postern -- check --print-sample > etc/postern.toml");
    }

    #[test]
    fn every_key_has_a_manual_entry() {
        let manual = manual();
        for key in SECTIONS.iter().flat_map(|section| section.keys).filter(|key| !key.hidden) {
            assert!(manual.contains(&roff(key.name)), "{}", key.name);
        }
    }
}
