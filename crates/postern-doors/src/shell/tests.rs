//! A session that panics, and the others.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use postern_proto::envelope::Via;
use postern_proto::mode::Modes;
use postern_proto::session::SessionOptions;
use postern_spool::{Spool, SpoolOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::crowd::Crowd;
use crate::policy::Policy;
use crate::runtime::{Seat, Shared};

pub(crate) fn core(spool: Spool) -> Rc<Core> {
    let port = spool.port(Arc::new(|| {}));
    let shared = Shared {
        spool,
        policy: Arc::new(ArcSwap::from_pointee(Policy::default())),
        modes: Arc::new(ArcSwap::from_pointee(Modes::default())),
        session: SessionOptions::new("mx.example.com".into(), Via::Public),
        tls: None,
        proxy_from: Vec::new(),
        xclient_from: Vec::new(),
        connections_max: 10,
        callouts: None,
        stats: Arc::default(),
        admission: None,
        crowd: Arc::new(Crowd::new(1)),
    };
    let seat = Seat { thread: 0, port: Arc::new(Mutex::new(port)), news: Arc::default(), woken: Arc::default() };
    Rc::new(Core::new(Arc::new(shared), seat))
}

/// A client that has said QUIT, and the session that serves it.
async fn session(core: &Rc<Core>, listener: &TcpListener) -> (TcpStream, JoinHandle<()>) {
    let local = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(local).await.unwrap();
    client.write_all(b"QUIT\r\n").await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    (client, tokio::task::spawn_local(Shell::new(core, stream, (peer, local), Class::New)))
}

#[test]
fn a_panic_in_one_session_is_counted_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(SpoolOptions::new(dir.path())).unwrap();
    let core = core(spool.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_client, served) = session(&core, &listener).await;
        let served = hold_the_buffer_until_it_ends(&core, served).await;
        assert!(served.is_err_and(|error| error.is_panic()));
        let stats = core.shared.stats.snapshot();
        assert_eq!((stats.panics, stats.open), (1, 0));
        assert!(core.slots.is_empty());
        let (mut client, served) = session(&core, &listener).await;
        served.await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("220 ") && said.contains("\r\n221 "), "{said}");
    });
    runtime.block_on(spool.shutdown());
}

/// The buffer that all sessions read into is taken, so that reading panics.
#[expect(clippy::await_holding_refcell_ref, reason = "that is how a session is made to panic")]
async fn hold_the_buffer_until_it_ends(core: &Rc<Core>, served: JoinHandle<()>) -> Result<(), tokio::task::JoinError> {
    let _held = core.input.borrow_mut();
    served.await
}
