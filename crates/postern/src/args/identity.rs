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
    /// Replace the key, in two steps a day apart
    #[command(
        long_about = "Replace the key, in two steps. The first makes the next key and changes nothing else: publish what `identity dns` prints then, it has both. The second, with --finish and not before every cached record has expired (25 hours), makes the next key the one in use; the old one is kept beside it. A server that runs goes on with the old key until it is started again.",
        after_help = "Example: postern identity rotate; (publish, wait a day); postern identity rotate --finish"
    )]
    Rotate {
        /// Make the next key the one in use
        #[arg(long)]
        finish: bool,
        /// With --finish: do not wait, the old key may be in other hands
        #[arg(long, requires = "finish")]
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
