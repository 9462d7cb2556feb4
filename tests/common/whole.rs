//! Whether a replica that was cut off at some moment is a whole generation, and which.

use std::fs;
use std::path::Path;

use super::pair::Pair;

/// `epoch.generation`, to be compared within one history.
pub(crate) type Place = (u64, u64);

/// What a recovery should have cleared away.
pub(crate) fn litter(replica: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for area in ["stage", "reveal"] {
        for entry in fs::read_dir(replica.join(".hotspare").join(area)).into_iter().flatten().flatten() {
            found.push(format!("{area}/{}", entry.file_name().to_string_lossy()));
        }
    }
    found.retain(|name| name != "stage/held");
    found
}

/// A position in the status document.
pub(crate) fn place(status: &serde_json::Value) -> Option<Place> {
    let (epoch, generation) = status.as_str()?.split_once('.')?;
    Some((epoch.parse().unwrap(), generation.parse().unwrap()))
}

/// What the standby acked, as its primary knows.
pub(crate) fn acked(pair: &Pair) -> Option<Place> {
    place(&pair.status(&pair.primary)["peers"][0]["acked"]).filter(|acked| *acked != (0, 0))
}

/// Looks at a standby that was started while its primary can send nothing: it shows the whole of a generation, and litters nothing.
pub(crate) fn shown_whole(pair: &mut Pair, acked: Option<Place>) -> Option<Place> {
    let mut shown = None;
    pair.until("the replica is open", |pair| {
        let status = pair.status(&pair.standby);
        shown = place(&status["position"]);
        // A standby that was killed before its first generation holds none, and says so.
        shown.is_some() || (acked.is_none() && status["promotable"]["yes"] == false)
    });
    assert!(shown >= acked, "it acked {acked:?} and shows {shown:?}\n{}", pair.told());
    shown?;
    let litter = litter(&pair.bed.destination());
    assert!(litter.is_empty(), "litter: {litter:?}\n{}", pair.told());
    pair.assert_verified(&pair.standby);
    assert_eq!(place(&pair.status(&pair.standby)["position"]), shown, "nothing came meanwhile");
    shown
}
