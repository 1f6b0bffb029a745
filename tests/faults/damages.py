"""Damaged run directories as a table: what is damaged, the commands, their exit code, their words.

A command's output holds one line with all of the words, no traceback, and names its file. The
damages are those of a bad disk, a hand in the wrong file, and a run directory from a stranger:
where a list holds digests, they fit what lies there.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.damaged import (
    CHECK,
    CONFIG,
    MANIFEST,
    OLDER_STAGES,
    OUTSIDE,
    RUN,
    RUN_STAGES,
    STATUS,
    VERIFY,
    add_shard,
    change_path,
    change_unit,
    count,
    cut,
    damage,
    describe,
    drop_units,
    edit,
    empty,
    fill,
    flip,
    halve,
    null_in_scores,
    of_file,
    of_refused,
    of_stage,
    other_group,
    outside_shard,
    text,
    to_absent_target,
    to_device,
    to_fifo,
    to_folder,
    to_loop,
    to_outside,
    to_sparse,
    void,
)

DAMAGES = [
    *(
        damage(
            f"a flipped bit in {stage}",
            of_stage(stage, flip),
            f"{stage}/",
            "SHA-256",
            commands=(VERIFY, CHECK),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a cut file in {stage}",
            of_stage(stage, cut),
            f"{stage}/",
            "bytes",
            commands=(VERIFY, RUN),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a deleted file of {stage}",
            of_stage(stage, Path.unlink),
            f"{stage}/",
            "absent",
            commands=(VERIFY, RUN),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a flipped bit in {stage}",
            of_stage(stage, flip),
            f"{stage}/",
            "SHA-256",
            is_older=True,
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(
            f"{make.__name__} in place of scores",
            of_stage("scores", make),
            "scores/",
            commands=(VERIFY, RUN),
        )
        for make in (to_folder, to_fifo, to_loop, to_device, to_absent_target, to_outside)
    ),
    damage(
        "scores of 200 GB",
        of_stage("scores", to_sparse),
        "scores/",
        "bytes",
        commands=(VERIFY, RUN, CHECK),
    ),
    *(
        damage(
            f"refused answers: {make.__name__}",
            of_refused(make),
            ".refused.arrow",
            word,
            commands=commands,
        )
        for make, word, commands in (
            (flip, "SHA-256", (VERIFY, CHECK)),
            (cut, "bytes", (VERIFY, RUN)),
            (Path.unlink, "absent", (VERIFY, RUN)),
            (to_fifo, "rationales/", (VERIFY, RUN)),
            (to_outside, "rationales/", (VERIFY, RUN)),
        )
    ),
    damage("a null in scores", null_in_scores, "scores/", "null"),
    # Ledger lines with a right checksum.
    *(
        damage(f"{stage} of another key", change_unit(stage, stage_key="0" * 32), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(
            f"{stage} of another key", change_unit(stage, stage_key="0" * 32), stage, is_older=True
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(f"{stage} of another group", change_unit(stage, group=other_group), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(
            f"{stage} of another group",
            change_unit(stage, group=other_group),
            f"{stage}/",
            is_older=True,
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(f"{stage} under another name", change_unit(stage, unit="sums-000009"), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(f"{stage} with another count", count(stage, "accepted"), stage, "counts")
        for stage in RUN_STAGES
    ),
    damage("scores with other tokens", count("scores", "completion_tokens"), "completion_tokens"),
    damage("scores with other survivors", count("scores", "survivors"), "survivors"),
    damage(
        "a unit without files",
        change_unit("scores", files=()),
        "ledger.jsonl:",
        "no unit",
        commands=(VERIFY,),
    ),
    damage("a unit without counts", change_unit("scores", counts={}), "ledger.jsonl:", "no unit"),
    damage("a unit of an unknown stage", change_unit("scores", stage="marks"), "ledger.jsonl:"),
    damage(
        "a path that leads out",
        change_path("scores", f"scores/{OUTSIDE}"),
        "ledger.jsonl",
        commands=(VERIFY, RUN),
    ),
    damage(
        "an absolute path",
        change_path("scores", "/etc/passwd"),
        "ledger.jsonl",
        commands=(VERIFY, RUN),
    ),
    damage(
        "a path of 4,096 letters",
        change_path("scores", "scores/" + "x" * 4096),
        "scores/xx",
        commands=(VERIFY, RUN),
    ),
    damage(
        "a path with a NUL",
        change_path("scores", "scores/a\0b"),
        "scores/a",
        commands=(VERIFY, RUN),
    ),
    *(
        damage(
            f"{what} ledger",
            of_file("ledger.jsonl", make),
            "ledger",
            "orca2 recover",
            commands=(VERIFY, RUN, STATUS),
        )
        for what, make in {
            "no": Path.unlink,
            "half the": halve,
            "an empty": empty,
            "a NUL-filled": fill,
            "a flipped bit in the": flip,
            "a FIFO for a": to_fifo,
            "a dangling": to_absent_target,
            "a 200-GB": to_sparse,
        }.items()
    ),
    damage("no unit of examples", drop_units("examples"), "0 examples"),
    damage("no unit of selections", drop_units("selections"), "selected None"),
    # The dataset.
    damage("a shard that leads out", outside_shard, "leads out"),
    damage("a shard with a flipped bit", of_stage("dataset", flip), "data-00000", "SHA-256"),
    damage("a shard that the manifest does not list", add_shard, "data-00001", "not listed"),
    *(
        damage(f"{how} {name}", of_file(f"dataset/{name}", make), name)
        for name in ("state.json", "dataset_info.json", "README.md")
        for how, make in (("a flipped bit in", flip), ("no", Path.unlink))
    ),
    damage(
        "a damaged card of an older run",
        of_file("dataset/README.md", flip),
        "README.md",
        is_older=True,
    ),
    damage(
        "a deleted card of an older run",
        of_file("dataset/README.md", Path.unlink),
        "README.md",
        is_older=True,
    ),
    damage(
        "a shard named twice",
        describe("state.json", lambda s: s["_data_files"].append(s["_data_files"][0])),
        "state.json",
        "_data_files",
    ),
    damage(
        "another split",
        describe("state.json", lambda s: s.update(_split="test")),
        "state.json",
        "_split",
    ),
    damage("a state that is a list", describe("state.json", lambda s: [1]), "state.json"),
    damage(
        "other features",
        describe("dataset_info.json", lambda i: i["features"].pop("task")),
        "dataset_info.json",
        "features",
    ),
    damage(
        "a manifest without descriptions",
        edit(MANIFEST, lambda m: void(m.pop("descriptions"))),
        "manifest.json",
        "state.json",
    ),
    damage(
        "a manifest without summary",
        edit(MANIFEST, lambda m: void(m.pop("summary"))),
        "manifest.json",
        "summary",
    ),
    damage(
        "another summary",
        edit(MANIFEST, lambda m: m["summary"].update(trained_tokens=1)),
        "dataset",
        "summary",
    ),
    damage("another proof", edit(MANIFEST, lambda m: m["proof"].update(num_proved=1)), "proof"),
    *(
        damage(f"a proof of another {name}", edit(MANIFEST, change), "proof", name)
        for name, change in (
            ("num_instructed", lambda m: m["proof"].update(num_instructed=1)),
            ("num_quoting", lambda m: m["proof"].update(num_quoting=1)),
            ("rendered_sha256", lambda m: m["proof"].update(rendered_sha256={})),
        )
    ),
    damage("no proof", edit(MANIFEST, lambda m: m.update(proof=None)), "proof"),
    damage("another key", edit(MANIFEST, lambda m: m.update(examples_key="0")), "key"),
    damage("other prompts", edit(MANIFEST, lambda m: m.update(prompts="foreign")), "foreign"),
    damage(
        "another tokenizer", edit(MANIFEST, lambda m: m.update(tokenizer_digest="0")), "tokenizer"
    ),
    damage("another version", edit(MANIFEST, lambda m: m.update(version=2)), "version 2"),
    damage("a version in words", edit(MANIFEST, lambda m: m.update(version="1")), "version"),
    damage("files that are an object", edit(MANIFEST, lambda m: m.update(files={})), "files"),
    damage("rows in words", edit(MANIFEST, lambda m: m["files"][0].update(rows="9")), "rows"),
    damage("a manifest of {}", text(MANIFEST, "{}"), "manifest.json"),
    damage("a manifest of []", text(MANIFEST, "[]"), "manifest.json"),
    damage("a manifest 100,000 deep", text(MANIFEST, "[" * 100_000), "manifest.json"),
    damage("a manifest that is a FIFO", of_file(MANIFEST, to_fifo), "manifest.json", "FIFO"),
    damage("a manifest of NULs", text(MANIFEST, b"\0" * 999), "manifest.json"),
    damage("no manifest", of_file(MANIFEST, Path.unlink), "manifest.json"),
    # config.json.
    *(
        damage(
            f"a config.json of {body[:20]!r}",
            text(CONFIG, body),
            "config.json",
            commands=(VERIFY, RUN),
        )
        for body in (
            b"",
            b"{}",
            b"[]",
            b"1",
            b"null",
            b"[" * 100_000,
            b"9" * 5000,
            b"\xff",
            b"\0" * 99,
            b'{"stages": [], "config": {}}',
            b'{"stages": {"problems": []}, "config": {}}',
            b'{"stages": {}, "config": {}, "config": {}}',
            b'{"stages": {}, "strategies": 1}',
        )
    ),
    *(
        damage(
            f"a config.json: {make.__name__}",
            of_file(CONFIG, make),
            "config.json",
            commands=(VERIFY, RUN),
        )
        for make in (to_fifo, to_loop, to_device, to_absent_target, to_sparse)
    ),
    damage("no config.json", of_file(CONFIG, Path.unlink), "config.json"),
    damage("no stages", edit(CONFIG, lambda c: c.update(stages={})), "config.json"),
    damage("no config", edit(CONFIG, lambda c: c.update(config={})), "config.json"),
    damage("a number for tasks", edit(CONFIG, lambda c: c["config"].update(tasks=1)), "tasks"),
    damage(
        "a text for a call",
        edit(CONFIG, lambda c: c["strategies"].update(further_calls={"none": ["x"]})),
        "config.json",
        "none",
    ),
    damage(
        "an instruction that is a number",
        edit(CONFIG, lambda c: c["strategies"].update(instructions=[["a", 1]])),
        "config.json",
        "instructions",
    ),
]
