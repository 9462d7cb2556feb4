//! Each rule, broken on purpose in a copy of a home under load.

use std::fs;
use std::path::{Path, PathBuf};

use super::{assert_clean, loaded};
use crate::jenkins::checks::{Promise, Rule, check, check_age};
use crate::jenkins::ledger::Ledger;

/// Damages a home.
type Damage = fn(&Path);

/// The same files once more, for somebody to damage.
fn copy_of(home: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
                copy(&from, &to);
            } else {
                fs::copy(from, to).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(home, directory.path());
    directory
}

fn edit(path: impl AsRef<Path>, change: impl Fn(String) -> String) {
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(text)).unwrap();
}

fn jobs(home: &Path) -> Vec<PathBuf> {
    let mut jobs: Vec<_> = fs::read_dir(home.join("jobs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    jobs.sort();
    jobs
}

fn job(home: &Path) -> PathBuf {
    jobs(home).swap_remove(0)
}

fn builds(home: &Path) -> Vec<PathBuf> {
    builds_of(&job(home))
}

/// The builds of a job: finished ones, and the one that runs.
fn builds_of(job: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(job.join("builds")).unwrap().map(|entry| entry.unwrap().path());
    let mut builds: Vec<_> = listing.filter(|path| path.is_dir()).collect();
    builds.sort_by_key(|path| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap());
    builds
}

/// What breaks which rule.
const PLANTS: &[(Rule, &str, Damage)] = &[
    (Rule::Temporary, "a temporary of a save", |home| {
        fs::write(job(home).join("config.xml-atomic123tmp"), "").unwrap()
    }),
    (Rule::Temporary, "a build on its way out", |home| {
        fs::create_dir(job(home).join("builds/.1")).unwrap();
    }),
    (Rule::Xml, "an empty build.xml", |home| fs::write(builds(home)[0].join("build.xml"), "").unwrap()),
    (Rule::Xml, "half a configuration", |home| edit(home.join("config.xml"), |text| text[..60].into())),
    (Rule::Log, "a log with a hole", |home| {
        edit(builds(home)[0].join("log"), |text| text.replacen("step 0", "\0\0\0\0\0\0", 1))
    }),
    (Rule::Log, "a log of another build", |home| {
        fs::copy(builds(home)[0].join("log"), builds(home)[1].join("log")).unwrap();
    }),
    (Rule::Secret, "a key of another controller", |home| {
        edit(home.join("secrets/master.key"), |text| text.replace('a', "b"))
    }),
    (Rule::Secret, "no key", |home| fs::remove_file(home.join("secrets/hudson.util.Secret")).unwrap()),
    (Rule::Program, "half a program", |home| fs::write(builds(home)[0].join("program.dat"), [0x65, 0xbc]).unwrap()),
    (Rule::Job, "a job with both names", |home| {
        fs::create_dir(home.join("jobs/twice")).unwrap();
        fs::copy(job(home).join("config.xml"), home.join("jobs/twice/config.xml")).unwrap();
    }),
    (Rule::Job, "a job without configuration", |home| fs::remove_file(job(home).join("config.xml")).unwrap()),
    (Rule::NextBuild, "a number that is used", |home| fs::write(job(home).join("nextBuildNumber"), "1").unwrap()),
    (Rule::NextBuild, "a number that was passed", |home| {
        edit(job(home).join("nextBuildNumber"), |text| (text.parse::<u64>().unwrap() + 2).to_string())
    }),
    (Rule::NextBuild, "no number", |home| fs::remove_file(job(home).join("nextBuildNumber")).unwrap()),
    (Rule::Builds, "a gap", |home| {
        let last = builds(home).pop().unwrap();
        let number: u64 = last.file_name().unwrap().to_str().unwrap().parse().unwrap();
        fs::create_dir(last.with_file_name((number + 2).to_string())).unwrap();
    }),
    (Rule::Builds, "an older build that has not ended", |home| {
        fs::remove_file(builds(home)[0].join("build.xml")).unwrap()
    }),
    (Rule::Finished, "a finished build with half its log", |home| {
        edit(builds(home)[0].join("log"), |text| text[..10].into())
    }),
    (Rule::Finished, "a finished build with its program", |home| {
        fs::write(builds(home)[0].join("program.dat"), "").unwrap()
    }),
    (Rule::Finished, "a finished build without fingerprint", |home| {
        fs::remove_dir_all(home.join("fingerprints")).unwrap()
    }),
    (Rule::Permalinks, "a build that is no more", |home| {
        fs::write(job(home).join("builds/permalinks"), "lastSuccessfulBuild 77\n").unwrap();
    }),
    (Rule::Counters, "the second counter ahead", |home| {
        fs::write(home.join("userContent/load-0/two/count"), format!("{:020}", 99_999)).unwrap();
    }),
    (Rule::Counters, "the second counter two behind", |home| {
        edit(home.join("userContent/load-0/one/count"), |text| format!("{:020}", text.parse::<u64>().unwrap() + 2))
    }),
    (Rule::Token, "a token twice", |home| {
        ["one", "two", "three"].iter().for_each(|name| {
            fs::write(home.join("userContent/load-0").join(name).join("token"), "").unwrap();
        });
    }),
    (Rule::Token, "a token gone", |home| {
        ["one", "two", "three"].iter().for_each(|name| {
            fs::remove_dir_all(home.join("userContent/load-0").join(name).join("baton")).unwrap_or_default();
        });
    }),
    (Rule::Swap, "one side gone", |home| fs::remove_dir_all(home.join("userContent/load-0/left")).unwrap()),
    (Rule::Swap, "mixed members", |home| {
        fs::copy(home.join("userContent/load-0/near/a"), home.join("userContent/load-0/far/a")).unwrap();
    }),
    (Rule::Swap, "one side twice", |home| {
        ["a", "b", "c", "d"].iter().for_each(|name| {
            fs::copy(home.join("userContent/load-0/left").join(name), home.join("userContent/load-0/right").join(name))
                .unwrap();
        })
    }),
    (Rule::Notes, "an older end", |home| {
        edit(home.join("userContent/load-0/notes"), |text| {
            text[..65].to_owned() + &crate::jenkins::instruments::notes(0)
        })
    }),
];

#[test]
fn what_is_planted_is_found() {
    let (clean, _) = loaded(300);
    assert_clean(clean.path(), "before anything is planted");
    for (rule, what, damage) in PLANTS {
        let home = copy_of(clean.path());
        damage(home.path());
        let rules: Vec<Rule> = check(home.path(), Promise::Instant).iter().map(|found| found.rule).collect();
        assert!(rules.contains(rule), "{what} is not found: {rules:?}");
        let whole: Vec<Rule> = check(home.path(), Promise::Whole).iter().map(|found| found.rule).collect();
        assert_eq!(whole.contains(rule), rule.promise() == Promise::Whole, "{what}: {whole:?}");
    }
}

/// Damages the build that runs, and says whether there was what it damages.
type Attempt = fn(&Path) -> bool;

#[test]
fn what_is_out_of_order_in_a_build_that_runs_is_found() {
    const PLANTS: &[(&str, Attempt)] = &[
        ("a log behind the flow nodes", |build| {
            let log = build.join("log");
            let has_saved = build.join("program.dat").exists();
            has_saved && fs::write(log, "").is_ok()
        }),
        ("a program ahead of its flow nodes", |build| {
            build.join("program.dat").exists() && fs::remove_file(build.join("workflow/0.xml")).is_ok()
        }),
        ("a program ahead of the file of its flow nodes", |build| {
            build.join("program.dat").exists() && fs::remove_file(build.join("workflow/flowNodeStore.xml")).is_ok()
        }),
        ("flow nodes gone before they are in one file", |build| {
            build.join("program.dat").exists() && fs::remove_dir_all(build.join("workflow")).is_ok()
        }),
        ("no log", |build| build.join("build.xml").exists() && fs::remove_file(build.join("log")).is_ok()),
        ("completed before its flow nodes are in one file", |build| {
            let record = build.join("build.xml");
            let text = fs::read_to_string(&record).unwrap_or_default();
            build.join("workflow").exists()
                && fs::write(&record, text.replace("<completed>false", "<completed>true")).is_ok()
        }),
    ];
    let is_final =
        |build: &Path| fs::read_to_string(build.join("build.xml")).is_ok_and(|text| text.contains("<result>"));
    let mut planted = vec![0; PLANTS.len()];
    for steps in (60..400).step_by(60) {
        let (clean, _) = loaded(steps);
        for ((what, damage), planted) in PLANTS.iter().zip(&mut planted) {
            let home = copy_of(clean.path());
            let last = jobs(home.path()).into_iter().filter_map(|job| builds_of(&job).pop());
            if !last.into_iter().any(|build| !is_final(&build) && damage(&build)) {
                continue;
            }
            *planted += 1;
            let rules: Vec<Rule> = check(home.path(), Promise::Instant).iter().map(|found| found.rule).collect();
            assert!(rules.contains(&Rule::Order), "{what} after {steps} steps is not found: {rules:?}");
        }
    }
    assert!(planted.iter().all(|count| *count > 0), "not all were planted: {planted:?}");
}

/// Has a ledger say more than was done.
type Change = fn(&mut Ledger);

#[test]
fn a_copy_that_is_too_old_is_found_whatever_is_old_in_it() {
    let (home, done) = loaded(300);
    assert_eq!(check_age(home.path(), &done, Promise::Instant), []);
    let later: [(&str, Change); 6] = [
        ("a build started", |done| done.jobs[0].next += 1),
        ("a build ended", |done| done.jobs[0].finished += 1),
        ("an edit", |done| done.jobs[0].edits += 1),
        ("a line", |done| {
            (done.jobs[0].log, done.jobs[0].finished) = (done.jobs[0].log + 90_000, done.jobs[0].next - 2)
        }),
        ("a count", |done| done.instruments[0].count += 1),
        ("a note", |done| done.instruments[0].notes += 1),
    ];
    for (what, change) in later {
        let mut ledger = done.clone();
        change(&mut ledger);
        assert!(!check_age(home.path(), &ledger, Promise::Whole).is_empty(), "{what} is not missed");
    }
    fs::remove_dir_all(job(home.path())).unwrap();
    assert!(!check_age(home.path(), &done, Promise::Instant).is_empty());
}
