use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{channel, sync_channel};

use super::*;
use crate::roles::static_node::access::tests::World;
use crate::types::Network;

/// Whoever starts a node anew would find its files in use, or changing, if it ended before.
#[tokio::test(flavor = "multi_thread")]
async fn the_task_ends_once_what_is_under_way_on_the_disk_is_done() {
    let (world, disk) = (World::new(), Arc::new(Semaphore::new(1)));
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (go_on, held_up) = channel::<()>();
    let is_done = Arc::new(AtomicBool::new(false));
    let (own, done) = (Arc::clone(&disk), Arc::clone(&is_done));
    let slow = move || {
        begin.send(()).ok();
        held_up.recv().ok();
        done.store(true, Ordering::Release);
        Ok(())
    };
    let waiting = tokio::spawn(async move { in_turn(&own, slow).await });
    begun.await.unwrap();
    // It goes on when whoever waited for it has gone.
    waiting.abort();
    let genesis = &world.ledger.genesis;
    let network = Network { id: genesis.network, code: genesis.code, genesis: None, nodes: Vec::new() };
    // Nobody is there to be asked.
    world.desk.set_current();
    let (stop, stopping) = watch::channel(false);
    let (_news, news) = watch::channel(false);
    let (keeper, _queue) = sync_channel(1);
    let work = Work {
        desk: world.desk.clone(),
        peers: Peers::new(&network, &world.ledger.pairs[0]),
        keeper,
        wanted: BTreeSet::new(),
        bodies: BTreeMap::new(),
        known_for: None,
        disk,
    };
    let mut task = tokio::spawn(work.run(news, stopping));
    stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_millis(500), &mut task).await;
    assert!(ended.is_err() && !is_done.load(Ordering::Acquire));
    go_on.send(()).unwrap();
    task.await.unwrap();
    assert!(is_done.load(Ordering::Acquire));
}
