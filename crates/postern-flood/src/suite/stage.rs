//! What all cases share: the server as it presents itself, addresses to attack from, the control mail.

use std::net::IpAddr;
use std::time::Duration;

use super::Options;
use super::client::{Client, Lost};
use crate::network::Network;

/// The server under test and where the attackers are.
pub(super) struct Stage<'a> {
    pub(super) options: &'a Options,
    pub(super) greeting: String,
    pub(super) offers: Vec<String>,
    connections: u64,
    controls: u32,
}

impl<'a> Stage<'a> {
    /// Connects once, politely.
    pub(super) fn meet(options: &'a Options) -> Result<Self, Lost> {
        let mut stage = Self { options, greeting: String::new(), offers: Vec::new(), connections: 0, controls: 0 };
        let mut client = Client::connect(stage.friend(), options.target, PATIENCE)?;
        let greeting = client.reply()?;
        if greeting.code != 220 {
            return Err(Lost::Refused(greeting.to_string()));
        }
        stage.greeting = greeting.text;
        stage.offers = client.hello()?;
        let _ = client.ask("QUIT");
        Ok(stage)
    }

    /// Whether EHLO's reply has this keyword.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        self.offers.iter().any(|line| line.split(' ').next() == Some(keyword))
    }

    /// Of `SIZE n`.
    pub(super) fn size_max(&self) -> Option<u64> {
        let line = self.offers.iter().find_map(|line| line.strip_prefix("SIZE "))?;
        line.trim().parse().ok().filter(|size| *size > 0)
    }

    /// A new attacker at an address of its own, greeted.
    pub(super) fn attacker(&mut self) -> Result<Client, Lost> {
        self.connections += 1;
        let source = self.options.target.ip().is_loopback().then(|| self.attackers().host(self.connections, 0));
        let source = source.filter(IpAddr::is_ipv4);
        let mut client = Client::connect(source, self.options.target, PATIENCE)?;
        let greeting = client.reply()?;
        if greeting.code != 220 {
            return Err(Lost::Refused(greeting.to_string()));
        }
        Ok(client)
    }

    /// The same, and EHLO said.
    pub(super) fn introduced_attacker(&mut self) -> Result<Client, Lost> {
        let mut client = self.attacker()?;
        client.hello()?;
        Ok(client)
    }

    /// Where attackers live: spread over 127.66.0.0/15, so that what one prefix has earned is not held against all.
    pub(super) fn attackers(&self) -> Network {
        Network::new([127, 66, 0, 0].into(), 15).expect("a prefix of at most 32")
    }

    /// Whose mail must go through whatever happens, and whom the server has seen behave.
    pub(super) fn friend(&self) -> Option<IpAddr> {
        self.options.target.is_ipv4().then_some(FRIEND).filter(|_| self.options.target.ip().is_loopback())
    }

    /// An ordinary mail, answered 250.
    pub(super) fn control(&mut self) -> Result<(), Lost> {
        self.controls += 1;
        let mut client = Client::connect(self.friend(), self.options.target, PATIENCE)?;
        let greeting = client.reply()?;
        if greeting.code != 220 {
            return Err(Lost::Refused(greeting.to_string()));
        }
        client.hello()?;
        client.begin_data("friend@friends.example", &self.options.recipient)?;
        let number = self.controls;
        let reply = client
            .ask(format!("Subject: control {number}\r\nMessage-ID: <{number}@flood.example>\r\n\r\nHello.\r\n."))?;
        let _ = client.ask("QUIT");
        if reply.code == 250 { Ok(()) } else { Err(Lost::Refused(reply.to_string())) }
    }

    /// A server may need a moment to sweep up behind a crowd; an honest sender would come back.
    pub(super) fn control_patiently(&mut self) -> Result<(), Lost> {
        let mut last = self.control();
        for _ in 0..CONTROL_RETRIES {
            if last.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_secs(2));
            last = self.control();
        }
        last
    }

    /// `example.org` of the recipient.
    pub(super) fn domain(&self) -> &str {
        self.options.recipient.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// Above the six seconds that postscreen lets a stranger wait for its greeting.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// In the middle of 127/8 and outside every crowd.
const FRIEND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 9, 9, 9));

/// With two seconds between them: 20 s and more for a full accept queue to be worked off.
const CONTROL_RETRIES: u32 = 10;
