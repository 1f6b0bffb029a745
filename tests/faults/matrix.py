"""The fault matrix: every fault that a run must survive, and the tests that show that it does.

A test is named as pytest names it, relative to tests/. `untested` says which part of a fault has no
test and why; a fault without any test has only that reason.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A row of the matrix."""

    number: int
    fault: str
    tests: tuple[str, ...] = ()
    untested: str = ""


def _fault(number: int, fault: str, *tests: str, untested: str = "") -> Fault:
    return Fault(number=number, fault=fault, tests=tests, untested=untested)


def _in(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::test_{name}" for name in names)


_LOOP = "ray_jobs/dispatch/test_loop.py"
_LOCK = "run_directory/test_lock.py"
_ORPHANS = "ray_jobs/engines/test_orphans.py"
_REAL = "faults/test_real_engines.py"
_FILES = "faults/test_files.py"
_ROWS = "faults/test_rows.py"
_EVERY_ROW = _in(
    _ROWS,
    "24_to_35_every_hostile_row_is_an_example_or_rejected_once_with_its_reason",
    "24_to_35_a_hostile_run_is_whole_and_counts_every_row",
)
_BAD_LINE = _in("tasks/test_rows.py", "a_bad_line_is_rejected_with_its_reason_and_the_next_is_read")
_NO_PLAIN_TEXT = _in("chat/test_encode.py", "data_never_yields_a_control_id_and_decodes_to_itself")

MATRIX = (
    _fault(
        1,
        "engine actor killed",
        *_in("faults/test_engines.py", "1_an_engine_that_dies_at_once_or_later_costs_no_row"),
        *_in(
            "faults/test_engines.py",
            "1_an_engine_that_dies_of_everything_ends_the_run_and_no_problem_is_blamed",
        ),
    ),
    _fault(
        2,
        "engine killed by the same problem every time",
        *_in(
            "faults/test_engines.py",
            "2_a_problem_that_kills_every_engine_is_the_only_one_lost",
            "2_a_race_goes_on_without_the_problem_that_kills_every_engine",
            "2_a_problem_that_killed_once_is_asked_again_and_kept",
        ),
        *_in(_LOOP, "sixty_four_innocent_units_in_flight_with_poison_are_all_committed"),
        *_in(
            "ray_jobs/engines/test_suspects.py",
            "exactly_the_problems_that_kill_are_lost_and_every_other_is_asked_once",
        ),
    ),
    _fault(
        3,
        "EngineCore killed",
        *_in(
            _REAL,
            "3_to_6_every_fault_hit_an_engine_and_was_noticed",
            "3_to_6_the_run_is_whole_and_every_problem_is_there_once",
        ),
    ),
    _fault(
        4,
        "EngineCore hung",
        *_in("faults/test_engines.py", "4_an_engine_that_makes_no_token_is_replaced"),
        *_in(
            _REAL,
            "3_to_6_every_fault_hit_an_engine_and_was_noticed",
            "3_to_6_the_run_is_whole_and_every_problem_is_there_once",
        ),
    ),
    _fault(
        5,
        "tensor-parallel worker killed",
        *_in(
            _REAL,
            "3_to_6_every_fault_hit_an_engine_and_was_noticed",
            "3_to_6_the_run_is_whole_and_every_problem_is_there_once",
        ),
    ),
    _fault(
        6,
        "orphans of a killed actor, driver or raylet",
        *_in(
            _REAL,
            "3_to_6_every_fault_hit_an_engine_and_was_noticed",
            "3_to_6_the_run_is_whole_and_every_problem_is_there_once",
            "6_no_engine_outlives_its_actor_and_none_its_stage",
            "6_no_engine_outlives_a_killed_driver_and_its_own_ray",
        ),
        *_in(
            "faults/test_real_drivers.py",
            "6_enginecore_is_gone_where_ray_ends_no_process_group",
        ),
        *_in(
            "faults/test_jobs.py",
            "6_nothing_is_left_of_a_killed_raylet_and_the_run_goes_on_with_another",
            "6_no_process_of_vllm_outlives_its_raylet",
        ),
        *_in(
            _ORPHANS,
            "children_of_a_killed_actor_are_gone_and_no_other_process",
            "shared_memory_of_a_killed_actors_engine_is_removed_and_no_other",
        ),
    ),
    _fault(
        7,
        "driver killed at random moments",
        *_in(
            "faults/test_drivers.py",
            "7_a_driver_killed_at_a_random_moment_goes_on_where_it_was",
        ),
        untested="twenty kills with and without real engines are `make chaos`, not a test",
    ),
    _fault(
        8,
        "SIGTERM, SIGINT, a second signal",
        *_in(
            "faults/test_drivers.py",
            "8_a_signal_ends_a_run_in_good_order_and_the_same_command_goes_on",
            "8_a_second_signal_ends_a_run_at_once",
        ),
    ),
    _fault(
        9,
        "ray job stop",
        *_in("faults/test_jobs.py", "9_a_stopped_job_ends_in_good_order_before_ray_kills_it"),
    ),
    _fault(
        10,
        "node lost",
        *_in("faults/test_clusters.py", "10_a_node_that_is_lost_with_its_engine_costs_no_row"),
        *_in(
            "machines/test_lost_machines.py",
            "a_machine_that_is_cut_off_and_then_killed_costs_no_row",
            "a_run_whose_drivers_machine_is_lost_goes_on_from_another_machine",
        ),
        *_in(
            "machines/test_joining_machine.py",
            "a_machine_that_joins_late_is_given_the_engine_that_had_no_room",
        ),
    ),
    _fault(
        11,
        "head lost",
        *_in(
            "faults/test_clusters.py",
            "11_a_lost_head_ends_the_driver_and_the_run_goes_on_elsewhere",
        ),
    ),
    _fault(
        12,
        "engine fails to start",
        *_in(
            "faults/test_engines.py",
            "12_starts_that_fail_are_tried_again_a_bounded_number_of_times",
        ),
        *_in(_LOOP, "one_broken_replica_is_given_up_and_the_others_do_all"),
        *_in("run_directory/test_digests.py", "a_cut_weights_file_is_refused"),
    ),
    _fault(
        13,
        "engine starts slowly",
        *_in("faults/test_engines.py", "13_a_slow_start_is_no_failure"),
        *_in(_LOOP, "an_engine_that_never_comes_up_is_given_up_after_its_time"),
    ),
    _fault(
        14,
        "disk full",
        *_in(
            "faults/test_commit.py",
            "14_a_file_that_cannot_be_written_whole_is_named_and_never_committed",
            "14_a_full_disk_names_the_file_and_the_run_goes_on_when_there_is_room",
        ),
        *_in("ray_jobs/dispatch/test_file_work.py", "a_full_disk_in_a_remote_task_keeps_its_error"),
    ),
    _fault(
        15,
        "Ray's own disk full",
        *_in("faults/test_clusters.py", "15_a_full_disk_of_rays_own_stops_no_run"),
    ),
    _fault(
        16,
        "read-only output, failing fsync",
        *_in(
            "faults/test_commit.py",
            "16_a_run_directory_that_may_not_be_written_is_one_clear_error",
            "16_a_commit_that_could_not_be_made_durable_is_no_commit",
        ),
    ),
    _fault(
        17,
        "crash at any step of a commit",
        *_in(
            "faults/test_commit.py",
            "17_a_driver_ended_before_or_after_any_disk_call_loses_and_doubles_nothing",
            "17_a_dataset_ended_at_any_disk_call_is_either_declared_and_whole_or_made_again",
            "17_a_fork_ended_at_any_disk_call_is_completed_by_the_same_command",
            "17_a_ledger_cut_at_any_byte_keeps_its_whole_lines",
        ),
    ),
    _fault(
        18,
        "two drivers on one directory",
        *_in("faults/test_drivers.py", "18_a_second_driver_on_the_same_directory_is_refused"),
        *_in(
            _LOCK,
            "a_second_driver_is_refused_while_the_first_lives",
            "a_reused_process_id_does_not_hold_a_lock",
            "a_lock_of_another_host_is_not_taken_while_it_is_touched",
            "a_driver_whose_lock_was_taken_away_commits_no_more_and_leaves_it",
        ),
    ),
    _fault(
        19,
        "shard flipped, cut at a batch, empty, missing",
        *_in(
            _FILES,
            "19_verify_names_every_damaged_file_of_every_stage",
            "19_a_trainer_refuses_a_damaged_shard_before_it_is_mapped",
        ),
        *_in(
            "faults/test_resumes.py",
            "19_a_fork_of_a_damaged_run_makes_the_damaged_unit_again_and_no_other",
            "19_a_damaged_shard_of_the_dataset_is_made_again_without_an_engine",
        ),
    ),
    _fault(
        20,
        "string offset spoiled",
        *_in(_FILES, "20_a_spoiled_offset_is_stopped_by_a_checksum_and_crashes_nobody"),
    ),
    _fault(
        21,
        "manifest or ledger torn, of another version, with unknown keys",
        *_in(
            _FILES,
            "21_a_manifest_cut_at_any_byte_is_refused_by_name",
            "21_a_manifest_of_a_later_version_says_so",
        ),
        *_in(
            "run_directory/test_ledger.py",
            "a_torn_last_line_is_dropped_and_its_unit_can_be_committed_again",
            "any_flipped_bit_in_any_line_is_damage_and_a_missing_newline_alone_a_torn_line",
            "a_ledger_that_lost_its_end_is_refused_at_any_byte",
            "a_line_with_a_right_checksum_is_a_receipt_or_one_line_about_it",
            "a_ledger_of_an_older_version_opens_with_one_line_and_is_chained_from_then_on",
            "a_damaged_tip_is_damage",
        ),
        *_in(
            "test_older_run.py",
            "after_a_version_is_raised_an_older_run_verifies_and_its_resume_is_refused_by_name",
        ),
    ),
    _fault(
        22,
        "config, prompt or model changed before a resume",
        *_in(
            _FILES,
            "22_a_changed_input_refuses_the_run_with_the_difference_and_touches_nothing",
        ),
        *_in(
            "provenance/test_stage_keys.py",
            "a_change_changes_the_first_stage_it_touches_and_all_after_it",
        ),
        *_in(
            "provenance/test_inputs.py",
            "changed_weights_are_refused_and_a_scripted_engine_has_none",
        ),
    ),
    _fault(
        23,
        "input changed during the run",
        *_in(
            "faults/test_resumes.py",
            "23_a_task_file_that_changes_after_it_was_read_changes_no_row_and_the_next_run_says_so",
        ),
        *_in(
            "provenance/test_inputs.py",
            "a_task_file_that_changes_while_it_is_read_gives_no_unit_after_that",
            "a_task_file_that_changed_before_it_is_read_is_refused",
        ),
    ),
    _fault(
        24,
        "last line cut, blank lines, BOM, CRLF, gzip cut",
        *_EVERY_ROW,
        *_in("faults/test_resumes.py", "24_an_archive_that_was_cut_off_stops_the_run_by_its_name"),
        *_in(
            "tasks/test_rows.py",
            "bom_crlf_blank_lines_and_a_missing_last_newline_are_fine",
            "a_last_line_cut_short_is_not_json",
        ),
    ),
    _fault(
        25,
        "bad UTF-8, lone surrogate, NUL, U+2028",
        *_EVERY_ROW,
        *_BAD_LINE,
        *_in(_ROWS, "25_separators_and_letters_of_any_plane_stay_what_they_are"),
    ),
    _fault(
        26,
        "NaN, numbers of 5,000 digits, deep nesting, duplicate keys",
        *_EVERY_ROW,
        *_BAD_LINE,
    ),
    _fault(
        27,
        "prompt of 1 MB, line of 10 MB",
        *_EVERY_ROW,
        *_BAD_LINE,
        *_in(_ROWS, "27_no_engine_is_asked_about_a_row_that_is_too_long"),
        *_in("tasks/test_rows.py", "a_long_line_is_never_held_whole"),
    ),
    _fault(
        28,
        "prompt exactly as long as the context allows, and one token more",
        *_in(
            "test_lengths.py",
            "a_problem_is_accepted_exactly_if_its_longest_prompt_and_answer_fit",
            "every_call_of_an_accepted_problem_fits",
        ),
        *_in(
            "faults/test_real_rows.py",
            "28_a_prompt_and_answer_that_fill_the_context_exactly_are_served",
        ),
    ),
    _fault(
        29,
        "empty question or target, target longer than any answer",
        *_EVERY_ROW,
        *_BAD_LINE,
        untested="no log-probability of a target is taken, so none of zero tokens can be 0/0",
    ),
    _fault(
        30,
        "duplicate ids, ids that differ in case or Unicode form, ids that are paths",
        *_EVERY_ROW,
        *_in(_ROWS, "30_ids_name_no_file_and_differ"),
        *_in(
            "tasks/test_read.py",
            "ids_stay_different_and_are_never_paths",
            "a_duplicate_id_is_rejected_naming_the_first_place",
        ),
    ),
    _fault(
        31,
        "text that spells control tokens, whole or in halves",
        *_EVERY_ROW,
        *_NO_PLAIN_TEXT,
        *_in(_ROWS, "31_no_row_of_the_dataset_holds_a_control_id_of_its_own"),
        *_in(
            "faults/test_control_text.py",
            "31_no_text_and_no_two_halves_of_one_become_a_control_token",
            "31_a_judge_reads_the_markers_of_a_reference_and_an_answer_as_plain_text",
        ),
        *_in("test_lengths.py", "data_that_a_tokenizer_cannot_keep_from_control_ids_is_rejected"),
        untested="a marker that a template writes in ordinary tokens ([INST] of Llama 2) has no id "
        "of its own, so data that spells it cannot be told from it",
    ),
    _fault(
        32,
        "Jinja in data",
        *_EVERY_ROW,
        *_in(_ROWS, "32_template_source_is_printed_as_it_is_spelled"),
        *_in("chat/test_encode.py", "template_source_in_data_stays_literal"),
    ),
    _fault(
        33,
        "log-probabilities that are no numbers",
        *_in("test_engine.py", "no_log_probability_is_asked_for_so_none_can_be_nan"),
        *_in(
            "faults/test_real_rows.py",
            "33_and_34_weights_that_are_no_numbers_give_no_rationale_and_stop_the_run",
        ),
        *_in(
            "selection/test_decision.py",
            "a_score_that_is_no_number_counts_nothing_and_is_ungraded",
        ),
        untested="an engine whose weights are NaN is not declared bad by itself: its answers are "
        "all cut off or empty, and the limit of rejections stops the run",
    ),
    _fault(
        34,
        "no end of sequence, loops",
        *_EVERY_ROW,
        *_in(
            _ROWS,
            "34_and_35_an_answer_that_is_none_scores_nothing_and_keeps_its_outcome",
        ),
        *_in(
            "faults/test_real_rows.py",
            "33_and_34_weights_that_are_no_numbers_give_no_rationale_and_stop_the_run",
        ),
        *_in("grading/test_grade.py", "a_completion_cut_short_is_truncated_whatever_it_says"),
    ),
    _fault(
        35,
        "empty answer, a thought without end, broken bytes",
        *_EVERY_ROW,
        *_in(
            _ROWS,
            "34_and_35_an_answer_that_is_none_scores_nothing_and_keeps_its_outcome",
        ),
        *_in("test_rationales.py", "a_bad_answer_is_rejected_with_its_reason_and_gold"),
        untested="a verified answer is kept although U+FFFD or an unclosed <think> stands in it: "
        "to refuse it raises ACCEPTANCE_VERSION, which refuses every older run",
    ),
    _fault(
        36,
        "one slow row in a thousand",
        *_in(
            "faults/test_engines.py",
            "36_a_slow_request_is_cut_off_at_its_deadline_and_the_others_are_not",
        ),
        *_in(
            "ray_jobs/engines/test_watchdog.py",
            "a_request_past_its_deadline_is_a_truncated_completion",
        ),
    ),
    _fault(
        37,
        "every row rejected",
        *_in("faults/test_engines.py", "37_a_run_that_rejects_everything_stops_early"),
        *_in("test_cli.py", "a_run_without_a_single_row_is_exit_code_3"),
    ),
    _fault(
        38,
        "grader hangs",
        *_in(_ROWS, "38_a_formula_that_hangs_the_grader_is_rejected_and_the_next_is_graded"),
        *_in(
            "grading/test_formula_equality.py",
            "an_item_that_never_ends_is_ungraded_in_time_and_the_next_is_graded",
            "a_child_killed_over_an_item_ends_without_a_hang",
            "a_child_that_is_stopped_costs_its_item_and_is_replaced",
            "no_child_outlives_a_parent_that_was_killed",
        ),
    ),
    _fault(
        39,
        "clock jumps",
        *_in("faults/test_drivers.py", "39_no_wait_and_no_decision_uses_the_wall_clock"),
        *_in(_LOCK, "clocks_of_other_hosts_play_no_part"),
        *_in(
            "machines/test_clocks.py",
            "a_lock_is_kept_by_the_living_and_taken_from_the_lost_where_clocks_are_an_hour_apart",
        ),
    ),
    _fault(
        40,
        "memory pressure",
        *_in("faults/test_clusters.py", "40_an_engine_killed_for_its_memory_is_replaced"),
        *_in(
            "faults/test_real_drivers.py",
            "40_a_real_engine_killed_for_its_memory_is_replaced_and_leaves_nothing",
        ),
    ),
    _fault(
        41,
        "no network",
        *_in(
            "faults/test_clusters.py",
            "41_the_whole_generator_runs_where_there_is_no_network",
        ),
        *_in("faults/test_real_drivers.py", "41_a_real_run_needs_no_network"),
    ),
    _fault(
        42,
        "another umask, odd paths, symbolic links, read-only cache",
        *_in(
            "faults/test_drivers.py",
            "42_a_run_works_in_odd_paths_under_a_strict_umask_with_a_read_only_tokenizer",
        ),
        *_in("faults/test_commit.py", "42_a_path_with_spaces_and_letters_beyond_ascii_works"),
        *_in(
            "run_directory/test_digests.py",
            "42_symbolic_links_to_the_files_or_the_directory_change_nothing",
        ),
        untested="another uid needs an interpreter that another user may run",
    ),
    _fault(
        43,
        "version skew between nodes",
        *_in(
            "faults/test_engines.py",
            "43_engines_of_other_versions_are_refused_and_the_run_goes_on_without_them",
        ),
        *_in(_LOOP, "engines_of_different_versions_are_refused"),
    ),
    _fault(
        44,
        "training killed, another world size, loss that is no number",
        *_in(
            "train/test_sft.py",
            "a_killed_run_goes_on_with_the_same_loss_curve",
            "two_ranks_go_on_where_one_was_killed_with_the_same_loss_curve",
            "one_rank_goes_on_where_two_were_killed_with_the_same_loss_curve",
            "a_loss_that_is_not_finite_stops_before_the_weights_change",
        ),
        *_in("train/test_batches.py", "a_later_start_continues_with_the_next_rows"),
        *_in(
            "train/test_checkpoint.py",
            "the_last_complete_state_is_used",
            "a_killed_save_leaves_no_student",
        ),
    ),
    _fault(
        45,
        "lost calls between processes",
        *_in(
            "faults/test_drivers.py",
            "45_lost_and_failed_calls_between_ray_processes_double_nothing",
        ),
        *_in(
            "machines/test_slow_link.py",
            "a_driver_and_an_engine_behind_a_slow_link_make_the_same_rows",
        ),
    ),
    _fault(
        46,
        "temporary files and lock of a dead host",
        *_in(
            "faults/test_commit.py",
            "46_temporary_files_of_a_dead_driver_are_removed_and_its_units_set_aside",
        ),
        *_in(
            _LOCK,
            "a_dead_drivers_lock_is_taken_over",
            "a_dead_hosts_lock_is_taken_over_after_its_time",
        ),
    ),
    _fault(
        47,
        "no row, one row, everything rejected",
        *_in(
            "faults/test_drivers.py",
            "47_bad_rows_and_a_single_row_give_a_valid_dataset_if_the_limit_allows_it",
        ),
        *_in("tasks/test_soundness.py", "a_file_without_rows_is_an_error"),
        *_in("dataset/test_proof.py", "the_empty_dataset_is_proved"),
    ),
)


def summary() -> list[str]:
    """Lines for people: how many faults have tests, and the reasons of the others and of parts."""
    without = [fault for fault in MATRIX if not fault.tests]
    parts = [fault for fault in MATRIX if fault.tests and fault.untested]
    first = (
        f"FAULTS: {len(MATRIX) - len(without)} rows tested, {len(without)} with a reason"
        f" ({len(parts)} tested rows have a part with a reason)"
    )
    return [first, *(f"  {fault.number}: {fault.untested}" for fault in (*without, *parts))]
