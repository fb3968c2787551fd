use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use postern_net::door::KeyPair;

use super::{DoorFriends, Friends, FriendsFigures};
use crate::door::stock::Stock;

fn meet(stock: Stock) -> FriendsFigures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        let keys = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        tokio::spawn(async move { stock.serve(&keys, socket).await });
        let plan = DoorFriends { duration: Duration::from_millis(500), ..DoorFriends::new(target) };
        Friends::connect(plan, Arc::new(|_| Vec::new())).await.unwrap().offer().await
    })
}

#[test]
fn a_stock_server_in_peace_answers_every_friend_whether_or_not_it_asks_for_the_address() {
    for stock in [Stock::Accept, Stock::Retry] {
        let figures = meet(stock);
        assert_eq!((figures.established.offered, figures.established.in_time), (50, 50), "{stock:?}");
        assert_eq!((figures.new.offered, figures.new.in_time), (10, 10), "{stock:?}");
        assert!(figures.new.latency.p50_ms > 0.0);
    }
}

#[test]
fn friends_of_a_silent_port_are_told_that_nobody_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let plan =
            DoorFriends { patience: Duration::from_millis(200), ..DoorFriends::new(silent.local_addr().unwrap()) };
        assert!(Friends::connect(plan, Arc::new(|_| Vec::new())).await.is_err());
    });
}
