//! `postern identity`: its part of the definition of the command line.

use clap::{Args, Subcommand};

use super::ServerArgs;

/// `postern identity …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Identity {
    /// Show who this server is to other posterns
    #[command(
        long_about = "Show who this server is to other posterns: its domains, its public key, and where the private one is. Makes the key when there is none yet. Another operator pins you with it: postern peer add YOUR.DOMAIN KEY.",
        after_help = "Example: postern identity show -c /etc/postern.toml"
    )]
    Show {
        #[command(flatten)]
        site: SiteArgs,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the DNS records that publish the key
    #[command(
        long_about = "Print the DNS records that publish the key, for every domain of this server, ready for a zone file: the TXT record that any DNS panel takes, and the TLSA records, which count in a zone that is signed (DNSSEC). During a roll-over both keys are in them.",
        after_help = "Example: postern identity dns --domain example.org --host mx.example.org"
    )]
    Dns {
        #[command(flatten)]
        site: SiteArgs,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Replace the key, in two steps a day apart, or the secret
    #[command(
        long_about = "Replace the key, in two steps. The first makes the next key and changes nothing else: publish what `identity dns` prints then, it has both. The second, with --finish and not before every cached record has expired (25 hours), makes the next key the one in use; the old one is kept beside it. A server that runs takes it at once and closes no connection. With --secret it is another key that is replaced, in one step: the secret that tickets and cookies are made from, which is in no DNS. Those given out stay good.",
        after_help = "Example: postern identity rotate; (publish, wait a day); postern identity rotate --finish"
    )]
    Rotate {
        /// Make the next key the one in use
        #[arg(long, group = "step")]
        finish: bool,
        /// Replace the secret of tickets and cookies instead
        #[arg(long, group = "step")]
        secret: bool,
        /// It may be in other hands. With --finish: do not wait; with --secret: all tickets are void
        #[arg(long, requires = "step")]
        now: bool,
        #[command(flatten)]
        site: SiteArgs,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Whose identity.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    /// A domain of this server; by default those of the running server, or of the configuration; repeatable
    #[arg(long = "domain", value_name = "D")]
    pub(crate) domains: Vec<String>,
    /// Name of the host that the postern is at; by default the name of the configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
