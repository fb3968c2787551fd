//! What a durable message costs: time and CPU for each way to hold the log's file, by the size of the group; and through
//! the whole spool, by the number of clients that wait for their receipts in lockstep. Prints tables; read the ratios.
//!
//! `cargo bench -p postern-spool --bench commit -- [DIR]`

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use postern_spool::{Body, Event, EventKind, Fate, Lane, NewItem, Port, Spool, SpoolOptions, When};

fn main() {
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir).expect("a directory to write to");
    raw(dir.path());
    through_the_spool(dir.path(), None);
    through_the_spool(dir.path(), Some(Duration::from_millis(10)));
}

const MESSAGE: usize = 4096;
const FILE: u64 = 64 << 20;
const TIME: Duration = Duration::from_millis(700);

/// Seconds of CPU, user and kernel, of all threads of this process.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let spent = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let nanoseconds = spent.filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.sum::<f64>() / 1e9
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Growing,
    Prewritten,
    Direct,
}

/// One write and one sync for each group, without the spool around it.
fn raw(dir: &Path) {
    println!("4 KiB messages, one write and one fdatasync a group; messages/s (and µs CPU a message)");
    println!("{:>6} {:>20} {:>20} {:>20}", "group", "growing", "pre-written", "pre-written O_DIRECT");
    for group in [1usize, 8, 64, 256] {
        let cells = [Way::Growing, Way::Prewritten, Way::Direct].map(|way| raw_one(dir, way, group));
        println!("{group:>6} {:>20} {:>20} {:>20}", cells[0], cells[1], cells[2]);
    }
}

fn raw_one(dir: &Path, way: Way, group: usize) -> String {
    let path = dir.join("raw");
    let _ = std::fs::remove_file(&path);
    if way != Way::Growing {
        let file = File::create(&path).expect("a file");
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE).step_by(1 << 20) {
            file.write_all_at(&zeros, at).expect("zeros");
        }
        file.sync_all().expect("synced");
    }
    let flags = if way == Way::Direct { rustix::fs::OFlags::DIRECT.bits() as i32 } else { 0 };
    let open = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(&path);
    let Ok(file) = open else { return "unsupported".into() };
    let bytes = group * MESSAGE;
    let mut space = vec![0x5a; bytes + 4096];
    // O_DIRECT wants the buffer at a multiple of the block.
    let start = space.as_ptr().align_offset(4096);
    let buffer = &mut space[start..start + bytes];
    let (begun, cpu_before) = (Instant::now(), cpu());
    let (mut at, mut messages) = (0, 0usize);
    while begun.elapsed() < TIME {
        if file.write_all_at(buffer, at).and_then(|()| file.sync_data()).is_err() {
            return "unsupported".into();
        }
        messages += group;
        at += bytes as u64;
        if way != Way::Growing && at + bytes as u64 > FILE {
            at = 0;
        }
    }
    cell(messages, begun.elapsed(), cpu() - cpu_before)
}

fn cell(messages: usize, time: Duration, cpu: f64) -> String {
    format!("{:.0} ({:.1})", messages as f64 / time.as_secs_f64(), cpu * 1e6 / messages as f64)
}

/// Clients in lockstep: each appends a message when its last one has its receipt.
fn through_the_spool(dir: &Path, flush_delay: Option<Duration>) {
    let gathers = [0u64, 50, 200].map(Duration::from_micros);
    println!("\nthrough the spool, sync + {flush_delay:?}: messages/s (µs CPU a message) messages a commit");
    println!("{:>8} {:>26} {:>26} {:>26}", "clients", "no gather", "gather 50 µs", "gather 200 µs");
    let dir = dir.join(format!("spool-{}", flush_delay.is_some()));
    // The log's segments exist already, as after the first storm; otherwise each message would be written twice.
    lockstep(&dir, 1024, Duration::ZERO, None);
    for clients in [1, 8, 50, 256, 1024] {
        let cells = gathers.map(|gather| lockstep(&dir, clients, gather, flush_delay));
        println!("{clients:>8} {:>26} {:>26} {:>26}", cells[0], cells[1], cells[2]);
    }
}

fn lockstep(dir: &Path, clients: usize, gather: Duration, flush_delay: Option<Duration>) -> String {
    let options = SpoolOptions { gather, flush_delay, free_low_bytes: 0, free_high_bytes: 0, ..SpoolOptions::new(dir) };
    let (spool, _) = Spool::open(options).expect("an empty spool");
    let bell = Arc::new((Mutex::new(false), Condvar::new()));
    let ring = bell.clone();
    let port = spool.port(Arc::new(move || {
        *ring.0.lock().expect("no panic") = true;
        ring.1.notify_one();
    }));
    let lane = Lane::new("example.org", 0);
    let append = |port: &Port| {
        let item = NewItem {
            id: spool.new_id(),
            lane: lane.clone(),
            meta: vec![0x2d; 200],
            due_unix_ms: 0,
            body: Body::Inline(vec![0x5a; MESSAGE]),
        };
        port.append(item, When::Commit);
    };
    let mut events: Vec<Event> = Vec::new();
    let mut waiting = 0;
    let (mut begun, mut cpu_before, mut commits_before) = (Instant::now(), cpu(), 0);
    let (mut warm, mut messages) = (false, 0usize);
    loop {
        while waiting < clients {
            append(&port);
            waiting += 1;
        }
        port.flush();
        let mut rung = bell.0.lock().expect("no panic");
        while !*rung {
            rung = bell.1.wait(rung).expect("no panic");
        }
        *rung = false;
        drop(rung);
        port.drain_events(&mut events);
        for event in events.drain(..) {
            assert!(matches!(event.kind, EventKind::Committed(_)), "{event:?}");
            waiting -= 1;
            messages += 1;
        }
        if !warm && begun.elapsed() > TIME / 4 {
            (warm, messages, begun, cpu_before) = (true, 0, Instant::now(), cpu());
            commits_before = spool.stats().commits;
        }
        if warm && begun.elapsed() > TIME {
            break;
        }
    }
    let (time, used) = (begun.elapsed(), cpu() - cpu_before);
    let commits = (spool.stats().commits - commits_before).max(1);
    empty(&spool, &lane);
    format!("{} {:.0}", cell(messages, time, used), messages as f64 / commits as f64)
}

/// Ends every item, so that the next run finds the segments free.
fn empty(spool: &Spool, lane: &Lane) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        while spool.stats().items > 0 {
            let leases = spool.lease(lane, 256, u64::MAX).await;
            let ends: Vec<_> = leases
                .into_iter()
                .map(|lease| (spool.clone(), lease))
                .map(|(spool, lease)| {
                    tokio::spawn(async move { spool.finish(lease, Fate::Delivered, Vec::new()).await })
                })
                .collect();
            for end in ends {
                end.await.expect("no panic").expect("finished");
            }
        }
    });
}
