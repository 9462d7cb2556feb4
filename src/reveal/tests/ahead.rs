//! Contents that come ahead of the generation that refers to them.

use super::*;
use crate::reveal::{Fed, Holding};
use crate::thought::generation::{Action, Content, Payload};
use crate::thought::wire::message::{HeldContent, UNTOLD_LENGTH};
use crate::words::entry::{Digest, Entry};

/// A content as it is sent ahead.
pub(super) struct Sent {
    pub(super) content: HeldContent,
    pub(super) packed: Vec<u8>,
}

/// A generation whose contents are all sent ahead.
pub(super) fn parted(mut generation: Generation) -> (Generation, Vec<Sent>) {
    let mut all = Vec::new();
    for (operation, payload) in &mut generation.operations {
        let Action::Create { entry, content, sparse, .. } = &mut operation.action else { continue };
        let (Some(digest), Some(packed)) = (entry.content(), payload.take()) else { continue };
        let Entry { mode, mtime, .. } = *entry;
        let payload = operation.payload.take().unwrap_or(Payload { length: 0, unpacked: 0 });
        *content = Content::Held;
        all.push(Sent {
            content: HeldContent {
                digest,
                size: entry.size(),
                sparse: *sparse,
                mode,
                mtime,
                payload,
                from: 0,
                base: None,
            },
            packed,
        });
    }
    (generation.sealed(), all)
}

/// Sends so many bytes of a content; true if that was all.
pub(super) fn send(replica: &mut Replica, sent: &Sent, bytes: usize) -> Result<bool, ReplicaError> {
    let mut holding = replica.hold(sent.content.clone())?;
    let fed = holding.feed(&sent.packed[..bytes], &|| false)?;
    if fed == Fed::All {
        keep(replica, holding)?;
    }
    Ok(fed == Fed::All)
}

/// Keeps what is whole; true if it is what it should be.
fn keep(replica: &mut Replica, holding: Holding) -> Result<bool, ReplicaError> {
    let whole = holding.finish(false)?;
    let is_kept = whole.is_some();
    whole.map_or(Ok(()), |whole| replica.keep(whole))?;
    Ok(is_kept)
}

fn held(ground: &Ground, content: Digest) -> PathBuf {
    ground.replica().join(".hotspare/stage/held").join(content.to_string())
}

