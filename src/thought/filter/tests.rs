use proptest::prelude::*;

use super::*;
use crate::words::path::NAME_MAX;

fn is_out(filter: &Filter, path: &str, is_directory: bool) -> bool {
    filter.leaves_out_within(&RelPath::parse(path.as_bytes()).unwrap(), is_directory)
}

fn jenkins() -> Filter {
    Filter::new(Preset::Jenkins, &[], &[]).unwrap()
}

/// Directories end in a slash.
fn told(path: &str) -> (&str, bool) {
    (path.trim_end_matches('/'), path.ends_with('/'))
}

const LEFT_OUT: &[&str] = &[
    "war/",
    "war/WEB-INF/web.xml",
    "caches/",
    "caches/git-1/objects/pack/x.pack",
    "cache/",
    "cache/jars/AB/CD.jar",
    ".cache/",
    ".cache/fontconfig/x",
    "workspace/",
    "workspace/job/src.c",
    "jobs/a/workspace/",
    "jobs/a/workspace@2/",
    "jobs/a/workspace@tmp/",
    "jobs/a/workspace@script/x.groovy",
    "jobs/a/workspace-files/",
    "jobs/folder/jobs/a/workspace@tmp/",
    "jobs/folder/jobs/a/workspace@script/",
    "logs/",
    "logs/tasks/x.log",
    ".owner",
    "failed-boot-attempts.txt",
    "hs_err_pid123.log",
    "config.xml-atomic123tmp",
    "jobs/a/config.xml-atomic1tmp",
    "jobs/a/builds/7/build.xml-atomic18446744073709551615tmp",
    "jobs/a/nextBuildNumber-atomic7tmp",
    "users/x_1/atomic5tmp",
    "atomic12.tmp",
    "fingerprints/aa/bb/atomic3.tmp",
    "secrets/symtmp88.tmp",
    "jobs/a/builds/symtmp1.tmp",
    "jobs/a/builds/.7/",
    "jobs/a/builds/.7/build.xml",
    "jobs/folder/jobs/workspace/builds/.12/",
    "jobs/mb/branches/main/builds/.3/",
    "jobs/a/modules/g$a/builds/.4/",
    "jobs/builds/builds/.9/",
    "plugins/git.jpi.tmp",
    "plugins/git.hpi.tmp",
    "plugins/download123.jpi.tmp",
    ".nfs000000000123",
    "jobs/a/builds/7/.nfs0001",
    ".hotspare/",
    ".hotspare/home",
];

const REPLICATED: &[&str] = &[
    // Of the same names, elsewhere than at the home.
    "jobs/war/",
    "jobs/logs/config.xml",
    "jobs/workspace/config.xml",
    "jobs/workspace/builds/7/log",
    "jobs/cache/nextBuildNumber",
    "jobs/a/jobs/workspace/",
    "jobs/a/jobs/workspace/config.xml",
    "jobs/a/jobs/logs/builds/1/log",
    "jobs/a/builds/7/archive/war/x",
    "jobs/a/builds/7/archive/logs/x.log",
    "jobs/mb/branches/workspace/config.xml",
    "jobs/mb/branches/main.abc123/builds/3/log",
    "userContent/.owner",
    "users/logs/",
    "users/war_123/config.xml",
    // Jobs of the names of temporaries.
    "jobs/x-atomic1tmp/config.xml",
    "jobs/folder/jobs/atomic1tmp/config.xml",
    "jobs/symtmp1.tmp/",
    // What only looks like a temporary.
    "jobs/a/builds/7/changelog1234567890.xml",
    "fileParameterValueFiles/jenkins12.tmp",
    "fileParameterValueFiles/jenkins1234567890tmp",
    "secret.key.not-so-secret",
    ".lastStarted",
    "plugins/git.jpi.disabled",
    "plugins/git.jpi.pinned",
    "plugins/git/.timestamp2",
    "jobs/a/builds/7/log-index",
    "-atomic1tmp",
    "a-atomictmp",
    "a-atomic1xtmp",
    "a-atomic1.tmp",
    "a-atomic1tmp2",
    "a.atomic1tmp",
    "atomictmp",
    "xatomic1tmp",
    "xatomic1.tmp",
    "atomic1..tmp",
    "atomic1.tmpx",
    "symtmp.tmp",
    "symtmp1tmp",
    "xsymtmp1.tmp",
    "jobs/a/builds/.7a/",
    "jobs/a/builds/7/",
    "jobs/a/.7/",
    "jobs/a/builds/7/archive/builds/.5/",
    "userContent/builds/.5/",
    "builds/.5/",
    "plugins/a/git.jpi.tmp",
    "plugins/git.tmp",
    ".nfx1",
    "a/.hotspare/",
    // What must never be left out.
    "secrets/",
    "secrets/master.key",
    "secret.key",
    "identity.key.enc",
    "config.xml",
    "queue.xml",
    "users/x_1/config.xml",
    "nodes/agent/config.xml",
    "jobs/a/config.xml",
    "jobs/a/nextBuildNumber",
    "jobs/a/builds/",
    "jobs/mb/branches/",
    "jobs/mb/state.xml",
    "jobs/mb/branches/x/scm-revision-hash.xml",
    "plugins/git.jpi",
    "plugins/git.hpi",
    "init.groovy.d/a.groovy",
    "userContent/readme.txt",
];

