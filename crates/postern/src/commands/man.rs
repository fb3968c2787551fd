//! `completions` and `man`: printed from the definition of the command line and of the settings.

use std::fs;
use std::path::Path;

use super::print;
use crate::args::definition;
use crate::config::sample;
use crate::exit::{Code, Failure};

/// `postern completions SHELL`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "postern", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `postern man DIR`.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| Failure::io(Code::CannotCreate, path.display(), error);
    fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    for (name, page) in pages()? {
        let path = dir.join(name);
        fs::write(&path, page).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Every page with its file name.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut pages = vec![("postern.toml.5".to_owned(), sample::manual().into_bytes())];
    let mut root = definition().disable_help_subcommand(true);
    root.build();
    let mut left = vec![root];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone())
            .render(&mut page)
            .map_err(|error| Failure::io(Code::Software, &name, &error))?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<String> = pages().expect("pages").into_iter().map(|(name, _)| name).collect();
        for name in ["postern.1", "postern-serve.1", "postern-queue-show.1", "postern-bench-load.1", "postern.toml.5"] {
            assert!(names.iter().any(|known| known == name), "{name} not in {names:?}");
        }
    }
}
