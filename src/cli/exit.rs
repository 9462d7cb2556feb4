//! The one place where what happened becomes an exit code, and where an error is said: once, as one chain, with what to do.

use std::process::ExitCode;

use super::output;
use crate::config::ConfigError;
use crate::control::{ClientError, RefusalClass};

/// What a command that did its work has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done; or: the answer is yes. Exit code 0.
    Yes,
    /// The answer is no, and it was printed. Exit code 1.
    No,
    /// What a command that was run on the user's behalf ended with.
    Code(u8),
}

/// Why a command did not do its work; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The command line or the configuration is not right.
    Usage = 2,
    /// The daemon or a peer cannot be reached.
    Unreachable = 3,
    /// A guard refused.
    Guard = 4,
    /// Anything else.
    Other = 5,
}

/// A failure whose class and remedy are known where it is found. As the outermost or any inner error of a chain it decides both.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    class: Class,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure of a class, without a hint.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Says what went wrong and gives the exit code.
pub(super) fn code(outcome: anyhow::Result<Answer>) -> ExitCode {
    match outcome {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Code(code)) => ExitCode::from(code),
        Err(error) => {
            let (class, hint) = judge(&error);
            output::complain(&format!("error: {error:#}"));
            if let Some(hint) = hint {
                output::complain(&format!("hint: {hint}"));
            }
            ExitCode::from(class as u8)
        }
    }
}

/// clap's own word: help and version go to stdout with 0, a wrong command line to stderr with 2.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Ok(()) if !error.use_stderr() => ExitCode::SUCCESS,
        _ => ExitCode::from(Class::Usage as u8),
    }
}

/// The class of an error and what to do about it: those of the outermost cause that has any.
pub fn judge(error: &anyhow::Error) -> (Class, Option<String>) {
    error.chain().find_map(judge_cause).unwrap_or((Class::Other, None))
}

fn judge_cause(cause: &(dyn std::error::Error + 'static)) -> Option<(Class, Option<String>)> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some((failure.class, failure.hint.clone()));
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        let hint = match error {
            ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("name the configuration with -c FILE; config/primary.toml is one to begin with".to_owned())
            }
            ConfigError::Read { .. } | ConfigError::Invalid(_) => None,
        };
        return Some((Class::Usage, hint));
    }
    cause.downcast_ref::<ClientError>().map(judge_client)
}

fn judge_client(error: &ClientError) -> (Class, Option<String>) {
    let unreachable = |hint: &str| (Class::Unreachable, Some(hint.to_owned()));
    match error {
        ClientError::NoDaemon(_) => {
            unreachable("start it with `hotspare run -c FILE`, or name the right one with -c FILE or --socket PATH")
        }
        ClientError::Connect { .. } => unreachable("run this as the user of the daemon, or as root"),
        ClientError::Exchange { .. } | ClientError::Silent { .. } => {
            unreachable("see the daemon's log: it may have ended, or hang")
        }
        ClientError::Answer { .. } => unreachable("restart the daemon after an upgrade"),
        ClientError::Refused(refusal) => {
            let class = match refusal.class {
                RefusalClass::Usage => Class::Usage,
                RefusalClass::Unreachable => Class::Unreachable,
                RefusalClass::Guard => Class::Guard,
                RefusalClass::Other => Class::Other,
            };
            (class, refusal.hint.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Refusal;
    use std::path::PathBuf;

    #[test]
    fn every_class_of_error_has_its_exit_code_at_any_depth() {
        let refused = |class| ClientError::Refused(Refusal::new(class, "no"));
        for (error, class) in [
            (anyhow::Error::new(ConfigError::Invalid(vec![])), Class::Usage),
            (ClientError::NoDaemon(PathBuf::from("/s")).into(), Class::Unreachable),
            (refused(RefusalClass::Usage).into(), Class::Usage),
            (refused(RefusalClass::Unreachable).into(), Class::Unreachable),
            (refused(RefusalClass::Guard).into(), Class::Guard),
            (refused(RefusalClass::Other).into(), Class::Other),
            (Failure::new(Class::Guard, "not empty").into(), Class::Guard),
            (anyhow::anyhow!("disk on fire"), Class::Other),
        ] {
            assert_eq!(judge(&error).0, class, "{error}");
            assert_eq!(judge(&error.context("while waiting")).0, class);
        }
        let codes = [Class::Usage, Class::Unreachable, Class::Guard, Class::Other].map(|class| class as u8);
        assert_eq!(codes, [2, 3, 4, 5]);
    }

    #[test]
    fn a_hint_comes_from_where_the_failure_was_found() {
        let error = anyhow::Error::new(Failure::new(Class::Guard, "no replica").hint("--adopt")).context("mirror");
        assert_eq!(judge(&error), (Class::Guard, Some("--adopt".to_owned())));
        assert_eq!(format!("{error:#}"), "mirror: no replica");
    }
}
