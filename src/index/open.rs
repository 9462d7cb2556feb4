//! Opening the file: trusting it, or setting it aside.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError};

use super::disk::{FORMAT_FACT, OPEN_CHANGE_FACT, OWN, cause, write_changes};
use super::overlay::Overlay;
use super::{FORMAT, Index, IndexError, Opened, Options};

/// Why a file that is there was not opened.
enum Refusal {
    /// It cannot be trusted.
    Distrust(String),
    /// It cannot be judged.
    Fatal(IndexError),
}

impl Index {
    /// Opens or creates the index at `path` with the default [`Options`].
    pub fn open(path: &Path) -> Result<Opened, IndexError> {
        Self::open_with(path, Options::default())
    }

    /// Opens or creates the index at `path`, in a directory that exists.
    pub fn open_with(path: &Path, options: Options) -> Result<Opened, IndexError> {
        match fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return create(path, options).map(Opened::New);
            }
            Err(error) => return Err(open_error(path, error)),
        }
        // A plain open of a damaged file may panic inside redb; the checked one says it does not, but nothing is staked on that.
        let judged = catch_unwind(AssertUnwindSafe(|| judge(path, options)))
            .unwrap_or_else(|_| Err(Refusal::Distrust("redb panicked while it opened the file".into())));
        match judged {
            Ok(index) => Ok(Opened::Intact(index)),
            Err(Refusal::Fatal(error)) => Err(error),
            Err(Refusal::Distrust(why)) => {
                set_aside(path).map_err(|source| IndexError::SetAside { path: path.into(), source })?;
                Ok(Opened::Rebuilt { index: create(path, options)?, why })
            }
        }
    }
}

fn open_error(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> IndexError {
    IndexError::Open { path: path.into(), source: error.into() }
}

fn create(path: &Path, options: Options) -> Result<Index, IndexError> {
    let make = || -> Result<Index, redb::Error> {
        let database = Builder::new().set_cache_size(options.cache_bytes).create(path)?;
        write_changes(&database, &Overlay::default(), Durability::Immediate)?;
        sync_directory(path)?;
        Index::on(database, path, options)
    };
    make().map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => IndexError::InUse { path: path.into() },
        error => open_error(path, cause(error)),
    })
}

fn judge(path: &Path, options: Options) -> Result<Index, Refusal> {
    let metadata = fs::symlink_metadata(path).map_err(|error| Refusal::Fatal(open_error(path, error)))?;
    if !metadata.is_file() {
        return Err(Refusal::Fatal(open_error(path, io::Error::other("it is not a regular file"))));
    }
    if metadata.len() == 0 {
        return Err(Refusal::Distrust("the file is empty".into()));
    }
    let database = Builder::new()
        .set_cache_size(options.cache_bytes)
        .set_check_integrity_on_open(options.check)
        .open(path)
        .map_err(|error| refusal(path, error))?;
    match facts(&database) {
        Ok((FORMAT, 0)) => {}
        Ok((FORMAT, _)) => return Err(Refusal::Distrust("it was left in the middle of a change".into())),
        Ok((0, _)) => return Err(Refusal::Distrust("it was never finished".into())),
        // Only a later one: there is none before version 1.
        Ok((format, _)) => return Err(Refusal::Fatal(IndexError::TooNew { path: path.into(), format })),
        Err(error) => return Err(Refusal::Distrust(error.to_string())),
    }
    Index::on(database, path, options).map_err(|error| Refusal::Distrust(error.to_string()))
}

/// Format version (0 if there is none) and whether a change is open.
fn facts(database: &Database) -> Result<(u64, u64), redb::Error> {
    let own = match database.begin_read()?.open_table(OWN) {
        Ok(own) => own,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((0, 0)),
        Err(error) => return Err(error.into()),
    };
    let fact = |name| Ok::<_, redb::Error>(ReadableTable::get(&own, name)?.map_or(0, |value| value.value()));
    Ok((fact(FORMAT_FACT)?, fact(OPEN_CHANGE_FACT)?))
}

fn refusal(path: &Path, error: DatabaseError) -> Refusal {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Refusal::Fatal(IndexError::InUse { path: path.into() }),
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            // What redb says of a file that is no database, and what a read beyond a truncated one gives.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                Refusal::Distrust(error.to_string())
            }
            // A medium that does not answer (EIO), permissions, no memory: nothing is known of the file.
            _ => Refusal::Fatal(open_error(path, error)),
        },
        error => Refusal::Distrust(error.to_string()),
    }
}

/// Renames the file to `<name>.damaged-N`, N one above the highest there, and removes the older ones.
fn set_aside(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    let mut prefix = path.file_name().unwrap_or_default().as_bytes().to_vec();
    prefix.extend_from_slice(b".damaged-");
    let number =
        |name: OsString| std::str::from_utf8(name.as_bytes().strip_prefix(&*prefix)?).ok()?.parse::<u64>().ok();
    let mut older: Vec<u64> = Vec::new();
    for entry in fs::read_dir(&directory)? {
        older.extend(number(entry?.file_name()));
    }
    let numbered = |number: u64| {
        let mut name = prefix.clone();
        name.extend_from_slice(number.to_string().as_bytes());
        directory.join(OsString::from_vec(name))
    };
    let next = older.iter().max().map_or(1, |highest| highest.saturating_add(1));
    #[expect(
        clippy::disallowed_methods,
        reason = "the state directory is outside the home; the directory is synced below"
    )]
    fs::rename(path, numbered(next))?;
    for number in older.into_iter().filter(|&number| number != next) {
        #[expect(clippy::disallowed_methods, reason = "the state directory is outside the home")]
        fs::remove_file(numbered(number))?;
    }
    sync_directory(path)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => PathBuf::from("."),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}
