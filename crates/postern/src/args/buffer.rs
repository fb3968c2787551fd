//! `postern buffer …`: its part of the definition of the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ServerArgs;

/// `postern buffer …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Buffer {
    /// Accept everything to disk; nothing leaves
    #[command(
        long_about = "Accept everything to disk; nothing leaves until `off` or `drain`. The same as `mode hold`.",
        after_help = "Example: postern buffer on example.org"
    )]
    On(BufferDomain),
    /// Let it flow again
    #[command(
        long_about = "Let it flow again: what was buffered leaves, best senders first. The same as `mode auto`.",
        after_help = "Example: postern buffer off example.org"
    )]
    Off(BufferDomain),
    /// Copy the buffered mail of a domain into a Maildir or an mbox file
    #[command(
        long_about = "Copy the buffered mail of a domain into a Maildir or an mbox file (mboxrd), for tools of your own, with a second file TARGET.postern.jsonl that keeps envelope, class and facts of arrival. The mail stays in the buffer; with --remove each message is deleted there after all files are safe on disk. Each message in an mbox carries an X-Postern-Id field, by which `import` finds it again.",
        after_help = "Example: postern buffer export example.org --format mbox /tmp/example.mbox\nThen: sa-learn or mass-check on it, and: postern buffer import --format mbox /tmp/example.mbox --judged"
    )]
    Export(ExportArgs),
    /// Take exported mail back into the buffer
    #[command(
        long_about = "Take exported mail back into the buffer, each message under the id its sender was given, with its envelope from TARGET.postern.jsonl. Messages that your tools have changed come back changed; those that they have removed stay away. What is in the buffer already is left alone, and so is what an earlier import of the same files has taken, so an import that was interrupted may be repeated.",
        after_help = "Example: postern buffer import --format maildir /tmp/example --judged"
    )]
    Import(ImportArgs),
}

/// `postern buffer on|off`.
#[derive(Debug, Args)]
pub(crate) struct BufferDomain {
    /// Only this domain
    pub(crate) domain: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `postern buffer export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Whose mail
    pub(crate) domain: String,
    /// maildir or mbox
    #[arg(long)]
    pub(crate) format: MailFormat,
    /// The Maildir or the mbox file; it must not be there yet
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// Delete from the buffer what has been written, once it is safe on disk
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `postern buffer import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// maildir or mbox
    #[arg(long)]
    pub(crate) format: MailFormat,
    /// The Maildir or the mbox file
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// Your tools have judged it: no filter is asked again
    #[arg(long)]
    pub(crate) judged: bool,
    /// Also from an export without --remove: what was delivered since is delivered twice
    #[arg(long)]
    pub(crate) again: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// How exported mail is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MailFormat {
    /// One file each
    Maildir,
    /// One file in all
    Mbox,
}
