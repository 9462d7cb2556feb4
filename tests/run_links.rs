//! Links that break, go silent, or lead elsewhere: the two find each other again, and what passes between them follows what changed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use hotspare::thought::dice::Dice;
use std::process::Command;

use common::build;
use common::pair::{Pair, free_port};
use common::proxy::Weather;

/// Whether each of the two says that it has a link.
fn linked(pair: &Pair) -> [bool; 2] {
    [&pair.primary, &pair.standby].map(|node| pair.status(node)["peers"][0]["connected"] == true)
}

#[test]
fn a_link_gone_silent_is_noticed_at_both_ends_and_made_again() {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(1);
    build::home(&pair.bed.source(), 20);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    for round in 0..2 {
        proxy.cut();
        build::file(&pair.bed.src(format!("meanwhile-{round}")), "x");
        pair.until("both say that there is no link", |pair| linked(pair) == [false, false]);
        assert!(pair.status(&pair.standby)["promotable"]["yes"] == true, "{}", pair.told());
        proxy.join();
        pair.until_streaming();
        pair.converge();
    }
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_primary_is_found_at_any_of_its_addresses_and_again_when_it_moved() {
    let mut pair = Pair::trusting();
    let (first, second) = (pair.primary.port, free_port());
    pair.primary.edit(&format!("127.0.0.1:{first}"), &format!("[::]:{first}"));
    pair.standby.edit(&format!("127.0.0.1:{}", pair.standby.port), &format!("[::]:{}", pair.standby.port));
    // Nobody is at the first and the last; the second is of the other family, the third a name.
    pair.standby.dial_at(&[
        format!("192.0.2.1:{first}"),
        format!("[::1]:{first}"),
        format!("localhost:{second}"),
        format!("no-such-host.invalid:{first}"),
    ]);
    build::home(&pair.bed.source(), 21);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["peers"][0]["address"], format!("[::1]:{first}"));
    pair.primary.stop();
    pair.primary.edit(&format!("[::]:{first}"), &format!("127.0.0.1:{second}"));
    build::file(&pair.bed.src("meanwhile"), "x");
    pair.start_primary();
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["peers"][0]["address"], format!("localhost:{second}"));
    pair.converge();
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_primary_is_found_under_its_name_after_the_name_got_another_address() {
    if !common::is_root() {
        return common::skip("a name that gets another address", "only root may have an /etc/hosts of its own");
    }
    let mut pair = Pair::trusting();
    let (name, port) = ("primary.hotspare-test.invalid", pair.primary.port);
    let hosts = pair.bed.path("hosts");
    let is_at = |address: &str| build::file(&hosts, format!("127.0.0.1 localhost\n{address} {name}\n"));
    pair.primary.edit(&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}"));
    pair.standby.dial_at(&[format!("{name}:{port}")]);
    is_at("127.0.0.2");
    build::home(&pair.bed.source(), 23);
    pair.start_primary();
    // The system's resolver, with a hosts file of the standby's own.
    let run = pair.command(&pair.standby, &["run"]);
    let mut own_hosts = Command::new("unshare");
    own_hosts.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
    ]);
    own_hosts.arg(&hosts).arg(run.get_program()).args(run.get_args());
    own_hosts.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    pair.standby.daemon = Some(pair.bed.start(own_hosts));
    pair.until("it answers", |pair| pair.ask(&pair.standby, &["status"]).code == Some(0));
    pair.until_streaming();

    // First the address is another one, and nobody is at the old one any more; then the name says so.
    pair.primary.stop();
    pair.primary.edit(&format!("127.0.0.2:{port}"), &format!("127.0.0.3:{port}"));
    build::file(&pair.bed.src("meanwhile"), "x");
    pair.start_primary();
    let silent = format!("no answer from 127.0.0.2:{port}");
    pair.until("nobody answers there", |pair| {
        pair.status(&pair.standby)["peers"][0]["trouble"].to_string().contains(&silent)
    });
    is_at("127.0.0.3");
    pair.until_streaming();
    assert_eq!(pair.status(&pair.standby)["peers"][0]["address"], format!("{name}:{port}"));
    pair.converge();
    pair.assert_verified(&pair.primary);
}

/// How many times trees were compared so far, by the primary's log.
fn comparisons(pair: &Pair) -> usize {
    pair.primary.log().matches("catch-up generation").count()
}

/// Has a generation cut of all that was written so far, whether or not anybody is there to take it.
fn cut(pair: &Pair) {
    let cut = pair.ask(&pair.primary, &["wait", "--standbys", "0", "--timeout", "100s"]);
    assert_eq!(cut.code, Some(0), "{}{}", cut.stdout, cut.stderr);
}

