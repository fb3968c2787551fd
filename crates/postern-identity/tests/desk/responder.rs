//! A name server of the test: answers from a table, over UDP and TCP, and can be silent, held back, broken, lying or
//! brief about names below given domains. Counts what it was asked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// How it treats the names below a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// No answer.
    Silent,
    /// None until [`Responder::release`].
    Held,
    /// SERVFAIL.
    Broken,
    /// The right answer with a wrong id.
    Lying,
    /// Over UDP: truncated. Over TCP: all of it.
    Brief,
}

type Table = Box<dyn Fn(&str, &str) -> Option<Vec<String>> + Send + Sync>;

pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    socket: UdpSocket,
    /// From a name without its final dot and a type to records; `None`: no such name.
    table: Table,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    manners: Vec<(String, Manner)>,
    held: Vec<(Vec<u8>, SocketAddr)>,
    asked: HashMap<String, u64>,
}

impl Responder {
    /// `records`: "name TYPE data" a line.
    pub(crate) fn start(records: &str, manners: &[(&str, Manner)]) -> Self {
        let mut table: HashMap<(String, String), Vec<String>> = HashMap::new();
        for line in records.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let (Some(name), Some(kind), Some(data)) = (words.next(), words.next(), words.next()) else {
                panic!("not a record: {line}")
            };
            table.entry((name, kind)).or_default().push(data);
        }
        Self::with(move |name, kind| table.get(&(name.to_owned(), kind.to_owned())).cloned(), manners)
    }

    pub(crate) fn with(
        table: impl Fn(&str, &str) -> Option<Vec<String>> + Send + Sync + 'static,
        manners: &[(&str, Manner)],
    ) -> Self {
        let (socket, listener) = (0..100)
            .find_map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
                let listener = TcpListener::bind(socket.local_addr().ok()?).ok()?;
                Some((socket, listener))
            })
            .expect("a port for UDP and TCP");
        let address = socket.local_addr().expect("an address");
        let manners = manners.iter().map(|(domain, manner)| ((*domain).to_owned(), *manner)).collect();
        let state = Mutex::new(State { manners, ..State::default() });
        let shared = Arc::new(Shared { socket, table: Box::new(table), state });
        let udp = Arc::clone(&shared);
        thread::spawn(move || udp.serve_datagrams());
        let tcp = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tcp = Arc::clone(&tcp);
                thread::spawn(move || tcp.serve_stream(stream));
            }
        });
        Self { address, shared }
    }

    /// How often names that end so were asked for.
    pub(crate) fn asked(&self, suffix: &str) -> u64 {
        let state = self.shared.state();
        state.asked.iter().filter(|(name, _)| name.ends_with(suffix)).map(|(_, n)| n).sum()
    }

    /// Answers what was held back, and holds nothing back any more.
    pub(crate) fn release(&self) {
        let mut state = self.shared.state();
        state.manners.retain(|(_, manner)| *manner != Manner::Held);
        for (query, peer) in std::mem::take(&mut state.held) {
            let answer = self.shared.answer(&Message::from_vec(&query).expect("it was read before"), None);
            self.shared.socket.send_to(&answer, peer).expect("sent");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn serve_datagrams(&self) {
        let mut buffer = [0; 4096];
        while let Ok((n, peer)) = self.socket.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..n]) else { continue };
            match self.manner(&query) {
                Some(Manner::Silent) => {}
                Some(Manner::Held) => self.state().held.push((buffer[..n].to_vec(), peer)),
                manner => {
                    let whole = self.answer(&query, manner);
                    let fits = whole.len() <= DATAGRAM_MAX;
                    let answer = if fits { whole } else { self.answer(&query, Some(Manner::Brief)) };
                    self.socket.send_to(&answer, peer).expect("sent");
                }
            }
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let Ok(query) = Message::from_vec(&query) else { return };
            let manner = self.manner(&query).filter(|manner| *manner != Manner::Brief);
            let answer = self.answer(&query, manner);
            let length = u16::try_from(answer.len()).expect("it fits").to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                return;
            }
        }
    }

    fn manner(&self, query: &Message) -> Option<Manner> {
        let name = name_of(&query.queries[0]);
        let mut state = self.state();
        *state.asked.entry(name.clone()).or_default() += 1;
        state.manners.iter().find(|(domain, _)| name.ends_with(domain)).map(|(_, manner)| *manner)
    }

    fn answer(&self, query: &Message, manner: Option<Manner>) -> Vec<u8> {
        let question = query.queries[0].clone();
        let kind = question.query_type().to_string();
        let alias = (self.table)(&name_of(&question), "CNAME");
        let kind = if alias.is_some() { "CNAME".to_owned() } else { kind };
        let found = alias.or_else(|| (self.table)(&name_of(&question), &kind));
        let code = match (manner, &found) {
            (Some(Manner::Broken), _) => ResponseCode::ServFail,
            (_, None) => ResponseCode::NXDomain,
            (_, Some(_)) => ResponseCode::NoError,
        };
        let id = query.metadata.id ^ u16::from(manner == Some(Manner::Lying));
        let mut answer = Message::error_msg(id, query.metadata.op_code, code);
        if manner == Some(Manner::Brief) {
            answer.metadata.truncation = true;
        } else if code == ResponseCode::NoError {
            for data in found.into_iter().flatten() {
                answer.add_answer(Record::from_rdata(question.name().clone(), 300, rdata(&kind, &data)));
            }
        }
        answer.add_query(question);
        answer.to_vec().expect("an answer")
    }
}

/// As servers of today do, so that no datagram is cut in pieces.
const DATAGRAM_MAX: usize = 1232;

fn name_of(query: &Query) -> String {
    query.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}

fn rdata(kind: &str, data: &str) -> RData {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).expect("a name");
    match kind {
        "A" => RData::A(A(data.parse().expect("an address"))),
        "AAAA" => RData::AAAA(AAAA(data.parse().expect("an address"))),
        "PTR" => RData::PTR(PTR(name(data))),
        "MX" => RData::MX(MX::new(10, name(data))),
        "TXT" => {
            RData::TXT(TXT::new(data.as_bytes().chunks(200).map(|c| String::from_utf8_lossy(c).into_owned()).collect()))
        }
        "CNAME" => RData::CNAME(CNAME(name(data))),
        // Of usage 3, selector 1, matching 1: the hash.
        "TLSA" => {
            let octet = |at: usize| u8::from_str_radix(&data[at..at + 2], 16).expect("hexadecimal");
            let hash = (0..data.len()).step_by(2).map(octet).collect();
            RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, hash))
        }
        _ => panic!("{kind} is not served"),
    }
}