/// A ground with a generation of three files, one of which nobody may read, in parts.
fn three_files() -> (Ground, Replica, Generation, Vec<Sent>) {
    use std::os::unix::fs::PermissionsExt;
    let ground = Ground::new();
    for (name, mode) in [("a", 0o644), ("b", 0o600), ("secret", 0)] {
        std::fs::write(ground.source().join(name), name.repeat(9000)).unwrap();
        std::fs::set_permissions(ground.source().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let (generation, sent) = parted(primary.generation());
    assert_eq!(sent.len(), 3);
    (ground, replica, generation, sent)
}

#[test]
fn contents_that_came_ahead_make_the_generation_in_this_life_or_the_next() {
    for lives in [1, 2] {
        let (ground, mut replica, generation, sent) = three_files();
        for content in &sent {
            assert!(!replica.has(content.content.digest).unwrap());
            assert!(send(&mut replica, content, content.packed.len()).unwrap());
            assert!(replica.has(content.content.digest).unwrap());
        }
        if lives == 2 {
            drop(replica);
            replica = ground.open();
            assert!(sent.iter().all(|content| replica.has(content.content.digest).unwrap()));
        }
        take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
        replica.drop_held().unwrap();
        assert_eq!(ground.look(), ground.look_at_source());
        assert!(ground.litter().is_empty());
    }
}

#[test]
fn a_content_that_was_cut_off_is_not_here_and_can_be_sent_again() {
    let (ground, mut replica, generation, sent) = three_files();
    let cut_off = &sent[0];
    assert!(!send(&mut replica, cut_off, cut_off.packed.len() / 2).unwrap());
    assert!(!replica.has(cut_off.content.digest).unwrap());
    drop(replica);
    let mut replica = ground.open();
    assert!(held(&ground, cut_off.content.digest).exists());
    assert!(!replica.has(cut_off.content.digest).unwrap());
    for content in &sent {
        assert!(send(&mut replica, content, content.packed.len()).unwrap());
    }
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(ground.look(), ground.look_at_source());
}

#[test]
fn a_content_that_was_damaged_between_two_lives_is_refused_and_forgotten() {
    let (ground, mut replica, generation, sent) = three_files();
    for content in &sent {
        send(&mut replica, content, content.packed.len()).unwrap();
    }
    drop(replica);
    // As a power cut may leave it: the name, the length, and no content.
    let damaged = sent[1].content.digest;
    std::fs::write(held(&ground, damaged), vec![0; usize::try_from(sent[1].content.size).unwrap()]).unwrap();
    let mut replica = ground.open();
    let refused = stage(&mut replica, &generation, &mut Dice::new(1)).err();
    assert!(matches!(refused, Some(ReplicaError::Lacking { content, .. }) if content == damaged), "{refused:?}");
    assert!(!replica.has(damaged).unwrap());
}

#[test]
fn what_does_not_have_its_digest_is_not_kept() {
    let (ground, mut replica, _, mut sent) = three_files();
    sent[0].content.digest = Digest([9; 32]);
    let refused = send(&mut replica, &sent[0], sent[0].packed.len());
    assert!(matches!(refused, Err(ReplicaError::Payload { .. })), "{refused:?}");
    assert!(!replica.has(sent[0].content.digest).unwrap());
    assert!(!held(&ground, sent[0].content.digest).exists());
}

#[test]
fn a_content_of_untold_length_ends_when_it_is_said_to() {
    let (ground, mut replica, generation, mut sent) = three_files();
    for content in &mut sent {
        content.content.payload.length = UNTOLD_LENGTH;
    }
    let begin = |replica: &mut Replica, sent: &Sent, bytes: usize| {
        let mut holding = replica.hold(sent.content.clone()).unwrap();
        assert_eq!(holding.feed(&sent.packed[..bytes], &|| false).unwrap(), Fed::Part);
        holding
    };
    // It changed while it was read: it is forgotten, as if nothing had been sent.
    let holding = begin(&mut replica, &sent[0], sent[0].packed.len() / 2);
    holding.discard();
    assert!(!held(&ground, sent[0].content.digest).exists());
    // What is said to be whole is checked all the same.
    let holding = begin(&mut replica, &sent[0], sent[0].packed.len() / 2);
    assert!(matches!(holding.finish(true), Err(ReplicaError::Payload { .. })));
    assert!(!replica.has(sent[0].content.digest).unwrap());
    for content in &sent {
        let holding = begin(&mut replica, content, content.packed.len());
        assert!(keep(&mut replica, holding).unwrap());
        assert!(replica.has(content.content.digest).unwrap());
    }
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(ground.look(), ground.look_at_source());
}

/// A ground with a generation of one file of 3 MiB, which is sent ahead.
fn one_large_file() -> (Ground, Replica, Generation, Sent) {
    let ground = Ground::new();
    let mut dice = Dice::new(7);
    let content: Vec<u8> = (0..3 << 20).map(|_| u8::try_from(dice.index(256)).unwrap()).collect();
    std::fs::write(ground.source().join("large"), content).unwrap();
    let replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let (generation, mut sent) = parted(primary.generation());
    (ground, replica, generation, sent.remove(0))
}

#[test]
fn a_content_that_was_cut_off_goes_on_where_it_was_in_this_life_or_the_next() {
    for (lives, damaged) in [(1, false), (2, false), (2, true)] {
        let (ground, mut replica, generation, sent) = one_large_file();
        let (digest, content) = (sent.content.digest, std::fs::read(ground.source().join("large")).unwrap());
        let mut holding = replica.hold(sent.content.clone()).unwrap();
        assert_eq!(holding.feed(&sent.packed[..2 << 20], &|| false).unwrap(), Fed::Part);
        replica.cut_off(holding);
        assert!(replica.holds() && !replica.has(digest).unwrap());
        if lives == 2 {
            drop(replica);
            if damaged {
                let file = std::fs::OpenOptions::new().write(true).open(held(&ground, digest)).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"zeros", 100).unwrap();
            }
            replica = ground.open();
        }
        let from = replica.begun(digest).unwrap().unwrap();
        assert!((1 << 20..=2 << 20).contains(&from), "{from} bytes are here");
        let elsewhere = HeldContent { from: from - 1, ..sent.content.clone() };
        assert!(matches!(replica.hold(elsewhere), Err(ReplicaError::Payload { .. })), "it goes on somewhere else");

        let rest = &content[usize::try_from(from).unwrap()..];
        let mut packed = Vec::new();
        let mut packer = crate::thought::delta::pack::Packer::new(&mut packed, Default::default());
        packer.write(rest).unwrap();
        packer.finish().unwrap();
        let payload = Payload { length: packed.len() as u64, unpacked: rest.len() as u64 };
        let mut holding = replica.hold(HeldContent { from, payload, ..sent.content.clone() }).unwrap();
        assert_eq!(holding.feed(&packed, &|| false).unwrap(), Fed::All);
        assert_eq!(keep(&mut replica, holding).unwrap(), !damaged);
        assert_eq!(replica.has(digest).unwrap(), !damaged);
        if damaged {
            assert_eq!(replica.begun(digest).unwrap(), None, "the beginning is thrown away");
            assert!(send(&mut replica, &sent, sent.packed.len()).unwrap());
        }
        take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
        replica.drop_held().unwrap();
        assert_eq!(ground.look(), ground.look_at_source());
        assert!(ground.litter().is_empty());
    }
}

#[test]
fn a_content_that_is_given_up_stays_as_a_beginning_however_far_it_was_read_again() {
    let (ground, mut replica, generation, sent) = one_large_file();
    let stopped_after = |looks: u32| {
        let looked = std::cell::Cell::new(0);
        move || looked.replace(looked.get() + 1) >= looks
    };
    let mut holding = replica.hold(sent.content.clone()).unwrap();
    let is_over = stopped_after(30);
    let mut fed = sent.packed.chunks(64 << 10).map(|chunk| holding.feed(chunk, &is_over).unwrap());
    assert!(fed.any(|fed| fed == Fed::Stopped));
    replica.cut_off(holding);
    let from = replica.begun(sent.content.digest).unwrap().unwrap();
    drop(replica);
    let mut replica = ground.open();
    assert_eq!(replica.begun(sent.content.digest).unwrap(), Some(from));
    let mut holding = replica.hold(HeldContent { from, ..sent.content.clone() }).unwrap();
    assert_eq!(holding.feed(&sent.packed[..100], &stopped_after(2)).unwrap(), Fed::Stopped);
    replica.cut_off(holding);
    assert_eq!(replica.begun(sent.content.digest).unwrap(), Some(from));
    assert!(send(&mut replica, &sent, sent.packed.len()).unwrap());
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(ground.look(), ground.look_at_source());
}

#[test]
fn what_came_ahead_and_is_not_wanted_or_taken_for_long_goes() {
    let (ground, mut replica, generation, sent) = three_files();
    for content in &sent {
        assert!(send(&mut replica, content, content.packed.len()).unwrap());
    }
    let wanted = sent[0].content.digest;
    assert_eq!(replica.sweep_held(&|content| content == wanted).unwrap(), 2);
    let here =
        |replica: &Replica| sent.iter().map(|sent| replica.has(sent.content.digest).unwrap()).collect::<Vec<_>>();
    assert_eq!(here(&replica), [true, false, false]);
    assert!(!held(&ground, sent[1].content.digest).exists());

    assert_eq!(replica.age_held(&[]).unwrap(), 1, "it has been here for less than one span of time");
    assert!(send(&mut replica, &sent[1], sent[1].packed.len()).unwrap());
    assert_eq!(replica.age_held(&[wanted]).unwrap(), 2, "what is arriving stays");
    assert_eq!(replica.age_held(&[]).unwrap(), 0);
    assert_eq!(here(&replica), [false; 3]);
    for content in &sent {
        assert!(send(&mut replica, content, content.packed.len()).unwrap());
    }
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(ground.look(), ground.look_at_source());
}

/// A ground whose replica has a file of 3 MiB, and that one's content.
fn one_large_file_taken() -> (Ground, Replica, Primary, Digest) {
    let ground = Ground::new();
    let content = Dice::new(8).noise(3 << 20);
    std::fs::write(ground.source().join("large"), &content).unwrap();
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    (ground, replica, primary, Digest::of(&content))
}

#[test]
fn a_large_content_that_lies_elsewhere_is_copied_ahead_and_then_only_moved() {
    use std::os::unix::fs::MetadataExt;
    let (ground, mut replica, mut primary, digest) = one_large_file_taken();
    let (large, copy) = (ground.source().join("large"), ground.source().join("copy"));
    assert!(replica.copying(digest, 4 << 20).unwrap().is_none(), "it is not as large as that");
    assert!(replica.copying(Digest([9; 32]), 1 << 20).unwrap().is_none(), "it is nowhere");

    let copying = replica.copying(digest, 1 << 20).unwrap().unwrap();
    assert_eq!(copying.bytes(), 3 << 20);
    replica.copied(copying.make().unwrap().unwrap()).unwrap();
    assert!(replica.copying(digest, 1 << 20).unwrap().is_none(), "it is at hand");
    let made = std::fs::metadata(held(&ground, digest)).unwrap().ino();
    std::fs::copy(&large, &copy).unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(2)).unwrap();
    assert_eq!(std::fs::metadata(ground.replica().join("copy")).unwrap().ino(), made, "it was moved");
    assert_eq!(ground.look(), ground.look_at_source());
    assert!(ground.litter().is_empty());

    // What was written over meanwhile is no copy of it.
    let copying = replica.copying(digest, 1 << 20).unwrap().unwrap();
    for name in ["large", "copy"] {
        std::fs::write(ground.replica().join(name), b"by hand").unwrap();
    }
    assert!(copying.make().unwrap().is_none());
    assert!(!held(&ground, digest).exists());
}

