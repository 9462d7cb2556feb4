//! What each file must be by itself: `temporary`, `xml`, `log`, `secret`, `program`.

use super::job::SeenJob;
use super::{Copy, Found, Rule};
use crate::jenkins::home::{KEYS, MASTER};
use crate::jenkins::plan::heads_of;
use crate::jenkins::{secret, xml};
use crate::thought::filter::jenkins::is_temporary;
use crate::words::path::{RESERVED, RelPath};

pub(super) fn check(copy: &Copy, found: &mut Found) {
    files(copy, "", found);
    let master = copy.text(MASTER).unwrap_or_default();
    for key in KEYS {
        let path = format!("secrets/{key}");
        if let Err(error) = secret::open(&master, &copy.bytes(&path).unwrap_or_default()) {
            found.add(Rule::Secret, &path, error.to_string());
        }
    }
    for job in SeenJob::all(copy).0 {
        for &number in job.builds.keys() {
            let path = format!("{}/log", job.at(number));
            let plan = job.plan(number);
            let said = copy.bytes(&path).unwrap_or_default();
            found.add_if(!plan.log(plan.steps).as_bytes().starts_with(&said), Rule::Log, &path, || {
                format!("{} bytes are not the beginning of what the build says", said.len())
            });
        }
    }
}

fn files(copy: &Copy, directory: &str, found: &mut Found) {
    for name in copy.names(directory) {
        if directory.is_empty() && name.as_bytes() == RESERVED {
            continue;
        }
        let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
        if RelPath::parse(path.as_bytes()).is_ok_and(|path| is_temporary(&path)) {
            found.add(Rule::Temporary, &path, "a temporary");
        } else if copy.0.join(&path).is_dir() {
            files(copy, &path, found);
        } else if name.ends_with(".xml")
            && !path.ends_with("/workflow/flowNodeStore.xml")
            && !name.starts_with("changelog")
        {
            let fault = match copy.text(&path) {
                Some(text) => xml::fault(&text),
                None => Some("is no text, or cannot be read".into()),
            };
            fault.into_iter().for_each(|fault| found.add(Rule::Xml, &path, fault));
        } else if name == "program.dat" && heads_of(&copy.bytes(&path).unwrap_or_default()).is_none() {
            found.add(Rule::Program, &path, "cannot be loaded");
        }
    }
}
