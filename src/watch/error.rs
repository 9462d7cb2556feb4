//! Why a watch could not be placed.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::words::entry::InodeId;
use crate::words::path::RelPath;

/// Why a directory or an inode is not watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel allows no more. What was placed before stays.
    #[error("{0}")]
    LimitReached(Limit),
    /// The path leads to nothing any more, or not to a directory.
    #[error("cannot watch {path}: it is gone, or no directory")]
    Gone {
        /// What was to be watched.
        path: RelPath,
    },
    /// The directory may not be read by this user, so not be watched either.
    #[error("cannot watch {path}: permission denied")]
    Unreadable {
        /// What was to be watched.
        path: RelPath,
    },
    /// The absolute path is too long for the kernel, and no descriptor was given.
    #[error("cannot watch {path}: its absolute path is too long, and it was not given open")]
    TooLong {
        /// What was to be watched.
        path: RelPath,
    },
    /// The barrier directory cannot be used.
    #[error("cannot use the barrier directory .hotspare/barriers")]
    Barriers(#[source] io::Error),
    /// The source itself does not work (any more).
    #[error("the {what} event source does not work")]
    Source {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The inode cannot be watched.
    #[error("cannot watch inode {} on device {}", .inode.ino, .inode.dev)]
    Inode {
        /// Which one.
        inode: InodeId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot watch {path}")]
    Other {
        /// What was to be watched.
        path: RelPath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WatchError {
    /// What it means that the kernel answered a request to watch `path` with `error`.
    pub(super) fn placing(path: &RelPath, error: io::Error) -> Self {
        let path = path.clone();
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC) => Self::LimitReached(Limit::read(WATCHES)),
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Self::Gone { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::Unreadable { path },
            Some(Errno::NAMETOOLONG) => Self::TooLong { path },
            _ => Self::Other { path, source: error },
        }
    }

    /// The same of a request to watch `inode`.
    pub(super) fn placing_inode(inode: InodeId, error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC) => Self::LimitReached(Limit::read(WATCHES)),
            _ => Self::Inode { inode, source: error },
        }
    }

    /// What it means that a source could not be created because of `error`.
    pub(super) fn creating(what: &'static str, error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE) => Self::LimitReached(Limit::read(INSTANCES)),
            _ => Self::Source { what, source: error },
        }
    }
}

/// The sysctl that limits watches, per user.
pub(super) const WATCHES: &str = "max_user_watches";
/// The sysctl that limits inotify instances, per user.
pub(super) const INSTANCES: &str = "max_user_instances";
/// What to advise when the present value cannot be read: the kernel's own upper default.
const FALLBACK: u64 = 1_048_576;

/// A limit of the kernel, and how to raise it. Displays as a sentence with the exact command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The sysctl below `fs.inotify`.
    pub name: &'static str,
    /// Its present value, if it could be read.
    pub present: Option<u64>,
    /// The value to set: twice the present one.
    pub advised: u64,
    /// It is not the kernel's limit that is reached, but the watcher's own budget of so many watches.
    pub budget: Option<u64>,
}

impl Limit {
    pub(super) fn read(name: &'static str) -> Self {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        Self::of(name, text.ok().as_deref())
    }

    pub(super) fn of(name: &'static str, text: Option<&str>) -> Self {
        let present = text.and_then(|text| text.trim().parse().ok());
        let advised = present.map_or(FALLBACK, |present: u64| present.saturating_mul(2));
        Self { name, present, advised, budget: None }
    }

    /// The watcher's own budget of `watches` is spent.
    pub(super) fn spent(watches: usize) -> Self {
        Self { budget: Some(watches as u64), ..Self::read(WATCHES) }
    }

