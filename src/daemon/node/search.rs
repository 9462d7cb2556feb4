//! A standby's search for its primary: every address of every peer is dialed, until one is a primary that takes it; again when that link ends.
//!
//! Each address has a [`Patience`] of its own, and names are resolved at every attempt: a dead address delays no other, and a primary that
//! moved is found under its name. The addresses of one search are begun [`HEAD_START`] after each other, in the order of the configuration.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::start::random;
use super::{Inner, Part};
use crate::daemon::primary::{SessionError, now};
use crate::daemon::standby::{StandbyContext, greet, is_hopeless};
use crate::net::NetError;
use crate::net::connection::Connection;
use crate::net::dial::HEAD_START;
use crate::thought::session::patience::{GOOD_FROM, Patience};
use crate::words::position::NodeName;

/// One address of one peer.
struct Place {
    peer: NodeName,
    address: String,
    patience: Patience,
    is_dialed: bool,
    /// What was said of it last.
    told: Option<String>,
}

/// Follows one primary after the other until it is cancelled.
pub(super) async fn search(inner: &Arc<Inner>) {
    let Part::Standby { context } = &inner.part else { return };
    // A replica is brought to a whole generation whether or not a primary can be reached; what keeps it from that stands in `status`.
    if let Err(error) = context.stand(None).await {
        tracing::warn!(error = crate::daemon::explain(&error), "the replica cannot be opened");
    }
    let mut places = Vec::new();
    for peer in &inner.options.peers {
        for address in &peer.addresses {
            let (peer, address) = (peer.name.clone(), address.clone());
            places.push(Place { peer, address, patience: Patience::new(now()), is_dialed: false, told: None });
        }
    }
    // An attempt says of which place it is, and what came of it.
    let mut dials = JoinSet::<(usize, Result<Connection, NetError>)>::new();
    spread(&mut places);
    // Whether or not a primary is ever met, it is known where the replica stands; what is wrong with it stands in the report.
    context.stand(None).await.ok();
    let mut paused = context.paused.subscribe();
    loop {
        if *paused.borrow_and_update() {
            dials.shutdown().await;
            places.iter_mut().for_each(|place| place.is_dialed = false);
            paused.wait_for(|paused| !paused).await.ok();
        }
        dial_due(inner, &mut places, &mut dials);
        let due = places.iter().filter(|place| !place.is_dialed).map(|place| place.patience.due()).min();
        let ended = tokio::select! {
            Some(ended) = dials.join_next() => ended,
            () = wait_until(due) => continue,
            _ = paused.changed() => continue,
        };
        let Ok((number, dialed)) = ended else { continue };
        let greeted = match dialed {
            Ok(connection) => greet(connection, &places[number].address, context).await,
            Err(error) => Err(error.into()),
        };
        let (held, error) = match greeted {
            Ok(link) => {
                // It is found: whoever else is being dialed is not needed.
                dials.shutdown().await;
                for place in &mut places {
                    (place.is_dialed, place.told) = (false, None);
                }
                let begun = now();
                let error = link.run().await;
                (Some(begun.elapsed()), error)
            }
            Err(error) => (None, error),
        };
        let place = &mut places[number];
        place.is_dialed = false;
        tell(inner, context, place, &error);
        place.patience.ended(held, now(), chance());
        if held.is_some_and(|held| held >= GOOD_FROM) {
            // Wherever the primary is now, it may be at any of them.
            let due = place.patience.due();
            places.iter_mut().filter(|place| place.patience.due() > due).for_each(|place| place.patience.renew(due));
            spread(&mut places);
        }
    }
}

/// Lets no two addresses be due at one moment: the earlier in the list has a head start.
fn spread(places: &mut [Place]) {
    let mut next = None;
    for place in places {
        if let Some(next) = next {
            place.patience.postpone(next);
        }
        next = Some(place.patience.due() + HEAD_START);
    }
}

fn dial_due(inner: &Arc<Inner>, places: &mut [Place], dials: &mut JoinSet<(usize, Result<Connection, NetError>)>) {
    let begun = now();
    for (number, place) in places.iter_mut().enumerate() {
        if !place.is_dialed && place.patience.due() <= begun {
            place.is_dialed = true;
            let (endpoint, address) = (Arc::clone(&inner.endpoint), place.address.clone());
            dials.spawn(async move { (number, endpoint.connect(address).await) });
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// A number that is another on every node.
fn chance() -> u16 {
    random().map_or(0, u16::from_le_bytes)
}

/// Says why there is no link, once for each reason, and whether a person must do something.
fn tell(inner: &Inner, context: &StandbyContext, place: &mut Place, error: &SessionError) {
    let text = crate::daemon::explain(error);
    let is_open = context.report.lock().unwrap_or_else(PoisonError::into_inner).stand.is_some();
    let mut hopeless = inner.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
    if is_hopeless(error) {
        *hopeless = Some(text.clone());
    } else if is_open {
        // A person has mended it.
        *hopeless = None;
    }
    drop(hopeless);
    if let SessionError::Net(NetError::Untrusted { id, .. } | NetError::Doubtful { id, .. }) = error {
        inner.peers.met_stranger(*id, text.clone(), now());
    }
    let (peer, address) = (&place.peer, &place.address);
    if place.told.as_ref() == Some(&text) {
        tracing::debug!(%peer, %address, %text, "still no link to the primary");
    } else if error.is_ordinary() {
        tracing::info!(%peer, %address, %text, "no link to the primary");
    } else {
        tracing::warn!(%peer, %address, %text, "no link to the primary");
    }
    inner.peers.change(peer, |known| known.trouble = Some(text.clone()));
    place.told = Some(text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_addresses_of_one_search_are_dialed_in_their_order_each_with_a_head_start() {
        let begin = now();
        let place = |name: &str| Place {
            peer: NodeName::try_from(name.to_owned()).unwrap(),
            address: format!("{name}:1"),
            patience: Patience::new(begin),
            is_dialed: false,
            told: None,
        };
        let mut places = vec![place("a"), place("b"), place("c")];
        spread(&mut places);
        let after = |places: &[Place]| -> Vec<_> { places.iter().map(|place| place.patience.due() - begin).collect() };
        assert_eq!(after(&places), [Duration::ZERO, HEAD_START, 2 * HEAD_START]);
        // One that has to wait longer anyway is not begun sooner.
        places[1].patience.postpone(begin + 3 * HEAD_START);
        spread(&mut places[..2]);
        assert_eq!(after(&places[..2]), [Duration::ZERO, 3 * HEAD_START]);
    }
}