#[test]
fn the_jenkins_preset_leaves_out_what_can_be_made_again_and_nothing_else() {
    let filter = jenkins();
    for (path, is_directory) in LEFT_OUT.iter().map(|path| told(path)) {
        assert!(is_out(&filter, path, is_directory), "{path} should be left out");
    }
    for (path, is_directory) in REPLICATED.iter().map(|path| told(path)) {
        assert!(!is_out(&filter, path, is_directory), "{path} should be replicated");
    }
}

#[test]
fn what_a_home_is_not_whole_without_is_known_and_the_preset_leaves_none_of_it_out() {
    let filter = jenkins();
    for path in [
        "secrets/master.key",
        "secrets/org.x.y",
        "secret.key",
        "secret.key.not-so-secret",
        "identity.key.enc",
        "config.xml",
        "users/x_1/config.xml",
        "nodes/a/config.xml",
        "jobs/a/config.xml",
        "jobs/a/nextBuildNumber",
        "jobs/a/builds",
        "jobs/folder/jobs/builds/builds",
        "jobs/folder/jobs/workspace/config.xml",
        "jobs/mb/branches",
        "jobs/mb/branches/main/config.xml",
        "jobs/mb/state.xml",
        "jobs/mb/branches/main/scm-revision-hash.xml",
        "plugins/git.jpi",
        "plugins/git.hpi",
        "plugins/git.jpi.pinned",
        "init.groovy.d/a.groovy",
        "userContent/a/b",
    ] {
        let path_of = RelPath::parse(path.as_bytes()).unwrap();
        assert!(jenkins::vital(&path_of).is_some(), "{path}");
        assert!(!is_out(&filter, path, false), "{path}");
    }
    for path in [
        "jobs/a/builds/7",
        "jobs/a/builds/7/archive/config.xml",
        "jobs/a/builds/7/archive/builds",
        "jobs/a/workspace/x",
        "fingerprints/aa/bb/c.xml",
        "config-history/jobs/a/config.xml",
        "plugins/git/META-INF/MANIFEST.MF",
        "plugins/git.jpi.tmp",
        "logs/all.log",
        "a/secrets/x",
        "jobs/a",
    ] {
        assert_eq!(jenkins::vital(&RelPath::parse(path.as_bytes()).unwrap()), None, "{path}");
    }
}

#[test]
fn a_name_as_long_as_can_be_is_a_temporary_by_its_end_alone() {
    let filter = jenkins();
    let long = |length: usize, end: &str| format!("jobs/a/{}{end}", "x".repeat(length - end.len()));
    assert!(is_out(&filter, &long(NAME_MAX, "1234567890tmp"), false));
    assert!(is_out(&filter, &long(NAME_MAX, "12345678901234567890tmp"), false));
    assert!(!is_out(&filter, &long(NAME_MAX, "123456789tmp"), false), "nine digits");
    assert!(!is_out(&filter, &long(NAME_MAX - 1, "1234567890tmp"), false), "one shorter");
    assert!(!is_out(&filter, &long(NAME_MAX, "1234567890.tmp"), false));
}

