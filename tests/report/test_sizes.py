"""What a table says of its test data: from the first record, from counts of every record, from scores, or nothing."""

import csv
import io
import json

import pytest
from made_sweep import ENVS, arguments, write_run

from roga_domainbed.cli import main
from roga_domainbed.results.runs import as_runs
from roga_domainbed.results.sample_size import SampleSize, sample_size

PLENTY = {"samples": [60, 60], "videos": [12, 12], "people": [5, 5]}


def made(folder, counts=(PLENTY,) * 4, algorithms=("ERM", "RoGA"), trials=1, more=(), **kwargs):
    """Leave-one-out runs whose first record has the counts of each environment's in-split, and no scores."""
    for algorithm in algorithms:
        for env in range(4):
            for trial in range(trials):
                run = write_run(
                    folder, arguments("SynthFake", algorithm, (env,), trial), scores=False, **kwargs
                )
                records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
                for record in records:
                    for other in range(4):
                        key = f"env{other}_in_n"
                        record[key] = sum(counts[other]["samples"]) if counts else record[key]
                        record |= dict(more)
                if counts:
                    records[0]["provenance"]["counts"] = [{"in": own, "out": own} for own in counts]
                (run / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def collect(capsys, folder, *flags):
    argv = ["--input_dir", str(folder), "--metric", "auc", "--select", "last", *flags]
    assert main(["collect-results", *argv]) == 0
    return capsys.readouterr().out


def notes_in(out):
    """The lines below the first table, without their breaks, and its rows."""
    table = out.split("\n-------- ")[1].split("\n\n")[0].splitlines()[1:]
    rows = [line for line in table if line.startswith(("Algorithm", "ERM", "RoGA"))]
    return " ".join(" ".join(table[len(rows) :]).split()), rows


def test_columns_alike_are_said_at_once_and_nothing_is_marked(tmp_path, capsys):
    notes, rows = notes_in(collect(capsys, made(tmp_path)))
    assert notes == (
        "Test videos: 12 real and 12 fake, in each environment "
        "Test people: 5 in real and 5 in fake videos, in each environment"
    )
    assert "†" not in "".join(rows)


def test_few_videos_or_people_of_a_class_are_marked_and_said(tmp_path, capsys):
    """A tenth video and a fifth person are enough; FS lacks real videos, NT people."""
    least = {"samples": [10, 10], "videos": [10, 10], "people": [5, 5]}
    few_videos = {"samples": [8, 24], "videos": [4, 12]}
    few_people = {**PLENTY, "people": [3, 6]}
    notes, rows = notes_in(collect(capsys, made(tmp_path, (PLENTY, least, few_videos, few_people))))
    assert notes == (
        "Test videos: DF 12 real and 12 fake; F2F 10 real and 10 fake; FS 4 real and 12 fake; NT 12 real and 12 fake "
        "Test people: DF 5 in real and 5 in fake videos; F2F 5 in real and 5 in fake videos; "
        "NT 3 in real and 6 in fake videos "
        "† tested on fewer than 10 videos or 5 people of a class: FS (4 real and 12 fake videos); "
        "NT (people: 3 in real and 6 in fake videos)"
    )
    for row in rows[1:]:
        cells = row.split()[1:]
        assert [cell.endswith("†") for cell in cells] == [False, False, True, True, False], (
            "the average is of all"
        )


def test_trials_with_other_videos_are_a_range_and_the_least_counts(tmp_path, capsys):
    made(tmp_path, trials=1)
    for trial, videos in ((1, 9), (2, 14)):
        counts = [{"samples": [60, 60], "videos": [videos, 12]}] * 4
        other = made(tmp_path / str(trial), counts, trials=trial + 1)
        for run in sorted(other.iterdir()):
            args = json.loads((run / "results.jsonl").read_text().splitlines()[0])["args"]
            if args["trial_seed"] == trial:
                run.rename(tmp_path / run.name)
    notes, rows = notes_in(collect(capsys, tmp_path, "--algorithms", "ERM"))
    assert notes.startswith("Test videos: 9 to 14 real and 12 fake, in each environment")
    assert "people" not in notes.partition("†")[0], "those of two trials are not known"
    assert "DF, F2F, FS, NT (9 real and 12 fake videos)" in notes
    assert rows[1].count("†") == 4


def test_without_counts_of_classes_their_sum_is_said(tmp_path, capsys):
    """A class has less than ten videos if both have less than twenty together."""
    for total, few in ((20, False), (19, True)):
        folder = tmp_path / str(total)
        more = {f"env{env}_in_video_n": total for env in range(4)}
        notes, rows = notes_in(collect(capsys, made(folder, None, more=more)))
        assert notes.startswith(f"Test videos: {total}, in each environment")
        assert ("†" in rows[1]) == ("†" in notes) == few
    assert "DF, F2F, FS, NT (19 videos)" in notes


def test_without_videos_samples_are_said_and_domainbeds_own_records_say_nothing(tmp_path, capsys):
    notes, _ = notes_in(collect(capsys, made(tmp_path / "samples", None)))
    assert notes == "Test samples: 72, in each environment"
    plain = made(tmp_path / "plain", None)
    for path in plain.glob("*/results.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{key: value for key, value in own.items() if not key.endswith("_n")} for own in records]
        path.write_text("".join(json.dumps(own) + "\n" for own in kept))
    assert notes_in(collect(capsys, plain))[0] == ""


def test_scores_that_are_read_anyway_tell_the_classes(tmp_path, capsys):
    for env in range(4):
        write_run(tmp_path, arguments("SynthFake", "ERM", (env,)), videos=4)
    assert notes_in(collect(capsys, tmp_path))[0] == "Test samples: 24, in each environment"
    out = collect(capsys, tmp_path, "--intervals")
    assert notes_in(out)[0].startswith("Test videos: 4 real and 4 fake, in each environment † tested on")
    assert out.count("Test videos") == 1


def test_upstreams_tables_have_neither_line_nor_mark(tmp_path, capsys):
    counts = [{"samples": [8, 8], "videos": [2, 2], "people": [2, 2]}] * 4
    out = collect(capsys, made(tmp_path, counts), "--compat", "upstream")
    assert "Test" not in out
    assert "†" not in out


def test_every_format_has_them(tmp_path, capsys):
    counts = [{"samples": [8, 8], "videos": [2, 3], "people": [2, 4]}] * 4
    folder = made(tmp_path, counts)
    assert "Test videos: 2 real and 3 fake, in each environment" in collect(
        capsys, folder, "--format", "markdown"
    )
    latex = collect(capsys, folder, "--format", "latex")
    assert r"\dag{}" in latex
    assert "†" not in latex, "a font may lack it"
    rows = list(csv.DictReader(io.StringIO(collect(capsys, folder, "--format", "csv"))))
    names = ("samples", "videos", "real_videos", "fake_videos", "real_people", "fake_people", "few")
    assert [rows[0][name] for name in names] == ["16", "5", "2", "3", "2", "4", "True"]
    assert [rows[4][name] for name in ("column", *names)] == ["Avg", *[""] * 7]
    cells = json.loads(collect(capsys, folder, "--format", "json"))["cells"]
    assert [cells[0][name] for name in names] == [16, 5, 2, 3, 2, 4, True]


def test_the_page_has_line_and_mark_and_its_provenance_stays_one_column(tmp_path):
    counts = [{"samples": [60, 60], "videos": [4 + env, 12]} for env in range(4)]
    made(tmp_path, counts)
    page = tmp_path / "report.html"
    assert main(["report", "--input_dir", str(tmp_path), "--output", str(page)]) == 0
    text = page.read_text()
    assert "Test videos: DF 4 real and 12 fake; F2F 5 real and 12 fake; " in text
    assert "† tested on fewer than 10 videos or 5 people of a class: DF (4 real and 12 fake videos); " in text
    assert text.count("†</") == 8, "two rows of four"
    assert ">8 runs</th>" in text


def run_with(counts, **values):
    args = {"dataset": "SynthFake", "algorithm": "ERM", "test_envs": [1], "trial_seed": 0, "hparams_seed": 0}
    record = {"args": args, "step": 0, "env1_in_acc": 0.5, **values, "provenance": {"counts": counts}}
    (run,) = as_runs([record], "acc")
    return run


def test_counts_that_do_not_agree_with_the_record_are_of_other_samples():
    """With --eval_max_per_env a step may be evaluated on a part of them."""
    counts = [None, {"in": PLENTY}]
    known = SampleSize(120, 24, (60, 60), (12, 12), (5, 5))
    assert sample_size(run_with(counts, env1_in_n=120, env1_in_video_n=24), 1, 0) == known
    assert sample_size(run_with(counts), 1, 0) == known
    assert sample_size(run_with(counts, env1_in_n=50, env1_in_video_n=7), 1, 0) == SampleSize(50, 7)
    assert sample_size(run_with(counts), 0, 0) == sample_size(run_with(counts), 7, 0) == SampleSize()


@pytest.mark.parametrize(
    "counts",
    [3, {"1": PLENTY}, [[]] * 2, [{"in": 3}] * 2, [{"in": {"samples": [1, 2, 3], "videos": "12"}}] * 2,
     [{"in": {"samples": [-1, 2], "videos": [True, 4.5], "people": [None, 1]}}] * 2],
)  # fmt: skip
def test_what_is_no_count_is_none(counts):
    assert sample_size(run_with(counts, env1_in_n=3), 1, 0) == SampleSize(3)
    assert ENVS[1] == "F2F"
