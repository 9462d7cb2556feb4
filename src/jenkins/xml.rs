//! XML as Jenkins saves it: the header says version 1.1, which strict parsers refuse; a file is whole if every element that it opens is closed.

use std::fmt::{Display, Write as _};

/// How every file begins.
const HEADER: &str = "<?xml version='1.1' encoding='UTF-8'?>\n";

/// A file with one element, which holds `fields`; after them comes `filler`, as a text of its own.
pub(super) fn document(root: &str, fields: &[(&str, &dyn Display)], filler: &str) -> String {
    let mut text = format!("{HEADER}<{root}>\n");
    for (name, value) in fields {
        line(&mut text, name, value);
    }
    if !filler.is_empty() {
        line(&mut text, "description", &filler);
    }
    line_end(&mut text, root);
    text
}

fn line(text: &mut String, name: &str, value: &dyn Display) {
    // Writing to a text does not fail.
    writeln!(text, "  <{name}>{value}</{name}>").unwrap_or_default();
}

fn line_end(text: &mut String, root: &str) {
    writeln!(text, "</{root}>").unwrap_or_default();
}

/// The value of the first field of that name.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
}

/// The value of the first field of that name, as a number.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.parse().ok()
}

/// Why `text` is not a whole file.
pub(super) fn fault(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("empty".into());
    }
    let Some(body) = text.strip_prefix("<?xml version='1.1' encoding='UTF-8'?>") else {
        return Some("does not begin with a header".into());
    };
    let mut open: Vec<&str> = Vec::new();
    let mut elements = 0;
    for piece in body.split('<').skip(1) {
        let Some((tag, after)) = piece.split_once('>') else { return Some(format!("<{piece} does not end")) };
        match tag.strip_prefix('/') {
            Some(name) if open.pop() == Some(name) => {}
            Some(name) => return Some(format!("</{name}> closes another element")),
            None => {
                elements += u32::from(open.is_empty());
                open.push(tag);
            }
        }
        if open.is_empty() && !after.trim().is_empty() {
            return Some("goes on after its end".into());
        }
    }
    match open.last() {
        Some(name) => Some(format!("<{name}> is not closed")),
        None => (elements != 1).then(|| format!("has {elements} elements")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_whole_and_any_part_of_it_is_not() {
        let text = document("run", &[("number", &3), ("log", &"a")], "words");
        assert_eq!(fault(&text), None);
        assert_eq!((number(&text, "number"), field(&text, "none"), field(&text, "log")), (Some(3), None, Some("a")));
        for end in 0..text.len() - 1 {
            assert!(fault(&text[..end]).is_some(), "{:?}", &text[..end]);
        }
        for faulty in [
            format!("{text}{text}"),
            text.replace("</number>", "</log>"),
            format!("{text}<run></run>"),
            format!("{text}x"),
        ] {
            assert!(fault(&faulty).is_some(), "{faulty}");
        }
    }
}
