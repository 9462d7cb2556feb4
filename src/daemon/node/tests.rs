//! Whole nodes, in this process, on real directories.
#![expect(clippy::disallowed_methods, reason = "tests make and change directories as other programs do")]

mod power;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::start::hello;
use super::{Inner, Node, NodeOptions, Part};
use crate::daemon::holder::Guards;
use crate::daemon::keeper::Command;
use crate::daemon::primary::{PrimaryContext, first_chain};
use crate::daemon::window::WindowLimits;
use crate::net::authority::CertificateFiles;
use crate::thought::filter::Filter;
use crate::thought::timing::Windows;
use crate::thought::tree::Tree;
use crate::thought::wire::message::Role;
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, NodeName, Position, Reign, ReignId};

/// A primary that knows no peers.
fn lone_primary(home: &Path, state: &Path) -> NodeOptions {
    NodeOptions {
        name: NodeName::try_from("primary".to_owned()).unwrap(),
        home: home.to_owned(),
        state: state.to_owned(),
        role: Role::Primary,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        peers: Vec::new(),
        certificates: CertificateFiles::default(),
        filter: Filter::everything(),
        windows: Windows { quiet: Duration::from_millis(1), longest: Duration::from_millis(1) },
        large_from_bytes: 1 << 20,
        window: WindowLimits::default(),
        watch: crate::watch::Options::default(),
        poll: Duration::from_secs(30),
        scrub: None,
        bandwidth: None,
        scan_always: false,
        guards: Guards::default(),
        adopt: false,
        anew: false,
        moved: false,
    }
}

/// Where a primary stands.
fn head(node: &Node) -> (Position, ChainDigest) {
    let Part::Primary { shared, .. } = &node.inner.part else { panic!("it is a standby") };
    shared.window().head()
}

/// What the sessions of a primary have.
fn context(node: &Node) -> PrimaryContext {
    let Part::Primary { shared, keeper } = &node.inner.part else { panic!("it is a standby") };
    let Inner { options, instance, memory, peers, keys, .. } = &*node.inner;
    PrimaryContext {
        shared: shared.clone(),
        keeper: keeper.clone(),
        peers: peers.clone(),
        home: options.home.clone(),
        state: options.state.clone(),
        ids: Default::default(),
        memory: memory.clone(),
        keys: keys.clone(),
        hello: hello(options, *instance),
    }
}

/// Has a primary begin `reign`, as a session does that met a standby which stands where it did not lead.
async fn command_reign(node: &Node, reign: Reign) {
    let Part::Primary { shared, keeper } = &node.inner.part else { panic!("it is a standby") };
    let (reply, begun) = oneshot::channel();
    let chain = first_chain(reign.id, node.inner.instance);
    keeper.send(Command::Reign(reign, chain, reply)).await.unwrap();
    shared.wake();
    begun.await.unwrap();
}

/// G5: two standbys may have met the same older state of a primary, and each has it begin a reign; the second asks when generations of that
/// reign are out already.
#[tokio::test]
async fn a_reign_that_two_standbys_have_begun_gives_no_position_twice() {
    let (home, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let node = Node::start(lone_primary(home.path(), state.path())).await.unwrap();
    let mut reign = Reign { id: ReignId([7; 16]), epoch: 2, parent: None, fork: Position::default() };
    command_reign(&node, reign).await;
    let first = head(&node);
    assert_eq!(first, (Position { epoch: 2, generation: 0 }, first_chain(reign.id, node.inner.instance)));
    fs::write(home.path().join("file"), "content").unwrap();
    node.mark().await.unwrap();
    let made = head(&node);
    assert!(made.0.epoch == 2 && made.0.generation > 0, "{made:?}");
    command_reign(&node, reign).await;
    assert_eq!(head(&node), made, "the reign began a second time");
    // Nor does one that was overtaken come back.
    reign = Reign { id: ReignId([8; 16]), epoch: 1, ..reign };
    command_reign(&node, reign).await;
    assert_eq!(head(&node), made, "an earlier reign took the place of a later one");
    node.end().await.unwrap();
}

/// What stands behind a mark is in the tree, though of a directory without a watch no event tells.
#[tokio::test]
async fn a_mark_has_what_was_written_where_nothing_is_watched() {
    let (home, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for name in ["a", "b", "c"] {
        fs::create_dir(home.path().join(name)).unwrap();
    }
    let options = lone_primary(home.path(), state.path());
    let watch = crate::watch::Options { max_watches: Some(2), ..options.watch };
    let node = Node::start(NodeOptions { watch, poll: Duration::from_secs(3600), ..options }).await.unwrap();
    node.mark().await.unwrap();
    for name in ["a", "b", "c"] {
        fs::write(home.path().join(name).join("file"), "content").unwrap();
    }
    node.mark().await.unwrap();
    let Part::Primary { shared, .. } = &node.inner.part else { panic!("it is a standby") };
    assert!(shared.report().polled > 0, "everything is watched");
    let tree = Tree::view(node.inner.view().await.unwrap().tree).unwrap().unwrap();
    for name in ["a/file", "b/file", "c/file"] {
        let path = RelPath::parse(name.as_bytes()).unwrap();
        assert!(tree.row(&path).unwrap().is_some(), "{name} is missing");
    }
    node.end().await.unwrap();
}

/// What a standby is brought up to date with has the content of every file that changed since the view it began from, by whatever name it is known
/// since: the directory above it may have moved, before the last cut or in it.
#[tokio::test]
async fn what_changed_since_a_view_is_folded_in_though_it_moved() {
    let (home, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let at = |path: &str| home.path().join(path);
    fs::create_dir_all(at("jobs/one")).unwrap();
    fs::write(at("jobs/one/missed"), "found under its old name no more").unwrap();
    let node = Node::start(lone_primary(home.path(), state.path())).await.unwrap();
    node.mark().await.unwrap();
    let ticket = node.inner.view().await.unwrap().ticket;
    for name in ["jobs/one/small", "jobs/one/large", "jobs/one/late", "alone"] {
        fs::write(at(name), name.repeat(if name.ends_with("small") { 1 } else { 1000 })).unwrap();
    }
    node.mark().await.unwrap();
    fs::rename(at("jobs/one"), at("jobs/two")).unwrap();
    fs::rename(at("alone"), at("jobs/alone")).unwrap();
    node.mark().await.unwrap();
    fs::rename(at("jobs/two"), at("jobs/three")).unwrap();
    node.mark().await.unwrap();
    fs::rename(at("jobs"), at("work")).unwrap();
    let Part::Primary { shared, keeper } = &node.inner.part else { panic!("it is a standby") };
    let (reply, fold) = oneshot::channel();
    let missed = [RelPath::parse(b"jobs/one/missed").unwrap()].into();
    keeper.send(Command::Fold { ticket, missed, reply }).await.unwrap();
    shared.wake();
    let fold = fold.await.unwrap();
    let tree = Tree::view(fold.view.tree).unwrap().unwrap();
    for name in ["work/three/small", "work/three/large", "work/three/late", "work/three/missed", "work/alone"] {
        let row = tree.row(&RelPath::parse(name.as_bytes()).unwrap()).unwrap().unwrap();
        let digest = row.entry.content().unwrap();
        assert!(fold.whole.values().any(|whole| whole.digest == digest), "the content of {name} is missing");
    }
    assert!(fold.is_complete);
    node.end().await.unwrap();
}
