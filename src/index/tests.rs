use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{Index, IndexError, Opened, Options};
use crate::thought::store::{MemoryStore, Pair, ReadStore, Store, Table};

const SMALL: Options = Options { cache_bytes: 1 << 20, overlay_bytes: 2_000, overlay_cap_bytes: 4_000, check: true };

fn home() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.redb");
    (directory, path)
}

fn intact(path: &Path) -> Index {
    match Index::open_with(path, SMALL).unwrap() {
        Opened::Intact(index) => index,
        other => panic!("{other:?}"),
    }
}

fn fresh(path: &Path) -> Index {
    match Index::open_with(path, SMALL).unwrap() {
        Opened::New(index) => index,
        other => panic!("{other:?}"),
    }
}

fn rebuilt(path: &Path) -> (Index, String) {
    match Index::open_with(path, SMALL).unwrap() {
        Opened::Rebuilt { index, why } => (index, why),
        other => panic!("{other:?}"),
    }
}

fn all(store: &impl ReadStore) -> Vec<Vec<Pair>> {
    Table::ALL.iter().map(|&table| store.scan(table, b"", None, usize::MAX).unwrap()).collect()
}

/// A copy of the file as a kill would leave it: what the process has written, without its closing the database.
fn copy_as_killed(path: &Path) -> (TempDir, PathBuf) {
    let (directory, copy) = home();
    fs::copy(path, &copy).unwrap();
    (directory, copy)
}

#[derive(Clone, Debug)]
enum Step {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Get(Table, Vec<u8>),
    Scan(Table, Vec<u8>, Option<Vec<u8>>, usize),
    Commit,
    Reopen,
    Kill,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let table = || prop::sample::select(&[Table::Rows, Table::Facts][..]);
    let value = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        12 => (table(), key(), value).prop_map(|(table, key, value)| Step::Put(table, key, value)),
        6 => (table(), key()).prop_map(|(table, key)| Step::Delete(table, key)),
        4 => (table(), key()).prop_map(|(table, key)| Step::Get(table, key)),
        6 => (table(), key(), prop::option::of(key()), 0..20_usize)
            .prop_map(|(table, prefix, after, limit)| Step::Scan(table, prefix, after, limit)),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_index_behaves_as_the_store_in_memory(steps in prop::collection::vec(step(), 1..80)) {
        let (mut directory, mut path) = home();
        let mut index = fresh(&path);
        let mut model = MemoryStore::default();
        let mut committed = model.clone();
        for step in steps {
            match step {
                Step::Put(table, key, value) => {
                    index.put(table, key.clone(), value.clone()).unwrap();
                    model.put(table, key, value).unwrap();
                }
                Step::Delete(table, key) => {
                    index.delete(table, &key).unwrap();
                    model.delete(table, &key).unwrap();
                }
                Step::Get(table, key) => {
                    prop_assert_eq!(index.get(table, &key).unwrap(), model.get(table, &key).unwrap());
                }
                Step::Scan(table, prefix, after, limit) => {
                    let (found, expected) = (
                        index.scan(table, &prefix, after.as_deref(), limit).unwrap(),
                        model.scan(table, &prefix, after.as_deref(), limit).unwrap(),
                    );
                    prop_assert_eq!(found, expected);
                }
                Step::Commit => {
                    index.commit().unwrap();
                    committed = model.clone();
                    prop_assert_eq!(index.overlay_bytes(), 0);
                }
                Step::Reopen => {
                    index.commit().unwrap();
                    committed = model.clone();
                    drop(index);
                    index = intact(&path);
                }
                Step::Kill => {
                    let (other, copy) = copy_as_killed(&path);
                    drop(index);
                    index = intact(&copy);
                    (directory, path) = (other, copy);
                    model = committed.clone();
                }
            }
            prop_assert!(index.overlay_bytes() <= SMALL.overlay_cap_bytes);
            prop_assert_eq!(all(&index.snapshot().unwrap()), all(&committed));
        }
        prop_assert_eq!(all(&index), all(&model));
        drop(index);
        drop(directory);
    }
}

#[test]
fn closing_without_a_commit_returns_to_the_last_one() {
    let (_directory, path) = home();
    let mut index = fresh(&path);
    index.put(Table::Rows, b"kept".to_vec(), b"1".to_vec()).unwrap();
    index.commit().unwrap();
    index.put(Table::Rows, b"lost".to_vec(), b"2".to_vec()).unwrap();
    index.delete(Table::Rows, b"kept").unwrap();
    drop(index);
    let index = intact(&path);
    assert_eq!(index.get(Table::Rows, b"kept").unwrap(), Some(b"1".to_vec()));
    assert_eq!(index.get(Table::Rows, b"lost").unwrap(), None);
}

/// An index with a commit of one row, then so many writes that they spilled.
fn spilled(path: &Path) -> Index {
    let mut index = fresh(path);
    index.put(Table::Rows, b"kept".to_vec(), b"1".to_vec()).unwrap();
    index.commit().unwrap();
    for number in 0..100_u8 {
        index.put(Table::Rows, vec![number], vec![0; 100]).unwrap();
        assert!(index.overlay_bytes() <= SMALL.overlay_cap_bytes);
    }
    assert!(index.wants_commit());
    assert_eq!(index.scan(Table::Rows, b"", None, 1000).unwrap().len(), 101);
    assert_eq!(all(&index.snapshot().unwrap())[0].len(), 1);
    index
}

