//! Is a node fit for its role? For `hotspare health`, and whoever asks the same by HTTP.

use std::time::Duration;

use super::status::{RoleStatus, State, Status};

/// Why the node that says `status` of itself is not fit for its role; nothing if it is. A standby may be `max_lag` behind.
pub fn reasons(status: &Status, max_lag: Option<Duration>) -> Vec<String> {
    let mut reasons = Vec::new();
    match status.state {
        State::Stuck if status.alarms.is_empty() => reasons.push("replication stands still".to_owned()),
        State::Stuck => reasons.extend(status.alarms.iter().cloned()),
        // A standby that holds back is as fit as it is near: its lag says that.
        State::Held if status.node.role == RoleStatus::Primary => reasons.extend(status.alarms.iter().cloned()),
        State::Starting | State::Recovering => reasons.push("the daemon has not finished its start".to_owned()),
        State::Stopping => reasons.push("the daemon is ending".to_owned()),
        _ => {}
    }
    if status.node.role == RoleStatus::Primary {
        return reasons;
    }
    if status.node.role == RoleStatus::Unassigned {
        reasons.push("this node has no role".to_owned());
        return reasons;
    }
    if status.state == State::Paused {
        reasons.push("it is paused; `hotspare resume` lets it go on".to_owned());
    }
    reasons.extend(status.promotable.why_not.iter().filter(|why| !status.alarms.contains(why)).cloned());
    if let (Some(max), Some(lag)) = (max_lag, status.lag_seconds)
        && lag > max.as_secs_f64()
    {
        let max = humantime::format_duration(max);
        reasons.push(format!("it is {lag:.1} s behind, and {max} are allowed"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::tests::sample;

    #[test]
    fn a_primary_is_fit_unless_replication_cannot_go_on() {
        let mut status = sample();
        assert_eq!(reasons(&status, None), Vec::<String>::new(), "an alarm that does not stop it is no reason");
        status.state = State::Stuck;
        assert_eq!(reasons(&status, None), ["look"]);
        status.alarms.clear();
        assert_eq!(reasons(&status, None), ["replication stands still"]);
    }

    #[test]
    fn a_standby_is_fit_if_it_could_take_over_and_is_not_too_far_behind() {
        let mut status = sample();
        status.node.role = RoleStatus::Standby;
        (status.promotable.yes, status.promotable.why_not) = (true, vec![]);
        status.lag_seconds = Some(11.0);
        assert_eq!(reasons(&status, None), Vec::<String>::new());
        assert_eq!(reasons(&status, Some(Duration::from_secs(11))), Vec::<String>::new());
        assert_eq!(reasons(&status, Some(Duration::from_secs(10))), ["it is 11.0 s behind, and 10s are allowed"]);
        status.promotable.why_not.push("it holds no complete generation yet".to_owned());
        assert_eq!(reasons(&status, None), ["it holds no complete generation yet"]);
    }
}
