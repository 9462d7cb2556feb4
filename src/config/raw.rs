//! What the file says, before it is judged: every value is a text with the place it came from.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

/// A text somebody wrote, and where.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Spanned<String>")]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Where a text was written: bytes of the file, or the name of an environment variable.
#[derive(Debug, Clone)]
pub(super) enum Place {
    File(Range<usize>),
    Variable(String),
}

impl From<Spanned<String>> for Given {
    fn from(spanned: Spanned<String>) -> Self {
        let place = Place::File(spanned.span());
        Self { text: spanned.into_inner(), place }
    }
}

/// A file is a table of sections; a section is a table of keys, each with what it allows. One list makes the types that serde fills,
/// the way from `HOTSPARE_*` into them, and the words of the errors.
macro_rules! sections {
    ($($section:ident : $Raw:ident { $($key:ident : $allowed:literal,)* $([$list:ident : $list_allowed:literal])* })*) => {
        /// A whole file.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct Raw {
            $(pub(super) $section: $Raw,)*
            pub(super) peer: Vec<Spanned<RawPeer>>,
        }

        $(
            #[derive(Debug, Default, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub(super) struct $Raw {
                $(pub(super) $key: Option<Given>,)*
                $(pub(super) $list: Vec<Given>,)*
            }
        )*

        impl Raw {
            /// The names of all sections but `[[peer]]`, which no variable reaches.
            pub(super) const SECTIONS: &[&str] = &[$(stringify!($section)),*];

            /// The single-valued keys of a section.
            pub(super) fn keys(section: &str) -> &'static [&'static str] {
                match section {
                    $(stringify!($section) => &[$(stringify!($key)),*],)*
                    _ => &[],
                }
            }

            /// Where the value of a single-valued key stands.
            pub(super) fn slot(&mut self, section: &str, key: &str) -> Option<&mut Option<Given>> {
                match (section, key) {
                    $($((stringify!($section), stringify!($key)) => Some(&mut self.$section.$key),)*)*
                    _ => None,
                }
            }
        }

        /// What the key `section.key` allows, in words.
        pub(super) fn allowed(key: &str) -> Option<&'static str> {
            match key {
                $(
                    $(concat!(stringify!($section), ".", stringify!($key)) => Some($allowed),)*
                    $(concat!(stringify!($section), ".", stringify!($list)) => Some($list_allowed),)*
                )*
                "peer.name" => Some("the name of another node: 1 to 64 characters of a-z A-Z 0-9 . _ -, each name once"),
                "peer.address" => Some("\"host:port\", or a list of them, the port 1 to 65535"),
                "peer.id" => Some("what `hotspare id` prints on that node: \"hs1-\" and 64 hexadecimal digits, each id once"),
                _ => None,
            }
        }
    };
}

sections! {
    node: RawNode {
        name: "1 to 64 characters of a-z A-Z 0-9 . _ -",
        home: "an absolute path other than \"/\", neither inside node.state nor around it",
        state: "an absolute path other than \"/\", neither inside node.home nor around it",
        initial_role: "\"primary\" or \"standby\"",
        listen: "an IP address and a UDP port, such as \"0.0.0.0:7420\" or \"[::]:7420\"",
    }
    tls: RawTls {
        ca: "the absolute path of a PEM file: the certificates of the CAs that are believed",
        cert: "the absolute path of a PEM file: this node's certificate and those up to its CA; with tls.key",
        key: "the absolute path of a PEM file: the key of tls.cert; with tls.cert",
    }
    replicate: RawReplicate {
        preset: "\"jenkins\" or \"none\"",
        [include: "a list of patterns in gitignore syntax, without a leading `!`"]
        [exclude: "a list of patterns in gitignore syntax, without a leading `!`"]
    }
    batch: RawBatch {
        quiet: "a duration from \"1ms\" to \"10s\", such as \"50ms\", and not longer than batch.longest",
        longest: "a duration from \"10ms\" to \"1m\", such as \"1s\"",
        big_file: "a size from \"1MiB\" to \"1GiB\", such as \"8MiB\"",
    }
    window: RawWindow {
        memory: "a size from \"1MiB\" to \"4GiB\", such as \"32MiB\"",
        disk: "a size from \"1MiB\", such as \"512MiB\"",
        linger: "a duration up to \"1day\", such as \"10m\"",
    }
    watch: RawWatch {
        backend: "\"notify\" or \"inotify\"",
        max_watches: "a number of watches from \"16\", in quotes, such as \"100000\"",
        queue: "a number of events from \"64\" to \"16777216\", in quotes, such as \"65536\"",
        scan: "\"auto\" or \"always\"",
        poll: "a duration from \"1s\" to \"1day\", such as \"30s\"",
    }
    scrub: RawScrub {
        rate: "a size a second from \"64KiB\", such as \"8MiB\", or \"off\"",
        every: "a duration from \"1s\", such as \"1day\"",
    }
    standby: RawStandby {
        history_age: "a duration, such as \"7days\"",
        history_size: "a size, such as \"10GiB\"",
        fuse: "a share from \"1%\" to \"100%\", such as \"50%\"",
        fuse_count: "a number of entries, in quotes, such as \"1000\"",
        fuse_window: "a duration from \"1s\" to \"7days\", such as \"10m\"",
        reserve: "a size, such as \"256MiB\", or a share from \"1%\" to \"90%\"",
        bandwidth: "a size a second from \"64KiB\", such as \"50MiB\"",
        burst: "a size from \"64KiB\", such as \"50MiB\", with standby.bandwidth",
        adopt: "\"yes\" or \"no\"",
    }
    failover: RawFailover {
        engine: "\"manual\", \"keepalived\" or \"kubernetes\"",
        max_lag: "a duration, such as \"10s\"",
        lease: "the name of a Lease: 1 to 253 characters of a-z 0-9 . -",
    }
    hooks: RawHooks {
        quiesce: "the absolute path of a program",
        promoted: "the absolute path of a program",
        demoted: "the absolute path of a program",
        alarm: "the absolute path of a program",
    }
    observe: RawObserve {
        http: "an IP address and a TCP port, such as \"127.0.0.1:7421\"",
        log_format: "\"text\" or \"json\"",
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeer {
    pub(super) name: Option<Given>,
    pub(super) address: Option<OneOrMore>,
    pub(super) id: Option<Given>,
}

/// One text or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMore(pub(super) Vec<Given>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        enum Form {
            One(String),
            More(Vec<Given>),
        }
        impl<'de> Deserialize<'de> for Form {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(FormVisitor)
            }
        }
        struct FormVisitor;
        impl<'de> Visitor<'de> for FormVisitor {
            type Value = Form;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Form, E> {
                Ok(Form::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Form, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(Form::More(texts))
            }
        }

        let spanned = Spanned::<Form>::deserialize(deserializer)?;
        let place = Place::File(spanned.span());
        Ok(Self(match spanned.into_inner() {
            Form::One(text) => vec![Given { text, place }],
            Form::More(texts) => texts,
        }))
    }
}
