//! What toml and serde complain about, in our words: which line, which key, what was meant.

use std::path::Path;

use super::super::error::{Origin, Problem};
use super::super::raw::allowed;

/// The line of a byte of the text, counted from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// One error of toml's: not TOML, an unknown key, or a value of another type.
pub(super) fn problem(file: &Path, text: &str, error: &toml::de::Error) -> Problem {
    let origin = match error.span() {
        Some(span) => Origin::Line(file.to_path_buf(), line(text, span.start)),
        None => Origin::File(file.to_path_buf()),
    };
    let start = error.span().map_or(0, |span| span.start);
    let message = error.message().trim();
    if let Some((unknown, known)) = unknown_field(message) {
        let section = section_at(text, start);
        let (key, allowed) = if section.is_empty() || section == unknown {
            (unknown.to_owned(), list("the sections", &known, unknown))
        } else {
            (format!("{section}.{unknown}"), keys_of(&section, &known, unknown))
        };
        return Problem { origin, key, found: "an unknown key".to_owned(), allowed };
    }
    let key = key_at(text, start);
    match message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        Some((found, expected)) => {
            let allowed = allowed(&key).unwrap_or(expected).to_owned();
            Problem { origin, key, found: found.to_owned(), allowed }
        }
        None => Problem { origin, key: String::new(), found: message.replace('\n', ", "), allowed: "TOML".to_owned() },
    }
}

/// The keys of a section as a sentence, the likely one first.
pub(super) fn keys_of(section: &str, known: &[&str], unknown: &str) -> String {
    list(&format!("the keys of [{section}]"), known, unknown)
}

fn list(of_what: &str, known: &[&str], unknown: &str) -> String {
    let likely = known.iter().map(|name| (distance(name, unknown), *name)).min();
    let meant = match likely {
        Some((distance, name)) if distance <= 1 + unknown.chars().count() / 4 => format!("did you mean `{name}`? "),
        _ => String::new(),
    };
    format!("{meant}{of_what}: {}", known.join(", "))
}

/// serde's words are "unknown field `a`, expected `b`" and "..., expected one of `b`, `c`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    Some((unknown, rest.split('`').skip(1).step_by(2).collect()))
}

/// `section.key` of the assignment that a byte of the text belongs to.
fn key_at(text: &str, offset: usize) -> String {
    let section = section_at(text, offset);
    let lines = text.get(..line_end(text, offset)).unwrap_or(text).lines();
    let key = lines.rev().find_map(|line| line.split_once('=')).map_or("", |(key, _)| key.trim());
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The section that a byte of the text lies in.
fn section_at(text: &str, offset: usize) -> String {
    let lines = text.get(..line_end(text, offset)).unwrap_or(text).lines();
    let header = lines.rev().map(str::trim).find(|line| line.starts_with('[') && line.contains(']'));
    header.and_then(|line| line.split(']').next()).map_or("", |line| line.trim_start_matches('[').trim()).to_owned()
}

fn line_end(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().skip(offset).position(|&byte| byte == b'\n').map_or(text.len(), |length| offset + length)
}

/// How many letters must be put in, left out or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != against);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