    /// What to do when `uncovered` directories are left without a watch, with values that leave room for as many again.
    pub fn hint(&self, uncovered: u64) -> String {
        let room = |value: u64| value.saturating_add(uncovered.saturating_mul(2)).checked_next_power_of_two();
        let setting = format!("fs.inotify.{}={}", self.name, self.present.and_then(room).unwrap_or(self.advised));
        let keep = format!("sysctl -w {setting}, and to keep it: echo {setting} > /etc/sysctl.d/60-hotspare.conf");
        match (self.budget, self.present) {
            (Some(budget), present) => {
                let wanted = room(budget).unwrap_or(u64::MAX);
                let present = present.map_or_else(String::new, |present| format!(" ({present})"));
                format!(
                    "[watch] max_watches ({budget}) is reached; set it to {wanted} or leave it out; if the limit fs.inotify.{}{present} \
                     has no room for that, raise it: {keep}",
                    self.name
                )
            }
            (None, Some(present)) => {
                format!("the limit fs.inotify.{} ({present}) is reached; raise it: {keep}", self.name)
            }
            (None, None) => format!("the limit fs.inotify.{} is reached; raise it: {keep}", self.name),
        }
    }

    /// The command that raises it until the next boot.
    pub fn command(&self) -> String {
        format!("sysctl -w fs.inotify.{}={}", self.name, self.advised)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit fs.inotify.{} ", self.name)?;
        if let Some(present) = self.present {
            write!(f, "({present}) ")?;
        }
        write!(f, "is reached; raise it: {}", self.command())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reached_limit_names_the_command_that_doubles_it() {
        let limit = Limit::of(WATCHES, Some("65536\n"));
        assert_eq!(limit.command(), "sysctl -w fs.inotify.max_user_watches=131072");
        let said = WatchError::LimitReached(limit).to_string();
        assert_eq!(
            said,
            "the limit fs.inotify.max_user_watches (65536) is reached; raise it: sysctl -w fs.inotify.max_user_watches=131072"
        );
        for unreadable in [None, Some(""), Some("many")] {
            assert_eq!(Limit::of(INSTANCES, unreadable).command(), "sysctl -w fs.inotify.max_user_instances=1048576");
        }
    }

    #[test]
    fn the_hint_leaves_room_for_what_is_uncovered_and_says_how_to_keep_it() {
        let kernel = Limit::of(WATCHES, Some("192536"));
        assert_eq!(
            kernel.hint(4_500),
            "the limit fs.inotify.max_user_watches (192536) is reached; raise it: \
             sysctl -w fs.inotify.max_user_watches=262144, and to keep it: \
             echo fs.inotify.max_user_watches=262144 > /etc/sysctl.d/60-hotspare.conf"
        );
        let own = Limit { budget: Some(500), ..kernel }.hint(4_500);
        assert!(own.starts_with("[watch] max_watches (500) is reached; set it to 16384 or leave it out; "), "{own}");
        assert!(own.contains("sysctl -w fs.inotify.max_user_watches=262144, "), "{own}");
        assert!(Limit::of(WATCHES, None).hint(3).contains("fs.inotify.max_user_watches=1048576, "));
    }

    #[test]
    fn errors_of_the_kernel_mean_what_the_caller_can_act_on() {
        let path = RelPath::parse(b"jobs/a").unwrap();
        let of = |errno: Errno| WatchError::placing(&path, errno.into());
        let text = |error: WatchError| error.to_string();
        assert_eq!(text(of(Errno::NOENT)), "cannot watch jobs/a: it is gone, or no directory");
        assert_eq!(text(of(Errno::NOTDIR)), text(of(Errno::NOENT)));
        assert_eq!(text(of(Errno::ACCESS)), "cannot watch jobs/a: permission denied");
        assert!(matches!(of(Errno::NAMETOOLONG), WatchError::TooLong { .. }));
        assert!(matches!(of(Errno::NOMEM), WatchError::Other { .. }));
        let present = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap();
        for error in [of(Errno::NOSPC), WatchError::placing_inode(InodeId::default(), Errno::NOSPC.into())] {
            let WatchError::LimitReached(limit) = error else { panic!("not a limit: {error}") };
            assert_eq!(limit, Limit::of(WATCHES, Some(&present)));
        }
    }

    #[test]
    fn no_more_instances_is_a_limit_of_its_own() {
        let WatchError::LimitReached(limit) = WatchError::creating("inotify", Errno::MFILE.into()) else {
            panic!("no limit")
        };
        assert_eq!(limit.name, INSTANCES);
        assert!(matches!(WatchError::creating("inotify", Errno::NOSYS.into()), WatchError::Source { .. }));
    }
}
