//! The marker: `<home>/.hotspare/home` says which home a directory is, on the primary as on every replica.
//!
//! **Format, version 1:** the line `hotspare home 1 `, the id as 32 hex digits, a newline.

use super::ReplicaError;
use super::layout;
use crate::fs::Root;
use crate::words::path::{Name, RelPath};
use crate::words::position::HomeId;

const PREFIX: &str = "hotspare home 1 ";

fn path() -> Option<RelPath> {
    Name::parse(b"home").ok().map(|name| layout::reserved().join(&name))
}

/// The id in the marker; `None` if there is no marker.
pub fn read(root: &Root) -> Result<Option<HomeId>, ReplicaError> {
    let Some(path) = path() else { return Ok(None) };
    let file = match root.open_read(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut buffer = [0; 128];
    let count = file.read_at(&mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..count]).unwrap_or_default();
    let id = text.strip_prefix(PREFIX).and_then(|rest| rest.trim_end().parse().ok());
    id.map(Some).ok_or_else(|| ReplicaError::Marker { path: root.path().join(".hotspare/home") })
}

/// What the marker of the home `id` says.
pub fn line(id: HomeId) -> String {
    format!("{PREFIX}{id}\n")
}

/// Writes the marker, durably, making `.hotspare` if need be.
pub fn write(root: &Root, home: HomeId) -> Result<(), ReplicaError> {
    match root.make_directory(&layout::reserved(), 0o700) {
        Err(error) if !error.is_existing() => return Err(error.into()),
        _ => {}
    }
    let Some(path) = path() else { return Ok(()) };
    let temporary = layout::temporary();
    root.remove_tree(&temporary)?;
    let file = root.create_file(&temporary)?;
    file.write_at(line(home).as_bytes(), 0)?;
    file.sync_all()?;
    root.rename(&temporary, &path)?;
    root.sync_directory(&layout::reserved())?;
    Ok(root.sync_directory(&RelPath::root())?)
}
