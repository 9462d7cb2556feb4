//! From `Raw` to `Settings`.
use std::path::Path;

use super::error::ConfigError;
use super::settings::Settings;

pub(super) fn judge(_file: &Path, _text: &str, _overrides: &[(String, String)]) -> Result<Settings, ConfigError> {
    Err(ConfigError::Invalid(Vec::new()))
}
