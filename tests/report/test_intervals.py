"""What the interval of a cell is taken over, and that it is the interval of ``results.statistics``."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_sweep import STEPS, arguments, write_run, write_sweep
from pyarrow import parquet
from sklearn.metrics import roc_auc_score

from roga_domainbed.errors import RogaError
from roga_domainbed.metrics import get_metric
from roga_domainbed.metrics.binary import accuracy
from roga_domainbed.report.intervals import cell_intervals
from roga_domainbed.report.scores import read_scores, read_stored
from roga_domainbed.report.study import study
from roga_domainbed.results.runs import load_runs
from roga_domainbed.results.selection import RULES
from roga_domainbed.results.statistics import auc_interval, mean_interval

CELL = ("SynthFake", "ERM", 0)


def studied(folder, rule="last", metric="auc"):
    return study([folder], load_runs(folder, metric), [RULES.get(rule)], get_metric(metric), "ERM")


def interval_of(found, cell=CELL):
    stored, problems = read_stored(found.first.chosen)
    assert problems == []
    return cell_intervals(found.first, stored)[cell]


def one_cell(folder, trials=1, **kwargs):
    return write_sweep(folder, algorithms=["ERM"], envs=[0], trials=trials, **kwargs)


@pytest.mark.parametrize("step", STEPS)
def test_the_interval_is_that_of_the_scores_of_the_chosen_step(tmp_path, step):
    path = one_cell(tmp_path / "sweep") / ""
    (run,) = path.iterdir()
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for record in lines:  # validation is best at this step
        record.update({f"env{env}_out_auc": 0.9 if record["step"] == step else 0.1 for env in range(1, 4)})
    (run / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    found = studied(path, rule="iid")
    assert [chosen.step for chosen in found.first.chosen] == [step]
    rows = parquet.read_table(run / "scores.parquet").to_pandas()
    rows = rows[(rows["env"] == 0) & (rows["split"] == "in") & (rows["step"] == step)]
    assert roc_auc_score(rows["label"], rows["score"]) == pytest.approx(found.first.chosen[0].test)
    videos = rows["label"].astype(str) + "/" + rows["video"]
    expected = auc_interval(rows["score"], rows["label"], videos.to_numpy(dtype=str))
    got = interval_of(found)
    assert (got.low, got.high) == pytest.approx(expected, abs=1e-12)
    assert got.over == "videos"


def test_the_interval_of_an_accuracy_is_that_of_the_share_of_right_frames(tmp_path):
    found = studied(one_cell(tmp_path / "sweep"), metric="acc")
    scores = read_scores(found.first.chosen[0].source, 0, STEPS[-1], is_last=True)
    right = [accuracy([score], [label]) for score, label in zip(scores.scores, scores.labels, strict=True)]
    got = interval_of(found)
    assert (got.low, got.high) == pytest.approx(mean_interval(right, scores.clusters))


def test_the_interval_of_an_accuracy_of_few_videos_ends_where_an_accuracy_does(tmp_path):
    folder = tmp_path / "sweep"
    run = write_run(folder, arguments(), scores=False, metrics=0.5, videos=2)
    rows = {
        "step": [99] * 4,
        "env": [0] * 4,
        "env_name": ["DF"] * 4,
        "split": ["in"] * 4,
        "index": [0, 1, 2, 3],
    }
    rows |= {
        "video": ["a", "b", "c", "d"],
        "path": ["x"] * 4,
        "label": [0, 0, 1, 1],
        "score": [0.1, 0.9, 0.1, 0.9],
    }
    parquet.write_table(pa.table(rows), run / "scores.parquet")
    found = interval_of(studied(folder, metric="acc"))
    # half are right: 0.5 ± t(0.975, 3) x 0.577 / 2 = 0.5 ± 0.92
    assert (found.low, found.high, found.over) == (0, 1, "videos")


def test_an_earlier_step_of_a_run_of_the_first_version_has_no_interval_over_videos(tmp_path):
    folder = one_cell(tmp_path / "sweep", trials=3, steps=(0, 40), first_version=True)
    assert interval_of(studied(folder)).over == "videos", "of the last step it has scores"
    path = Path(studied(folder).first.chosen[0].source) / "results.jsonl"
    path.write_text(path.read_text().replace('"env1_out_auc": 0', '"env1_out_auc": 9', 1))
    got = interval_of(studied(folder, rule="iid"))
    assert got.over == "trials"
    assert "no stored scores of the step that the rule chose" in got.note


def test_trials_of_runs_that_hold_out_several_environments_are_pooled(tmp_path):
    for trial in range(3):
        for held_out in ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)):
            write_run(tmp_path, arguments("SynthFake", "ERM", held_out, trial), steps=(0,), scores=False)
    found = studied(tmp_path)
    tests = [[c.test for c in found.first.chosen if c.env == 0 and c.trial == trial] for trial in range(3)]
    assert list(map(len, tests)) == [3, 3, 3]
    means = [sum(own) / 3 for own in tests]
    assert [found.first.values["ERM"]["SynthFake", 0, trial] for trial in range(3)] == pytest.approx(means)
    got = interval_of(found)
    assert (got.low, got.high) == pytest.approx(np.clip(mean_interval(means), 0, 1))


def test_without_scores_it_is_over_trials_and_one_trial_has_none(tmp_path):
    found = studied(one_cell(tmp_path / "three", trials=3, scores=False))
    got = interval_of(found)
    assert got.over == "trials"
    assert (got.low, got.high) == pytest.approx(mean_interval([c.test for c in found.first.chosen]))
    alone = interval_of(studied(one_cell(tmp_path / "one", scores=False)))
    assert alone.over == ""
    assert math.isnan(alone.low)
    assert alone.note == "no stored scores; an interval over trials needs 3, not 1"


def test_an_interval_over_trials_ends_where_the_metric_does(tmp_path):
    found = studied(one_cell(tmp_path, trials=3, scores=False, steps=(0,)))
    apart = tuple(replace(c, test=test) for c, test in zip(found.first.chosen, (0.2, 0.5, 0.8), strict=True))
    low, high = mean_interval([0.2, 0.5, 0.8])
    assert low < 0
    assert high > 1
    got = cell_intervals(replace(found.first, judged=apart), {})[CELL]
    assert (got.low, got.high) == (0.0, 1.0)


def test_scores_that_do_not_give_the_number_of_the_table_are_not_used(tmp_path):
    found = studied(one_cell(tmp_path / "sweep"))
    path = found.first.chosen[0].source + "/scores.parquet"
    table = parquet.read_table(path).to_pandas()
    parquet.write_table(pa.Table.from_pandas(table.assign(score=1 - table["score"])), path)
    assert "the records" in interval_of(found).note
    assert interval_of(found).over == ""


def test_a_file_of_scores_that_cannot_be_used_is_named(tmp_path):
    run = write_run(tmp_path, arguments(), steps=STEPS[:1])
    (run / "scores.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(RogaError, match=r"scores\.parquet: "):
        read_scores(run, 0, STEPS[0], is_last=True)
    parquet.write_table(pa.table({"env": [0], "score": [0.5]}), run / "scores.parquet")
    with pytest.raises(RogaError, match="lacks the columns split, index, video, path, label"):
        read_scores(run, 0, STEPS[0], is_last=True)
    found = studied(tmp_path)
    stored, problems = read_stored([*found.first.chosen, *found.first.chosen])
    assert stored == {}
    assert len(problems) == 1


def test_a_task_that_is_not_binary_has_no_scores_to_read(tmp_path):
    run = write_run(tmp_path, arguments(), steps=STEPS[-1:])
    table = parquet.read_table(run / "scores.parquet").to_pandas().assign(score=float("nan"), label=5)
    parquet.write_table(pa.Table.from_pandas(table), run / "scores.parquet")
    assert read_scores(run, 0, STEPS[-1], is_last=True) is None


def test_frames_without_a_video_are_their_own_clusters(tmp_path):
    run = write_run(tmp_path, arguments(), steps=STEPS[-1:])
    table = parquet.read_table(run / "scores.parquet").to_pandas().assign(video=None)
    parquet.write_table(pa.Table.from_pandas(table), run / "scores.parquet")
    scores = read_scores(run, 0, STEPS[-1], is_last=True)
    assert not scores.has_videos
    assert len(set(scores.clusters)) == len(scores.labels)


BAD_FILES = {
    "a named pipe": lambda path, table: os.mkfifo(path),
    "a folder": lambda path, table: path.mkdir(),
    "a device": lambda path, table: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path, table: path.symlink_to(path),
    "cut": lambda path, table: path.write_bytes(table[: len(table) // 2]),
    "text for scores": lambda path, table: rewritten(path, table, score=["half"]),
    "lists for scores": lambda path, table: rewritten(path, table, score=[[0.5]]),
    "text for labels": lambda path, table: rewritten(path, table, label=["fake"]),
    "text for environments": lambda path, table: rewritten(path, table, env=["DF"]),
    "text for steps": lambda path, table: rewritten(path, table, step=["99"]),
    "no index": lambda path, table: rewritten(path, table, index=[None]),
    "infinite scores": lambda path, table: rewritten(path, table, score=[math.inf]),
}


def rewritten(path, content, **columns):
    table = parquet.read_table(pa.BufferReader(content)).to_pandas()
    for name, (value,) in columns.items():
        table[name] = [value] * len(table)
    parquet.write_table(pa.Table.from_pandas(table), path)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_whatever_a_file_of_scores_is_the_interval_says_why_there_is_none(tmp_path, kind):
    found = studied(one_cell(tmp_path / "sweep"))
    path = Path(found.first.chosen[0].source) / "scores.parquet"
    content = path.read_bytes()
    path.unlink()
    BAD_FILES[kind](path, content)
    stored, problems = read_stored(found.first.chosen)
    assert stored == {}
    assert [str(path) in problem for problem in problems] == [True]
    assert cell_intervals(found.first, stored)[CELL].note
