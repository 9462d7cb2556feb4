//! hotspare keeps a live, crash-consistent copy of a directory (a Jenkins home) on standby nodes.
//!
//! The house has floors; a module uses only lower floors and its own folder (`tests/floors.rs` holds it to that):
//!
//! | floor | rooms | what they know |
//! |---|---|---|
//! | 0 words | [`words`] | paths, entries, positions |
//! | 1 thought | [`thought`] | trees, plans, deltas, generations, wire formats, sessions: pure, no system calls, no clock |
//! | 2 hands | `fs`, `spool`, `watch`, `walk`, `capture`, `audit`, `index`, `journal`, `reveal`, `jenkins` | files |
//! | 3 mouth | `net` | peers |
//! | 4 life | `daemon`, `observe`, `control` | time and tasks |
//! | 5 face | `config`, `cli` | people |
//!
//! # What holds the guarantees
//!
//! G1 to G9 are the contract (atomic, durable, one instant, converges, one writer, nothing lost, no runaway delete, confined, bounded). Each
//! is held by tests, cheapest first; `tests/guarantees.rs` sees to it that those named here exist. `tests/long` runs the long forms.
//!
//! | | test | what it counts |
//! |---|---|---|
//! | G1 | `a_reveal_cut_off_after_any_step_is_finished_when_the_replica_is_opened` | a crash after each step of a reveal of every kind of change, and one in the second attempt: replica, litter and bundles after opening |
//! | | `several_generations_in_every_state_come_out_whole` | generations acked, revealed, half done, in one journal |
//! | | `a_crash_amid_several_unrevealed_generations_leaves_the_newest_that_was_acked` | the same with generations staged upon others that are not revealed |
//! | | `a_replica_that_is_killed_at_any_moment_is_at_a_whole_generation_after_that` | SIGKILL of a process that takes generations |
//! | | `whoever_is_killed_at_whatever_moment_the_replica_is_a_whole_generation_none_older_than_was_acked` | SIGKILL of either daemon or both under the live load: the rules of a Jenkins home, age, litter |
//! | G1, G2 | `a_power_cut_of_ext4_leaves_a_whole_generation_none_older_than_was_acked` | the shutdown ioctl under a live pair: position against the last ack, the rules, litter |
//! | | `a_power_cut_of_xfs_leaves_a_whole_generation_none_older_than_was_acked` | the same on XFS |
//! | | `a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_ext4` | the same ioctl after each of some steps of a reveal with two generations acked, and twice while the replica is opened: content, position, litter |
//! | | `a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_xfs` | the same on XFS |
//! | | `a_power_cut_at_any_call_leaves_a_whole_generation_none_older_than_was_acked` | a simulated disk (FUSE) under the replica and its index, cut at every call that changes it, with any of what was not synced lost, kept or torn: position, content, litter, the rest taken |
//! | | `a_power_cut_where_nothing_syncs_a_file_system_whole_loses_nothing_acked` | the same where the kernel passes no syncfs on, as on FUSE |
//! | | `a_power_cut_at_any_call_of_the_recovery_loses_nothing_either` | the same, and again at the calls of the recovery |
//! | | `an_error_of_any_call_of_a_disk_leaves_what_was_acked_and_is_survived` | EIO at the calls to the simulated disk, once, for a while, for good: the error's words, then position, content and litter, after a power cut as well |
//! | | `a_disk_that_is_full_at_any_call_leaves_what_was_acked_and_is_survived`, `a_disk_that_becomes_read_only_at_any_call_leaves_what_was_acked_and_is_survived` | the same with ENOSPC and EROFS |
//! | | `attributes_that_are_refused_at_any_call_are_told_and_nothing_else_is_lost` | owners and extended attributes refused: what is told, and everything else |
//! | | `a_disk_that_the_kernel_makes_read_only_stops_the_standby_which_says_so_until_it_is_mounted_again` | an error made in ext4 under a running standby: `status`, and what is shown after |
//! | | `a_power_cut_at_any_call_of_an_index_leaves_one_commit_none_older_than_the_last` | an index, of a primary or a standby, on the simulated disk: which commit opens as intact |
//! | G1, G4, G5 | `a_power_cut_at_any_call_of_a_primary_gives_no_position_twice_and_leaves_an_index_that_is_the_home` | the home and the state directory of a primary on the simulated disk, through two lives and a reign: positions before and after, whom it trusts, its index against the bytes of the home |
//! | G4, G5 | `errors_of_the_disk_of_a_primary_give_no_position_twice_and_are_survived` | EIO and ENOSPC there, at calls and at each sync, once or for a while: the same, and after a power cut as well |
//! | G4 | `what_the_index_has_and_a_power_cut_took_back_is_read_again` | a file of which only the times and the length reached the disk: its content on a start |
//! | G2 | `whatever_the_power_cut_synced_records_stay_and_later_ones_are_a_prefix` | a power cut at every call of the journal to its medium, what was not synced lost, kept or torn |
//! | | `a_power_cut_while_recovering_loses_nothing_more` | a second cut at every call of the recovery |
//! | | `what_was_acked_is_there_whether_revealed_or_tidied_up_or_not` | a crash after the ack, in every state |
//! | G3 | `a_consistent_cut_is_the_home_after_some_prefix_of_the_calls` | numbered calls of one writer: every consistent cut against all prefixes |
//! | | `however_late_events_come_a_consistent_cut_is_the_home_at_an_instant` | every interleaving, up to a bound, of writers, queues and the real cut: 25 000, 500 000 in the long form |
//! | | `a_clock_that_is_set_under_live_daemons_does_no_harm` | the wall clock, two minutes forward and back under load: spoilt rounds, links, alarms, the replica in the end |
//! | | `events_between_the_barriers_spoil_a_round_though_no_time_has_changed` | condition (c) by itself |
//! | | `what_was_captured_and_is_written_by_a_name_that_came_and_went_is_captured_again` | a link that is gone at each look at the clock of a cut |
//! | | `what_is_written_through_a_link_that_is_gone_before_the_cut_is_captured` | the same before the cut, 200 times, with and without a rename |
//! | | `a_large_file_changed_in_one_block_and_appended_to_is_not_taken_for_an_append` | the probe rule: samples of a file before its tail is taken for all that changed |
//! | | `logs_that_never_stop_growing_are_cut_consistently_as_true_prefixes` | files that only grow |
//! | G4 | `any_change_arrives_and_stays` | random changes: content and metadata of both sides, by an independent comparator |
//! | | `after_any_work_the_tree_is_what_is_on_disk` | random work under capture, with late events and overflows |
//! | | `a_network_that_loses_a_twentieth_and_reorders_another_delays_and_does_no_more` | datagrams lost, late and delayed under load: links that end (none), age and rules of the replica |
//! | | `a_directory_that_is_closed_under_the_primary_keeps_its_copy_and_goes_on_when_it_is_open_again` | what was written in it meanwhile |
//! | | `live_changes_of_every_kind_converge` | two daemons; our comparator, rsync's dry run, `verify` |
//! | | `one_standby_that_stops_one_that_is_killed_and_one_far_away_are_independent` | three standbys in trouble under load, equal in the end |
//! | G1, G2, G4, G5 | `whatever_befalls_links_and_nodes_the_guarantees_hold_and_all_converge` | 10 000 seeded runs of both sides of the protocol: an invariant for each guarantee after every event, convergence in the end |
//! | G5 | `only_the_next_generation_of_the_greeted_reign_is_taken` | each way in which a generation may not fit |
//! | | `another_history_is_never_gone_on_with` | the window, asked by positions of another chain |
//! | | `a_primary_that_went_backwards_begins_a_new_reign_and_all_follow` | two daemons, the state directory of one put back: epochs before and after |
//! | | `a_reign_that_two_standbys_have_begun_gives_no_position_twice` | the second word of one new reign, when its generations are out |
//! | | `a_primary_without_its_index_begins_a_new_reign_and_rebuilds_it` | two daemons, epochs before and after |
//! | G6 | `what_a_taken_over_directory_held_is_put_aside_whatever_crash_comes_between` | what was there before, by name and content, in the bundle |
//! | | `what_lies_in_the_way_is_never_lost` | files made by hand where a generation wants its own |
//! | G7 | `too_much_is_many_entries_and_a_large_share_of_all` | the fuse's arithmetic |
//! | | `a_generation_that_deletes_too_much_waits_for_a_word_and_all_others_behind_it` | two daemons: entries on the replica before and after the word |
//! | | `a_home_that_was_unmounted_or_mounted_over_is_held_until_it_is_mounted_again` | deletions on the standby: none |
//! | | `a_standby_whose_disk_is_not_mounted_begins_no_other_replica_until_it_is_told_to` | what is written below a mount point: nothing |
//! | G8 | `nothing_goes_through_a_link`, `nothing_reaches_into_the_reserved_directory` | forged operations: the replica and what is outside it, unchanged |
//! | | `a_directory_that_becomes_a_link_again_and_again_during_reveals_leads_nowhere` | files outside: none |
//! | G8, G9 | `a_hostile_primary_harms_nothing_and_takes_no_memory` | forty attacks over a real link: replica, outside, peak of memory, then honest convergence |
//! | | `a_flood_of_strangers_takes_no_memory_and_keeps_nobody_out` | a thousand handshakes and noise: peak of memory, and the pair replicates |
//! | | `bytes_that_somebody_else_chose_do_no_harm` | eight readers and machines, 6000 changed inputs each: panics none, memory bounded; `tests/fuzz/run` for longer |
//! | G9 | `a_window_is_bounded_in_memory_disk_generations_and_files_whatever_comes` | bytes, generations and descriptors of the window |
//! | | `many_files_moved_in_and_changed_at_once_take_little_memory` | peak of memory of both daemons a path; 300 000 in the long form |
//! | | `with_room_for_few_dirty_paths_all_changes_are_found` | dirty paths, and random work found all the same |
//! | | `a_change_in_a_directory_of_many_costs_what_changed` | bytes read and sent, operations; 100 000 names in the long form |
//! | | `a_large_sparse_file_arrives_as_one_and_a_change_in_it_costs_little` | bytes sent, blocks on the standby's disk, memory, descriptors; 20 GiB in the long form |
//! | | `under_load_for_long_nothing_grows` | slopes of memory, descriptors and state in a soak |

pub mod audit;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod fs;
pub mod index;
pub mod jenkins;
pub mod journal;
pub mod net;
pub mod observe;
pub mod reveal;
pub mod spool;
pub mod thought;
pub mod walk;
pub mod watch;
pub mod words;
