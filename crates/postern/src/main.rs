//! Postern: a mail front door that keeps real mail moving through a spam flood.

mod args;
mod bench;
mod commands;
mod config;
mod control;
mod exit;
mod log;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use exit::{Code, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { Code::Usage as u8 } else { 0 };
            // Nobody is left to be told that the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("postern: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Check(what) => commands::check::check(&what),
        Command::Status { json, server } => commands::status(json, &server),
        Command::Top { once, server } => commands::top(once, &server),
        Command::Mode { mode, domain, server } => commands::set_mode(mode, domain, &server),
        Command::Buffer { action } => commands::buffer(action),
        Command::Drain { domain, rate, server } => commands::drain(domain, rate, &server),
        Command::Queue { action } => commands::queue(action),
        Command::Learn(what) => commands::learn(&what),
        Command::Why { what, json, server } => commands::why(what, json, &server),
        Command::Report { verdict, what, server } => commands::report(verdict, &what, &server),
        Command::Peer { action } => commands::peer(action),
        Command::Identity { action } => commands::identity(action),
        Command::Bypass { switch, server } => commands::bypass(switch, &server),
        Command::Bench(what) => bench::run(what),
        Command::Flood(what) => commands::flood::flood(&what),
        Command::Demo(what) => commands::demo::demo(&what),
        Command::Completions { shell } => commands::completions(shell),
        Command::Man { dir } => commands::man(&dir),
    }
}
