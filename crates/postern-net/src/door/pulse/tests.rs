//! The rhythm of the questions, in virtual time.

use std::sync::atomic::AtomicU64;

use super::*;

/// A server that is only counted.
#[derive(Default)]
struct Server {
    answers: AtomicU64,
    rtt: Duration,
    asked: AtomicUsize,
}

impl Server {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn watched(rtt: Duration) -> (Pulse, Arc<Server>) {
    let (pulse, server) = (Pulse(Arc::default()), Arc::new(Server { rtt, ..Server::default() }));
    let (waiting, seen) = (Arc::clone(&pulse.0), Arc::clone(&server));
    tokio::spawn(async move {
        let look = || Look { answers: seen.answers.load(Ordering::Relaxed), rtt: seen.rtt };
        let ask = || {
            seen.asked.fetch_add(1, Ordering::Relaxed);
        };
        watch(&waiting, look, ask).await;
    });
    (pulse, server)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_nothing_is_awaited_or_answers_come_in_time() {
    let (pulse, server) = watched(Duration::from_millis(1));
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(server.asked(), 0, "nobody waits");
    for _ in 0..1_000 {
        let _awaited = pulse.awaits();
        sleep(Duration::from_millis(90)).await;
        server.answers.fetch_add(1, Ordering::Relaxed);
    }
    let _always = pulse.awaits();
    for _ in 0..1_000 {
        sleep(Duration::from_millis(90)).await;
        server.answers.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(server.asked(), 0, "it answers");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_asked_after_100_ms_and_then_by_a_sixteenth_of_the_silence_at_most_once_a_second_in_the_end()
{
    let (pulse, server) = watched(Duration::from_millis(1));
    let awaited = pulse.awaits();
    let began = Instant::now();
    let mut last = began;
    while began.elapsed() < Duration::from_secs(60) {
        let before = server.asked();
        while server.asked() == before {
            sleep(Duration::from_millis(1)).await;
        }
        let (pause, silence) = (last.elapsed(), began.elapsed());
        let most = (silence / 16).clamp(Duration::from_millis(100), Duration::from_secs(1)) + Duration::from_millis(5);
        assert!(pause <= most && pause >= Duration::from_millis(100), "{pause:?} after {silence:?}");
        last = Instant::now();
    }
    assert!(server.asked() < 110, "{}", server.asked());
    // A new silence is as the first.
    server.answers.fetch_add(1, Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    let before = server.asked();
    sleep(Duration::from_millis(350)).await;
    assert!(server.asked() >= before + 2);
    drop(awaited);
    sleep(Duration::from_secs(1)).await;
    let before = server.asked();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.asked(), before, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn on_a_long_way_nobody_is_asked_before_an_answer_could_have_come() {
    let (pulse, server) = watched(Duration::from_millis(600));
    let _awaited = pulse.awaits();
    sleep(Duration::from_millis(1_190)).await;
    assert_eq!(server.asked(), 0);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(server.asked(), 1);
}