#[test]
fn a_kill_in_the_middle_of_a_spilled_change_returns_to_the_last_commit() {
    let (_directory, path) = home();
    let index = spilled(&path);
    let (_other, copy) = copy_as_killed(&path);
    assert_eq!(all(&intact(&copy))[0].len(), 1);
    drop(index);
}

#[test]
fn an_orderly_close_in_the_middle_of_a_spilled_change_is_not_intact() {
    let (_directory, path) = home();
    drop(spilled(&path));
    let (index, why) = rebuilt(&path);
    assert_eq!(why, "it was left in the middle of a change");
    assert_eq!(all(&index)[0].len(), 0);
}

#[test]
fn a_commit_ends_a_spilled_change() {
    let (_directory, path) = home();
    let mut index = spilled(&path);
    index.commit().unwrap();
    assert!(!index.wants_commit());
    drop(index);
    assert_eq!(all(&intact(&path))[0].len(), 101);
}

#[test]
fn the_overlay_counts_every_byte_it_holds() {
    let (_directory, path) = home();
    let mut index = fresh(&path);
    index.put(Table::Rows, vec![1; 10], vec![2; 20]).unwrap();
    assert_eq!(index.overlay_bytes(), 64 + 30);
    index.put(Table::Rows, vec![1; 10], vec![2; 5]).unwrap();
    assert_eq!(index.overlay_bytes(), 64 + 15);
    index.delete(Table::Rows, &[1; 10]).unwrap();
    assert_eq!(index.overlay_bytes(), 64 + 10);
    index.put(Table::Facts, vec![1; 10], vec![2; 2000]).unwrap();
    assert!(index.wants_commit());
    index.commit().unwrap();
    assert!(!index.wants_commit());
}

#[test]
fn a_snapshot_stands_still_while_another_thread_reads_it_and_writes_go_on() {
    let (_directory, path) = home();
    let mut index = fresh(&path);
    index.put(Table::Rows, b"a".to_vec(), b"1".to_vec()).unwrap();
    index.commit().unwrap();
    let snapshot = index.snapshot().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || (0..200).all(|_| all(&snapshot)[0].len() == 1));
        for round in 0..20_u8 {
            index.put(Table::Rows, vec![round], vec![round; 3000]).unwrap();
            if round % 5 == 4 {
                index.commit().unwrap();
            }
        }
        assert!(reader.join().unwrap());
    });
}

#[test]
fn an_index_in_use_is_not_taken_for_a_damaged_one() {
    let (_directory, path) = home();
    let _index = fresh(&path);
    assert!(matches!(Index::open(&path), Err(IndexError::InUse { .. })));
}

/// A file of a few hundred rows in three commits, and the number of rows after each.
fn sample(path: &Path) -> Vec<usize> {
    let mut index = fresh(path);
    let mut counts = vec![0];
    for round in 0..3_u8 {
        for number in 0..100_u8 {
            index.put(Table::Rows, vec![round, number], vec![number; 40]).unwrap();
        }
        index.commit().unwrap();
        counts.push(100 * (usize::from(round) + 1));
    }
    counts
}

fn damaged_files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "index.redb").collect();
    names.sort();
    names
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test damages the file")]
fn empty_garbage_and_truncated_files_are_set_aside_and_only_the_newest_is_kept() {
    let (directory, path) = home();
    sample(&path);
    let whole = fs::read(&path).unwrap();
    let mut damages =
        vec![Vec::new(), b"garbage".to_vec(), vec![0; 100_000], vec![0xa5; 100_000], b"redb".repeat(9999)];
    damages.extend([1, 64, 320, 4095, 4096, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec()));
    for (number, bytes) in damages.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let (index, why) = rebuilt(&path);
        assert!(!why.is_empty());
        assert_eq!(all(&index)[0].len(), 0);
        assert_eq!(damaged_files(directory.path()), [format!("index.redb.damaged-{}", number + 1)]);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test damages the file")]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let (_directory, path) = home();
    let counts = sample(&path);
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    for offset in (0..320).chain((320..whole.len()).step_by(977)) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(&path, &bytes).unwrap();
        match Index::open_with(&path, SMALL).unwrap() {
            Opened::Rebuilt { .. } => found += 1,
            Opened::Intact(index) => {
                let rows = &all(&index)[0];
                assert!(counts.contains(&rows.len()), "{} rows after a flip at {offset}", rows.len());
                assert!(rows.iter().all(|pair| pair.value == vec![pair.key[1]; 40]), "flip at {offset}");
            }
            Opened::New(_) => panic!("taken for new after a flip at {offset}"),
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn a_later_format_is_refused_by_name_and_left_alone() {
    let (_directory, path) = home();
    sample(&path);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(super::disk::OWN).unwrap().insert(super::disk::FORMAT_FACT, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Index::open(&path).unwrap_err();
    assert!(matches!(error, IndexError::TooNew { format: 2, .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(matches!(Index::open(&path), Err(IndexError::TooNew { .. })), "it is as it was");
    assert_eq!(damaged_files(path.parent().unwrap()), Vec::<String>::new());
}

#[test]
fn a_redb_file_of_someone_else_is_set_aside() {
    let (_directory, path) = home();
    drop(redb::Database::create(&path).unwrap());
    assert_eq!(rebuilt(&path).1, "it was never finished");
}

#[test]
fn a_directory_in_its_place_is_an_error_and_stays() {
    let (_directory, path) = home();
    fs::create_dir(&path).unwrap();
    assert!(matches!(Index::open(&path), Err(IndexError::Open { .. })));
    assert!(path.is_dir());
}
