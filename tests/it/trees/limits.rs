//! What is too much to list. In memory: to make it on a server takes minutes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use livedata::mirror::{Command, Mirror, Reason, Update, Wanted};
use livedata::path::ZnodePath;
use livedata::source::fake::FakeZooKeeper;
use livedata::subtree::Subtree;
use tokio::sync::mpsc;

#[tokio::test(start_paused = true)]
async fn too_many_children_are_left_out_and_said() {
    let zookeeper = FakeZooKeeper::new(1);
    zookeeper.create("/few", "").unwrap();
    zookeeper.create("/few/a", "1").unwrap();
    zookeeper.create("/many", "data").unwrap();
    for n in 0..=250_000 {
        zookeeper.create(&format!("/many/{n}"), "").unwrap();
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let hour = Duration::from_secs(3600);
    let mirror = Mirror::new(zookeeper.clone(), hour, move |update| {
        tell.lock().unwrap().push(update);
    });
    let (commands, received) = mpsc::unbounded_channel();
    let root = ZnodePath::root();
    let wanted = Wanted {
        nodes: Vec::new(),
        trees: vec![Subtree::new(root, None, &[], &[]).unwrap()],
    };
    commands.send(Command::Watch(wanted)).unwrap();
    let running = tokio::spawn(mirror.run(received));
    while !told.lock().unwrap().contains(&Update::Settled) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let told = std::mem::take(&mut *told.lock().unwrap());
    let contents: Vec<_> = told
        .iter()
        .filter_map(|update| match update {
            Update::Content { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(contents.len(), 4, "{contents:?}");
    for path in ["/", "/few", "/few/a", "/many"] {
        assert!(contents.contains(&path), "{path} of {contents:?}");
    }
    let reasons: Vec<_> = told
        .iter()
        .filter_map(|update| match update {
            Update::Unreadable { path, reason } => Some((path.as_str(), reason.clone())),
            _ => None,
        })
        .collect();
    let why = "it has 250001 children; more than 250000 are not shown";
    assert_eq!(reasons, [("/many", Reason::Failed(why.into()))]);
    assert_eq!(zookeeper.counts().n_lists(), 2, "it is not even asked for");
    drop(commands);
    running.await.unwrap();
}
