//! What of a configuration that was read again can only be put into force by a restart.

use super::settings::Settings;

impl Settings {
    /// The keys, as `section.key`, by which `new` differs from this one and which only a restart puts into force: all but those of
    /// `[replicate]`, and of a section that means what it meant.
    pub fn needs_restart(&self, new: &Self) -> Vec<String> {
        let sections = [
            ("node.", self.node != new.node),
            ("tls.", self.tls != new.tls),
            ("batch.", self.batch != new.batch),
            ("window.", self.window != new.window),
            ("watch.", self.watch != new.watch),
            ("scrub.", self.scrub != new.scrub),
            ("standby.", self.standby != new.standby),
            ("failover.", self.failover != new.failover),
            ("hooks.", self.hooks != new.hooks),
            ("observe.", self.observe != new.observe),
        ];
        let mut keys: Vec<String> = self
            .given
            .keys()
            .chain(new.given.keys())
            .filter(|key| self.given.get(*key) != new.given.get(*key))
            .cloned()
            .collect();
        keys.retain(|key| sections.iter().any(|(section, differs)| *differs && key.starts_with(section)));
        keys.extend((self.peers != new.peers).then(|| "peer".to_owned()));
        keys.sort();
        keys.dedup();
        keys
    }
}
