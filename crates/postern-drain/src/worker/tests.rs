use super::*;

#[tokio::test]
async fn a_panic_is_confined_to_its_future() {
    let panicked = caught(async {
        tokio::task::yield_now().await;
        assert!(now_unix_ms() == 0, "a bug");
    })
    .await;
    assert!(matches!(panicked, Err(Panicked)));
    assert_eq!(caught(async { 7 }).await.ok(), Some(7));
}

#[test]
fn what_was_released_leaves_whatever_the_mode() {
    let modes = Modes { default: Mode::Hold, ..Modes::default() };
    assert_eq!(mode_of(&Lane::new("a.example", 0), &modes), Mode::Hold);
    assert_eq!(mode_of(&Lane::new("a.example", RELEASED_CLASS), &modes), Mode::Through);
}