#[test]
fn the_preset_none_leaves_out_nothing_but_our_own() {
    let filter = Filter::new(Preset::None, &[], &[]).unwrap();
    for (path, is_directory) in LEFT_OUT.iter().map(|path| told(path)) {
        assert_eq!(is_out(&filter, path, is_directory), path.starts_with(".hotspare"), "{path}");
    }
}

#[test]
fn include_brings_back_what_the_preset_leaves_out() {
    let include = ["/logs/".into(), "/jobs/*/workspace/".into(), "keep-atomic1tmp".into()];
    let filter = Filter::new(Preset::Jenkins, &["*.iso".into()], &include).unwrap();
    assert!(!is_out(&filter, "logs/x.log", false));
    assert!(!is_out(&filter, "jobs/a/workspace", true));
    assert!(!is_out(&filter, "keep-atomic1tmp", false));
    assert!(is_out(&filter, "other-atomic1tmp", false));
    assert!(is_out(&filter, "a/b.iso", false));
}

#[test]
fn filters_are_told_apart_by_all_they_are_made_of_and_made_again_of_their_rules() {
    let filters = [
        jenkins(),
        Filter::everything(),
        Filter::new(Preset::Jenkins, &["a".into()], &[]).unwrap(),
        Filter::new(Preset::Jenkins, &[], &["a".into()]).unwrap(),
        Filter::of(Rules { temporaries: false, ..jenkins().rules().clone() }).unwrap(),
    ];
    for (index, filter) in filters.iter().enumerate() {
        let again = Filter::of(filter.rules().clone()).unwrap();
        assert_eq!(again.digest(), filter.digest());
        assert!(filters[..index].iter().all(|other| other.digest() != filter.digest()));
    }
}

#[test]
fn a_bad_pattern_is_named_and_too_many_are_refused() {
    let error = Filter::new(Preset::None, &["a{b".into()], &[]).unwrap_err();
    assert!(matches!(&error, FilterError::Pattern { pattern, .. } if pattern == "a{b"), "{error}");
    let many = vec!["a".to_owned(); RULES_CAP + 1];
    assert!(matches!(Filter::new(Preset::None, &many, &[]), Err(FilterError::TooMany)));
    let long = vec!["a".repeat(RULES_CAP_BYTES + 1)];
    assert!(matches!(Filter::new(Preset::None, &long, &[]), Err(FilterError::TooMany)));
}

proptest! {
    #[test]
    fn names_of_temporaries_are_left_out_wherever_they_are(
        above in "([a-z]{1,8}/){0,3}",
        name in prop_oneof![
            "[ -.0-~]{1,80}-atomic[0-9]{1,20}tmp",
            "atomic[0-9]{1,20}tmp",
            "atomic[0-9]{1,20}\\.tmp",
            "symtmp[0-9]{1,20}\\.tmp",
            "\\.nfs[0-9a-f]{0,24}",
        ],
    ) {
        prop_assume!(!above.ends_with("jobs/"));
        let path = above + &name;
        prop_assert!(is_out(&jenkins(), &path, false), "{}", path);
    }

    #[test]
    fn builds_that_are_being_deleted_are_left_out(
        above in "jobs/[a-z]{1,6}/((jobs|branches|modules)/[a-z]{1,6}/){0,3}",
        number in any::<u64>(),
    ) {
        let (gone, there) = (format!("{above}builds/.{number}"), format!("{above}builds/{number}"));
        prop_assert!(is_out(&jenkins(), &gone, true));
        prop_assert!(!is_out(&jenkins(), &there, true));
    }

    #[test]
    fn other_names_are_replicated(path in "([a-z]{1,8}/){1,3}[a-z]{1,8}(-atomic|atomic|symtmp)?[0-9]{0,3}(tmpx|\\.tm|\\.xml|)") {
        let first = path.split('/').next().unwrap_or_default();
        prop_assume!(!["war", "logs", "cache", "caches", "workspace"].contains(&first) && !path.contains("/workspace"));
        prop_assert!(!is_out(&jenkins(), &path, false), "{}", path);
    }
}
