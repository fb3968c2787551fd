//! `postern learn`, `peer` and `report`: their part of the definition of the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ServerArgs;

/// `postern learn`.
#[derive(Debug, Args)]
pub(crate) struct LearnArgs {
    /// Mail log of Postfix or Exim, `-` for standard input; repeatable
    #[arg(long = "log", value_name = "FILE")]
    pub(crate) logs: Vec<PathBuf>,
    /// Maildir, or a directory with Maildirs below it; Sent and Junk folders are told by their names; repeatable
    #[arg(long = "maildir", value_name = "DIR")]
    pub(crate) maildirs: Vec<PathBuf>,
    /// mbox file of mail that was received and kept; repeatable
    #[arg(long = "mbox", value_name = "FILE")]
    pub(crate) mboxes: Vec<PathBuf>,
    /// Maildir folder or mbox file of mail that was sent; repeatable
    #[arg(long = "sent", value_name = "PATH")]
    pub(crate) sent: Vec<PathBuf>,
    /// Name that our own server writes into Received fields, or private address from which our own front door hands on; by default the name of the configuration
    #[arg(long = "our-host", value_name = "NAME")]
    pub(crate) our_hosts: Vec<String>,
    /// A domain that is ours, beside those of the configuration; repeatable
    #[arg(long = "domain", value_name = "D")]
    pub(crate) domains: Vec<String>,
    /// Say what would be learnt, and learn nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `postern peer …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// Pin an address, a network or a domain
    #[command(
        long_about = "Pin an address, a network or a domain: it comes first at port 25. A domain with its KEY is a peer of the postern: whoever holds that key is the domain, whatever DNS says, and its postern is trusted by that key. Several keys of a domain may be pinned, for a roll-over. When its postern is silent for a quarter of an hour, mail goes by port 25: as usual, or with --enforce, or when the domain asks for that in a signed record, only to a server that proves to be the domain's; such mail waits when there is none.",
        after_help = "Example: postern peer add 2001:db8:5::/48; postern peer add example.org MCowBQYDK2VwAyEA… --at mx.example.org:2526"
    )]
    Add {
        /// Address, network (192.0.2.0/24) or domain
        what: String,
        /// Key of the domain, for the postern: what `postern identity show` prints there
        key: Option<String>,
        /// Where its postern is, when DNS does not say
        #[arg(long, value_name = "HOST:PORT", requires = "key")]
        at: Option<String>,
        /// While its postern is silent, send to a server only that proves to be the domain's; stays until `peer rm`
        #[arg(long, requires = "key")]
        enforce: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Remove a pin
    #[command(
        long_about = "Remove a pin that `peer add` made: of an address, of a network, or of a domain with all its keys. With a KEY only that key goes, as at the end of a roll-over. One that the configuration has stays until it is taken out there.",
        after_help = "Example: postern peer rm 192.0.2.7"
    )]
    Rm {
        /// As `peer ls` shows it
        what: String,
        /// Only this key of the domain
        key: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List what is pinned
    #[command(
        long_about = "List what is pinned, and where it comes from: the configuration, or `peer add`.",
        after_help = "Example: postern peer ls"
    )]
    Ls {
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// `spam` and `ham`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verdict {
    /// Nobody wanted it
    Spam,
    /// It was wanted
    Ham,
}
