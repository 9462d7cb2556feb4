//! What the instruments say: `counters`, `token`, `swap`, `notes`.

use std::collections::BTreeSet;

use super::{Copy, Found, Rule};
use crate::jenkins::instruments::{
    COUNTERS, HOLDERS, MEMBERS, NOTES_SPAN, SWAPS, TOKENS, count, is_part_written, note_versions, notes,
};

/// Where the instruments of each writer lie.
pub(super) fn directories(copy: &Copy) -> Vec<(u32, String)> {
    let names = copy.names("userContent").into_iter();
    names.filter_map(|name| Some((name.strip_prefix("load-")?.parse().ok()?, format!("userContent/{name}")))).collect()
}

pub(super) fn check(copy: &Copy, found: &mut Found) {
    for (_, at) in directories(copy) {
        counters(copy, &at, found);
        for token in TOKENS {
            let holders: Vec<&str> =
                HOLDERS.into_iter().filter(|holder| copy.has(&format!("{at}/{holder}/{token}"))).collect();
            found.add_if(holders.len() != 1, Rule::Token, &at, || format!("{token} is in {holders:?}"));
        }
        for swap in SWAPS {
            if let Some(what) = misplaced(copy, &at, swap) {
                found.add(Rule::Swap, &at, what);
            }
        }
        let path = format!("{at}/notes");
        let text = copy.bytes(&path).unwrap_or_default();
        found.add_if(!are_notes(&text), Rule::Notes, &path, || format!("versions {:?}", note_versions(&text)));
    }
}

fn counters(copy: &Copy, at: &str, found: &mut Found) {
    let texts = COUNTERS.map(|counter| copy.text(&format!("{at}/{counter}/count")).unwrap_or_default());
    let numbers = texts.each_ref().map(|text| text.parse::<u64>().ok());
    let is_part =
        |text: &str, old: u64| is_part_written(text.as_bytes(), count(old).as_bytes(), count(old + 1).as_bytes());
    let is_right = match numbers {
        [Some(first), Some(second)] if first == second || first.checked_sub(1) == Some(second) => true,
        // One of them is being written: the first one over what the second still says, or the second one up to what the first says.
        [Some(first), _] if first > 0 && is_part(&texts[1], first - 1) => true,
        [_, Some(second)] => is_part(&texts[0], second),
        _ => false,
    };
    found.add_if(!is_right, Rule::Counters, at, || format!("{texts:?}"));
}

fn misplaced(copy: &Copy, at: &str, (one, other, between): (&str, &str, Option<&str>)) -> Option<String> {
    let places: Vec<&str> = [Some(one), Some(other), between].into_iter().flatten().collect();
    let there: Vec<&str> = places.into_iter().filter(|place| copy.has(&format!("{at}/{place}"))).collect();
    if there.len() != 2 {
        return Some(format!("of {one} and {other} there are {there:?}"));
    }
    let mut tags = BTreeSet::new();
    for place in &there {
        let members = copy.names(&format!("{at}/{place}"));
        let said: BTreeSet<Option<String>> =
            MEMBERS.iter().map(|name| copy.text(&format!("{at}/{place}/{name}"))).collect();
        if members != MEMBERS || said.len() != 1 {
            return Some(format!("{place} has {members:?}, which say {said:?}"));
        }
        tags.extend(said.into_iter().flatten());
    }
    let wanted = BTreeSet::from([one.to_owned(), other.to_owned()]);
    (tags != wanted).then(|| format!("{there:?} say {tags:?}"))
}

/// True for any version, and for the next one written over it in part.
fn are_notes(text: &[u8]) -> bool {
    note_versions(text).into_iter().flat_map(|version| [version.saturating_sub(1), version]).any(|version| {
        let old = notes(version);
        let is_next = !(version + 1).is_multiple_of(NOTES_SPAN);
        text == old.as_bytes() || (is_next && is_part_written(text, old.as_bytes(), notes(version + 1).as_bytes()))
    })
}
