//! The program as its user meets it: the real binary, its flags, files, signals and commands.

mod buffer;
mod checks;
mod commands;
mod config;
mod harness;
mod identity;
mod lifecycle;
mod speakers;
mod trust;
mod weather;