/// Whoever asked for a copy may have gone, and another have asked again: a thread that is behind touches nothing that is relied upon.
#[test]
fn a_copy_that_comes_late_leaves_what_came_ahead_meanwhile_alone() {
    let (ground, mut replica, mut primary, digest) = one_large_file_taken();
    let (large, copy) = (ground.source().join("large"), ground.source().join("copy"));
    let [late, later, made] = [0; 3].map(|_| replica.copying(digest, 1 << 20).unwrap().unwrap());
    replica.copied(made.make().unwrap().unwrap()).unwrap();
    let before = std::fs::read(held(&ground, digest)).unwrap();
    replica.copied(late.make().unwrap().unwrap()).unwrap();
    std::fs::write(ground.replica().join("large"), b"by hand").unwrap();
    assert!(later.make().unwrap().is_none());
    assert!(replica.has_ahead(digest).unwrap());
    assert!(std::fs::read(held(&ground, digest)).is_ok_and(|bytes| bytes == before), "what is at hand was dropped");
    let names = std::fs::read_dir(ground.replica().join(".hotspare/stage/held")).unwrap().count();
    assert_eq!(names, 1, "a copy that nobody needs was left");
    std::fs::write(ground.replica().join("large"), before).unwrap();
    std::fs::copy(&large, &copy).unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(2)).unwrap();
    assert_eq!(std::fs::read(ground.replica().join("copy")).unwrap(), std::fs::read(&copy).unwrap());
}