#[test]
fn a_standby_that_was_cut_off_goes_on_with_what_it_missed() {
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(2);
    build::home(&pair.bed.source(), 22);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    proxy.cut();
    pair.until("both say that there is no link", |pair| linked(pair) == [false, false]);
    for round in 0..10 {
        build::file(&pair.bed.src(format!("missed-{round}")), Dice::new(round).noise(100_000));
        build::append(&pair.bed.src("jobs/job-0/builds/1/log"), format!("{round}\n"));
        cut(&pair);
    }
    let before = proxy.returned();
    proxy.join();
    pair.until_streaming();
    pair.converge();
    assert_eq!(comparisons(&pair), 1, "no tree is compared but the first time\n{}", pair.told());
    let sent = proxy.returned() - before;
    assert!((1_000_000..1_300_000).contains(&sent), "{sent} bytes for a million that were missed");
    pair.assert_verified(&pair.primary);
}

#[test]
fn what_is_beyond_the_window_is_compared_and_what_is_in_it_is_not() {
    let mut pair = Pair::trusting();
    pair.primary.edit("# memory = \"32MiB\"\n", "memory = \"1MiB\"\n");
    pair.primary.edit("# disk = \"512MiB\"\n", "disk = \"2MiB\"\n");
    build::home(&pair.bed.source(), 23);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    for (megabytes, compared) in [(1, 1), (6, 2), (1, 2)] {
        pair.standby.stop();
        for number in 0..megabytes {
            build::file(
                &pair.bed.src(format!("missed-{number}")),
                Dice::new(megabytes * 100 + number).noise(1_000_000),
            );
            cut(&pair);
        }
        pair.start_standby();
        pair.until_streaming();
        pair.converge();
        assert_eq!(comparisons(&pair), compared, "after {megabytes} MB\n{}", pair.told());
    }
}

#[test]
fn a_primary_whose_standbys_are_gone_for_good_keeps_nothing_for_them() {
    let mut pair = Pair::trusting();
    pair.primary.edit("# linger = \"10m\"\n", "linger = \"0s\"\n");
    build::home(&pair.bed.source(), 24);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair.standby.stop();
    pair.until("it is noticed", |pair| pair.status(&pair.primary)["peers"][0]["connected"] == false);
    build::file(&pair.bed.src("missed"), "x");
    cut(&pair);
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    assert_eq!(comparisons(&pair), 2, "{}", pair.told());
}

#[test]
fn a_first_sync_that_is_cut_goes_on_where_it_was_and_sends_nothing_twice() {
    const FILES: u64 = 80;
    const BYTES: usize = 200_000;
    let mut pair = Pair::trusting();
    let proxy = pair.proxied(3);
    proxy.set(Weather { rate: Some(4_000_000), ..Weather::default() });
    for number in 0..FILES {
        build::file(&pair.bed.src(format!("jobs/{number}/log")), Dice::new(number).noise(BYTES));
    }
    pair.start_primary();
    pair.start_standby();
    let total = FILES * BYTES as u64;
    let until_sent = |pair: &mut Pair, share: u64| {
        pair.until("so much was sent", |_| proxy.returned() > total * share / 100);
        assert_eq!(pair.status(&pair.standby)["promotable"]["yes"], false, "it was cut before it was whole");
    };
    until_sent(&mut pair, 15);
    pair.standby.kill();
    pair.start_standby();
    until_sent(&mut pair, 35);
    pair.primary.kill();
    pair.start_primary();
    until_sent(&mut pair, 55);
    proxy.cut();
    pair.until("both say that there is no link", |pair| linked(pair) == [false, false]);
    proxy.join();
    until_sent(&mut pair, 75);
    pair.standby.stop();
    pair.start_standby();
    pair.until_streaming();
    let sent = proxy.returned();
    pair.converge();
    // Beside the contents: what was on its way at each cut, the questions, and what QUIC adds to each datagram.
    assert!((total..total * 115 / 100).contains(&sent), "{sent} bytes for {total}");
    let held = pair.bed.dst(".hotspare/stage/held");
    pair.until("nothing is held any more", |_| std::fs::read_dir(&held).unwrap().count() == 0);
    pair.assert_verified(&pair.primary);
}

#[test]
fn a_standby_is_sent_no_more_than_it_asks_for() {
    const BYTES: u32 = 3_000_000;
    let mut pair = Pair::trusting();
    pair.standby.edit("# bandwidth = \"50MiB\"", "bandwidth = \"512KiB\"");
    pair.standby.edit("# burst = \"50MiB\"", "burst = \"64KiB\"");
    build::file(&pair.bed.src("large"), Dice::new(48).noise(BYTES as usize));
    pair.start_primary();
    let begin = std::time::Instant::now();
    pair.start_standby();
    pair.until_streaming();
    let took = begin.elapsed();
    // It may always take longer, on a slow machine; never less.
    let least = f64::from(BYTES - (64 << 10)) / f64::from(512 << 10);
    assert!(took.as_secs_f64() > least * 0.95, "{took:?} for what takes {least:.1} s");
    pair.converge();
}
