import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from roga_domainbed.cli import main
from roga_domainbed.results import records

DATA = Path(__file__).parents[1] / "data" / "report"


@pytest.fixture
def vlcs(tmp_path):
    with tarfile.open(DATA / "vlcs_sweep.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "vlcs_sweep"


def prose(out):
    """The text without its line breaks."""
    return " ".join(out.split())


def collect(*argv):
    return main(["collect-results", *map(str, argv)])


@pytest.mark.parametrize(("flags", "suffix"), [([], "txt"), (["--latex"], "tex")])
def test_stdout_and_the_saved_file_equal_upstreams(vlcs, capsys, flags, suffix):
    oracle = (DATA / f"collect_results.{suffix}").read_text()
    for _ in range(2):  # the file of the first time must not disturb the second
        assert collect("--input_dir", vlcs, *flags) == 0
        captured = capsys.readouterr()
        assert captured.out == oracle
        assert (vlcs / f"results.{suffix}").read_text() == oracle
        assert captured.err == "40 runs found: 40 finished, 0 unfinished; 0 lines skipped.\n"


def test_bad_lines_are_counted_and_named_and_the_table_comes(vlcs, capsys):
    run = sorted(path for path in vlcs.iterdir())[0]
    with open(run / "results.jsonl", "a") as file:
        file.write('\n{"args": {"test_envs": 3}}\n{"args": {"test_envs": [0]')
    (run / "done").unlink()
    assert collect("--input_dir", vlcs) == 0
    captured = capsys.readouterr()
    table, _, problems = captured.out.rpartition("\n\n")
    assert f"{table}\n" == (DATA / "collect_results.txt").read_text()
    assert "40 runs found: 39 finished, 1 unfinished; 3 lines skipped." in captured.err
    for number in (6, 7, 8):
        assert f"{run / 'results.jsonl'}, line {number}:" in captured.err
        assert f"{run / 'results.jsonl'}, line {number}:" in problems
    assert collect("--input_dir", vlcs, "--compat", "upstream") == 0
    assert capsys.readouterr().out == (DATA / "collect_results.txt").read_text()


def test_a_table_that_cannot_be_saved_is_still_printed(vlcs, capsys):
    (vlcs / "results.txt").mkdir()
    assert collect("--input_dir", vlcs) == 1
    captured = capsys.readouterr()
    assert captured.out == (DATA / "collect_results.txt").read_text()
    assert f"Not saved to {vlcs / 'results.txt'}" in captured.err


@pytest.mark.parametrize("layout", ["text", "markdown", "latex", "csv", "json", "parquet"])
def test_a_table_takes_the_place_of_an_earlier_one_and_of_nothing_else(vlcs, capsys, layout):
    file = vlcs / "table"
    for _ in range(2):
        assert collect("--input_dir", vlcs, "--select", "iid", "--format", layout, "--output", file) == 0
    file.write_text("my diary")
    assert collect("--input_dir", vlcs, "--select", "iid", "--format", layout, "--output", file) == 1
    assert f"Not saved to {file}: holds something else" in capsys.readouterr().err
    assert file.read_text() == "my diary"


def test_rules_come_in_the_order_asked_for(vlcs, capsys):
    assert collect("--input_dir", vlcs, "--select", "oracle", "last") == 0
    out = capsys.readouterr().out
    titles = [line.partition("method: ")[2] for line in out.splitlines() if "Dataset:" in line]
    assert titles == [
        "test-domain validation set (oracle)",
        "last step, hparams by training-domain validation set",
    ]


def write_run(folder, **fields):
    args = {"test_envs": [0], "trial_seed": 0, "dataset": "Debug28", "algorithm": "ERM", "hparams_seed": 0}
    values = {f"env{i}_{split}_{m}": 0.5 for i in range(3) for split in ("in", "out") for m in ("acc", "auc")}
    record = {"args": {**args, **fields.pop("args", {})}, "step": 0, **values, **fields}
    folder.mkdir()
    (folder / "results.jsonl").write_text(json.dumps(record) + "\n")


def test_another_metric_goes_to_a_file_of_its_own(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--metric", "auc") == 0
    assert "metric: auc\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("results*")] == ["results_auc.txt"]


def test_an_unknown_metric_lists_those_the_records_have(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--metric", "acu") == 2
    assert "unknown metric 'acu' (did you mean 'auc'?); known: acc, auc" in capsys.readouterr().err


def test_faults_of_the_user_are_reported_together(tmp_path, capsys):
    flags = ["--auto_lr", "--select", "iid"]
    assert collect("--input_dir", tmp_path / "missing", *flags) == 2
    err = capsys.readouterr().err
    assert "2 problems" in err
    assert "is not a folder" in err
    assert collect("--input_dir", tmp_path, "--select", "iidd") == 2
    assert "unknown selection rule 'iidd' (did you mean 'iid'?)" in capsys.readouterr().err


def test_no_records_is_an_error_that_says_what_is_expected(tmp_path, capsys):
    assert collect("--input_dir", tmp_path) == 2
    assert "no records under" in capsys.readouterr().err


def test_auto_lr_needs_records_of_train_autolr(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--auto_lr") == 2
    assert "no record has fd_env* values" in capsys.readouterr().err
    write_run(tmp_path / "b", args={"test_envs": [1]}, fd_env1_in_acc=0.25)
    assert collect("--input_dir", tmp_path, "--auto_lr") == 0
    out = capsys.readouterr().out
    assert "auto lr training-domain validation set" in out
    assert " 25.0  " in out


def test_compat_with_unknown_datasets_alone_is_an_error(tmp_path, capsys):
    write_run(tmp_path / "a", args={"dataset": "Mine"})
    assert collect("--input_dir", tmp_path, "--compat", "upstream") == 2
    assert "drops datasets" in capsys.readouterr().err


def test_two_sweeps_in_one_folder_are_noticed(tmp_path, capsys):
    write_run(tmp_path / "a", args={"output_dir": "a"})
    write_run(tmp_path / "b", args={"output_dir": "b"})
    assert collect("--input_dir", tmp_path) == 0
    err = capsys.readouterr().err
    assert "1 runs are in several folders each" in err
    assert f"trial 0, hparams_seed 0: {tmp_path / 'a'}, {tmp_path / 'b'}" in err


def test_help_is_instant_and_the_tables_need_no_torch(vlcs):
    code = (
        "import sys; from roga_domainbed.cli import main; main(sys.argv[1:]); "
        "print(','.join(m for m in ('torch', 'pandas', 'sklearn', 'numpy') if m in sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, "collect-results", "--input_dir", str(vlcs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "numpy"
    start = time.perf_counter()
    helped = subprocess.run(
        [sys.executable, "-m", "roga_domainbed", "collect-results", "--help"],
        env=environment,
        capture_output=True,
    )
    assert helped.returncode == 0
    assert time.perf_counter() - start < 2.0, "some tenths of a second when the machine is free"


def damage(sweep):
    """Ten kinds of damage to a sweep, none of which takes a record away; what must be said of each."""
    runs = sorted(path / "results.jsonl" for path in sweep.iterdir())
    (first, again) = (json.loads(runs[i].read_text().splitlines()[0]) for i in (0, 6))
    del first["args"]["trial_seed"]
    nan = json.loads(runs[5].read_text().splitlines()[0])
    nan["step"], nan["env0_out_acc"] = -1, float("nan")
    appended = {
        0: b'{"args": {"test_envs": [0], "tri',
        1: b"\n",
        2: b'{"name": "foreign", "values": [1, 2]}\n',
        3: json.dumps(first).encode() + b"\n",
        4: b"\x00\xff\xfe\x80 \x1b[31m\n",
        5: json.dumps(nan).encode() + b"\n",
        6: b"[" * (17 * 2**20) + b"\n",
    }
    for index, content in appended.items():
        with open(runs[index], "ab") as file:
            file.write(content)
    copy = sweep / "zz_copy"
    copy.mkdir()
    (copy / "results.jsonl").write_text(json.dumps(again, sort_keys=True) + "\n")
    (sweep / "zz_empty").mkdir()
    (sweep / "zz_empty" / "results.jsonl").touch()
    (sweep / "zz_unreadable" / "results.jsonl").mkdir(parents=True)
    return [
        f"{runs[0]}, line 6: not a JSON record, skipped",
        f"{runs[1]}, line 6: blank, skipped",
        f"{runs[2]}, line 6: not a DomainBed record (lacks args, step), skipped",
        f"{runs[3]}, line 6: not a DomainBed record (lacks args.trial_seed), skipped",
        f"{runs[4]}, line 6: not a JSON record, skipped",
        f"{runs[5]}, line 6: NaN or infinity; NaN is never selected",
        f"{runs[6]}, line 6: longer than 16 MiB, skipped",
        f"{runs[6].parent}, {copy}",
        f"{sweep / 'zz_empty' / 'results.jsonl'}: empty",
        f"{sweep / 'zz_unreadable' / 'results.jsonl'}: Is a directory, skipped",
    ]


@pytest.mark.parametrize("with_orjson", [True, False])
def test_records_damaged_in_ten_ways_are_named_and_the_table_comes(vlcs, capsys, monkeypatch, with_orjson):
    said = damage(vlcs)
    assert len(said) == 10
    if not with_orjson:
        monkeypatch.setattr(records, "_orjson", None)
    assert collect("--input_dir", vlcs) == 0
    captured = capsys.readouterr()
    intact = (DATA / "collect_results.txt").read_text().splitlines()
    table, _, problems = captured.out.rpartition("\n\n")
    assert table.splitlines()[1:] == intact[1:]
    assert table.splitlines()[0] == "Total records: 202"
    assert len(problems.splitlines()) == 7
    assert "; 7 lines skipped." in captured.err
    for sentence in said:
        assert sentence in captured.err


def test_deeply_nested_json_is_a_bad_line(vlcs, capsys):
    run = sorted(vlcs.iterdir())[0] / "results.jsonl"
    with open(run, "ab") as file:
        file.write(b"[" * 100_000 + b"\n")
    assert collect("--input_dir", vlcs) == 0
    assert f"{run}, line 6: not a JSON record (nested more than 64 deep)" in capsys.readouterr().err


def unfinished_sweep(folder):
    """Two runs that are done, and one with another test environment that is not."""
    for env in range(3):
        args = {"test_envs": [env], "hparams_seed": 7 * (env == 1)}
        write_run(folder / f"run{env}", args=args, step=300 * (env == 1))
        if env != 1:
            (folder / f"run{env}" / "done").write_text("done")
    return f"{folder}/run1"


NOTED = "ERM on Debug28, test_envs [1], trial 0, hparams_seed 7: last record at step 300"


def test_an_unfinished_run_is_named_in_every_format_with_notes_and_not_in_upstreams_table(tmp_path, capsys):
    run = unfinished_sweep(tmp_path)
    for name in ("text", "markdown", "latex", "json"):
        assert collect("--input_dir", tmp_path, "--select", "iid", "--format", name) == 0
        out, err = capsys.readouterr()
        assert f"  unfinished: {NOTED}\n" in err
        if name == "json":
            assert json.loads(out)["unfinished_runs"] == {
                "Debug28": [
                    {
                        "dataset": "Debug28", "algorithm": "ERM", "row": "ERM", "test_envs": [1], "trial_seed": 0,
                        "hparams_seed": 7, "last_step": 300, "folder": run,
                    }
                ]
            }  # fmt: skip
            continue
        noted = NOTED.replace("_", "\\_") in out.replace("{[}", "[").replace("{]}", "]")
        assert noted == (name != "text")
        assert ("1 run has not finished and counts up to its last record:" in out) == (name != "text")
    for flags in ([], ["--latex"]):
        assert collect("--input_dir", tmp_path, "--compat", "upstream", *flags) == 0
        out, err = capsys.readouterr()
        assert "finished" not in out
        assert NOTED in err


def test_a_run_that_finishes_without_a_new_record_is_finished(tmp_path, capsys):
    run = unfinished_sweep(tmp_path)
    assert collect("--input_dir", tmp_path) == 0
    err = capsys.readouterr().err
    assert "2 finished, 1 unfinished" in err
    assert NOTED in err
    Path(run, "done").write_text("done")
    assert collect("--input_dir", tmp_path) == 0
    assert capsys.readouterr().err == "3 runs found: 3 finished, 0 unfinished; 0 lines skipped.\n"


def test_only_the_unfinished_runs_of_a_table_are_named_and_the_first_few_of_many(tmp_path, capsys):
    for seed in range(8):
        write_run(tmp_path / f"run{seed}", args={"hparams_seed": seed})
        write_run(tmp_path / f"other{seed}", args={"hparams_seed": seed, "algorithm": "SAM"})
    assert collect("--input_dir", tmp_path, "--algorithms", "SAM", "--format", "markdown") == 0
    out, err = capsys.readouterr()
    assert "ERM" not in out + err
    assert "8 runs have not finished and count up to the last record:" in out
    assert "and 3 more; collect-results --format json lists all" in out
    assert "and 3 more like these" in err


def cells_of(path):
    import csv

    import pyarrow.parquet

    text = (path / "results.json").read_text()
    with open(path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    return json.loads(text)["cells"], lines, pyarrow.parquet.read_table(path / "results.parquet").to_pylist()


def test_data_formats_hold_the_same_cells_and_those_of_the_text_table(vlcs, capsys):
    for layout in ("json", "csv", "parquet"):
        assert collect("--input_dir", vlcs, "--format", layout) == 0
    as_json, as_csv, as_parquet = cells_of(vlcs)
    assert as_json == as_parquet
    assert [
        {key: "" if value is None else str(value) for key, value in cell.items()} for cell in as_json
    ] == as_csv
    cell = next(cell for cell in as_json if cell["dataset"] == "VLCS" and cell["column"] != "Avg")
    first_row = (DATA / "collect_results.txt").read_text().splitlines()[4]
    assert first_row.split("  ")[0] == cell["algorithm"]
    assert f"{cell['mean']:.1f} +/- {cell['standard_error']:.1f}" in first_row
    assert {cell["oracle"] for cell in as_json if "oracle" in cell["selection"]} == {True}
    assert sum(cell["oracle"] for cell in as_json) == len(as_json) / 3


def test_what_test_data_chose_says_oracle_in_row_caption_and_file(vlcs, capsys):
    assert collect("--input_dir", vlcs, "--select", "oracle", "--format", "markdown") == 0
    text = (vlcs / "results_oracle.md").read_text()
    assert capsys.readouterr().out == text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "Algorithm" not in line]
    assert rows
    assert all("(oracle)" in row.split("|")[1] for row in rows)
    captions = [line for line in text.splitlines() if line.startswith("**")]
    assert all("test-domain validation set (oracle)" in caption for caption in captions)


def test_several_folders_are_read_as_one_sweep(vlcs, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for run in sorted(vlcs.iterdir())[::2]:
        run.rename(other / run.name)
    assert collect("--input_dir", vlcs, other, "--output", tmp_path / "both.txt") == 0
    assert capsys.readouterr().out == (DATA / "collect_results.txt").read_text()
    assert (tmp_path / "both.txt").exists()
    assert not (vlcs / "results.txt").exists()


def test_algorithms_and_datasets_can_be_chosen(tmp_path, capsys):
    for algorithm in ("ERM", "SAM"):
        for dataset in ("Debug28", "Debug224"):
            write_run(tmp_path / f"{algorithm}{dataset}", args={"algorithm": algorithm, "dataset": dataset})
    assert collect("--input_dir", tmp_path, "--algorithms", "SAM", "--datasets", "Debug224") == 0
    out = capsys.readouterr().out
    assert "Total records: 1\n" in out
    assert "ERM" not in out
    assert "Dataset: Debug28" not in out
    assert collect("--input_dir", tmp_path, "--algorithms", "SAN", "--datasets", "PACS") == 2
    err = capsys.readouterr().err
    assert "unknown algorithm of these records 'SAN' (did you mean 'SAM'?)" in err
    assert "unknown dataset of these records 'PACS'" in err


def test_the_video_level_shows_the_metric_of_videos(tmp_path, capsys):
    values = {f"env{i}_{split}_video_auc": 0.75 for i in range(3) for split in ("in", "out")}
    write_run(tmp_path / "a", **values)
    assert collect("--input_dir", tmp_path, "--metric", "auc", "--level", "video") == 0
    out = capsys.readouterr().out
    assert "metric: video_auc" in out
    assert " 75.0  " in out


def test_missing_runs_are_listed_and_thin_cells_marked(tmp_path, capsys):
    for algorithm in ("ERM", "SAM"):
        for env in range(3):
            for trial in range(2):
                if (algorithm, env, trial) not in {("SAM", 1, 1), ("SAM", 2, 0), ("SAM", 2, 1)}:
                    name = f"{algorithm}{env}{trial}"
                    args = {"algorithm": algorithm, "test_envs": [env], "trial_seed": trial}
                    write_run(tmp_path / name, args=args)
    assert collect("--input_dir", tmp_path, "--select", "iid") == 0
    out = capsys.readouterr().out
    (sam,) = [line for line in out.split("-------- Averages")[0].splitlines() if line.startswith("SAM")]
    assert sam.split("  ")[0] == "SAM"
    assert [cell.strip() for cell in sam.split("  ") if cell.strip()] == [
        "SAM", "50.0 +/- 0.0", "50.0*", "X", "X"
    ]  # fmt: skip
    assert "* mean of fewer trials than the sweep has (2)\n" in out
    assert "Missing runs in 2 cells:\n" in out
    assert "  SAM, 1: trial 1 has no run\n  SAM, 2: no run\n" in out
    assert collect("--input_dir", tmp_path, "--select", "iid", "--compat", "upstream") == 0
    out = capsys.readouterr().out
    assert "*" not in out
    assert "Missing" not in out


def test_a_comparison_with_a_baseline_follows_the_tables(tmp_path, capsys):
    for env in range(3):
        for trial in range(3):
            for algorithm, value in (
                ("ERM", 0.5),
                ("SAM", 0.51 + 0.01 * trial),
                ("SAGM", 0.49 + 0.01 * trial),
            ):
                args = {"algorithm": algorithm, "test_envs": [env], "trial_seed": trial}
                write_run(tmp_path / f"{algorithm}{env}{trial}", args=args, **{f"env{env}_in_acc": value})
    assert collect("--input_dir", tmp_path, "--select", "iid", "--compare", "ERM") == 0
    tables, _, compared = capsys.readouterr().out.partition("-------- Compared with ERM, metric: acc, ")
    assert "-------- Averages" in tables
    (sam,) = [line.split() for line in compared.splitlines() if line.startswith("SAM ")]
    assert sam[1] == "+2.0"
    assert sam[-3:] == ["9/0/0", "9", "1.00"]
    assert "Better than ERM (p < 0.05): SAM.\n" in compared
    assert "No significant difference from ERM (p >= 0.05): SAGM.\n" in compared
    assert collect("--input_dir", tmp_path, "--compare", "EMR") == 2
    assert "unknown row of these tables 'EMR'" in capsys.readouterr().err
    assert collect("--input_dir", tmp_path, "--compare", "ERM", "--format", "csv") == 2
    assert "--format csv cannot hold --compare" in capsys.readouterr().err
    assert collect("--input_dir", tmp_path, "--compare", "ERM", "--compat", "upstream") == 2
    assert "upstream has no table for --compare" in capsys.readouterr().err

    arguments = ["--input_dir", tmp_path, "--select", "iid", "--compare", "ERM", "--format"]
    assert collect(*arguments, "markdown") == 0
    markdown = capsys.readouterr().out
    assert "| SAM | +2.0 |" in markdown
    assert "Better than ERM (p \\< 0.05): SAM." in markdown
    assert collect(*arguments, "latex") == 0
    latex = capsys.readouterr().out
    assert r"\textbf{95 \% interval" in latex
    assert r"Better than ERM (p \textless{} 0.05): SAM." in latex
    assert collect(*arguments, "json") == 0
    first, second = json.loads(capsys.readouterr().out)["comparisons"]
    assert {first["algorithm"], second["algorithm"]} == {"SAM", "SAGM"}
    sam = first if first["algorithm"] == "SAM" else second
    assert sam["difference"] == pytest.approx(2.0)
    assert (sam["wins"], sam["ties"], sam["losses"], sam["pairs"], sam["average_rank"]) == (9, 0, 0, 9, 1.0)


def test_the_comparison_of_five_pairs_says_that_they_are_too_few(tmp_path, capsys):
    """Wilcoxon's signed-rank test of n differences has 2 / 2**n as its smallest p: 0.0625 for five."""
    for trial in range(5):
        for algorithm, value in (("ERM", 0.5), ("SAM", 0.9)):
            args = {"algorithm": algorithm, "test_envs": [0], "trial_seed": trial}
            write_run(tmp_path / f"{algorithm}{trial}", args=args, env0_in_acc=value)
    assert collect("--input_dir", tmp_path, "--select", "iid", "--compare", "ERM") == 0
    out = capsys.readouterr().out
    assert (
        "Too few trials to compare SAM with ERM: with 5 pairs the test cannot reach p < 0.05. Add trials."
        in prose(out)
    )


def settings_of_sam(folder, name):
    """SAM at three ρ, two trials, two hparams seeds; ``name(rho)`` is the args or hparams that tell them apart.

    The better hparams seed, by validation, is 1. Its test accuracy is ρ in trial 0 and ρ + 0.2 in trial 1.
    """
    for place, rho in enumerate((0.2, 0.05, 0.1)):
        for trial in range(2):
            for seed in range(2):
                args, fields = name(rho)
                args |= {"algorithm": "SAM", "trial_seed": trial, "hparams_seed": seed}
                values = {"env0_in_acc": seed * (rho + 0.2 * trial), "env1_out_acc": 0.5 + 0.1 * seed}
                write_run(folder / f"{place}{trial}{seed}", args=args, **fields, **values)
    write_run(folder / "erm", args={"trial_seed": 0, "hparams_seed": 0})


#: Mean and error over the trials ρ and ρ + 0.2, in percent.
MEANS = {"0.05": "15.0 +/- 7.1", "0.1": "20.0 +/- 7.1", "0.2": "30.0 +/- 7.1"}


@pytest.mark.parametrize(
    ("name", "flags", "rows"),
    [
        (lambda rho: ({"row": f"SAM, ρ {rho}"}, {}), (), "SAM, ρ {}"),
        (lambda rho: ({}, {"hparams": {"rho": rho}}), ("--rows", "algorithm,hparams.rho"), "SAM, rho {}"),
    ],
    ids=["of a plan", "of upstream's records"],
)
def test_settings_of_one_algorithm_are_rows_of_their_own(tmp_path, capsys, name, flags, rows):
    settings_of_sam(tmp_path, name)
    arguments = ["--input_dir", tmp_path, "--select", "iid", *flags]
    assert collect(*arguments, "--compare", rows.format(0.05)) == 0
    out, err = capsys.readouterr()
    assert "several folders" not in err
    dataset = out.split("-------- ")[1].splitlines()[2:6]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()][:2] for line in dataset]
    assert cells == [["ERM", "50.0*"], *([rows.format(rho), mean] for rho, mean in MEANS.items())]
    assert [line.split("  ")[0] for line in out.split("Compared with")[1].splitlines()[2:6]] == [
        rows.format(0.05), "ERM", rows.format(0.1), rows.format(0.2)
    ]  # fmt: skip
    assert collect(*arguments, "--format", "json") == 0
    content = json.loads(capsys.readouterr().out)
    found = {(cell["algorithm"], cell["row"]) for cell in content["cells"]}
    assert found == {("ERM", "ERM"), *(("SAM", rows.format(rho)) for rho in MEANS)}
    assert content["missing_runs"]["Debug28"][-1] == f"{rows.format(0.2)}, 2: no run"


def test_an_unknown_key_of_rows_lists_those_there_are(tmp_path, capsys):
    write_run(tmp_path / "a", hparams={"rho": 0.05})
    assert collect("--input_dir", tmp_path, "--rows", "algorithm,hparams.roh") == 2
    assert (
        "unknown key of --rows 'hparams.roh' (did you mean 'hparams.rho'?); known: "
        in capsys.readouterr().err
    )


def rows_in(out):
    return [
        line.split("  ")[0] for line in out.split("-------- ")[1].splitlines()[2:] if "  " in line.strip()
    ]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        (
            [{}, {"hparams": '{"rho": 0.1}'}, {"hparams": '{"rho": 0.05}'}],
            ["SAM", "SAM, rho 0.05", "SAM, rho 0.1"],
        ),
        ([{"steps": 300}, {"steps": 1000}], ["SAM, steps 300", "SAM, steps 1000"]),
        ([{}, {"split": "frame"}, {"split": "group"}], ["SAM", "SAM, split frame", "SAM, split group"]),
        ([{}, {"balance": "1:4", "strict": True}], ["SAM", "SAM, balance 1:4, strict true"]),
        (
            [{}, {"label_noise": 0.4}, {"label_noise": 0.4, "train_fraction": 0.15}],
            ["SAM", "SAM, label_noise 0.4", "SAM, label_noise 0.4, train_fraction 0.15"],
        ),
        ([{"n_crops": 1}, {"n_crops": 2}], ["SAM, n_crops 1", "SAM, n_crops 2"]),
        ([{"row": "small"}, {"row": "small", "steps": 9}], ["small", "small, steps 9"]),
    ],
    ids=["hparams", "steps", "split", "data options", "shares", "of a fork", "a plan's row that was edited"],
)
@pytest.mark.parametrize("n_folders", [1, 3])
def test_ablations_of_one_algorithm_are_never_one_row(tmp_path, capsys, settings, rows, n_folders):
    folders = [tmp_path / f"sweep{place % n_folders}" for place in range(len(settings))]
    for place, (folder, args) in enumerate(zip(folders, settings, strict=True)):
        folder.mkdir(exist_ok=True)
        for env in range(3):
            values = {f"env{i}_{part}_acc": 0.1 * (1 + place) for i in range(3) for part in ("in", "out")}
            where = {"algorithm": "SAM", "test_envs": [env], "data_dir": str(folder), "output_dir": str(env)}
            write_run(folder / f"{place}{env}", args={**where, **args}, **values)
    for given in (folders, folders[::-1]):
        assert collect("--input_dir", *dict.fromkeys(given), "--select", "iid") == 0
        out, err = capsys.readouterr()
        assert rows_in(out) == rows
        assert f"has runs with different settings, each in a row of its own: {'; '.join(rows)}" in err
        for place, _ in enumerate(settings):
            assert f"{10 * (1 + place)}.0" in out, "no setting is hidden"
    if "row" not in settings[0]:
        assert collect("--input_dir", *dict.fromkeys(folders), "--select", "iid", "--rows", "algorithm") == 0
        out = capsys.readouterr().out
        assert rows_in(out) == ["SAM"]
        assert "SAM holds runs with different settings: " in out


def test_backends_are_rows_of_their_own_and_lost_provenance_is_none(tmp_path, capsys):
    more = {f"env{i}_{part}_n": 5 for i in range(3) for part in ("in", "out")}
    for trial, backend in enumerate(("engine", "upstream", None)):
        made = {"provenance": {"backend": backend, "split": "official"}} if backend else {}
        write_run(tmp_path / str(trial), args={"trial_seed": trial}, **more, **made)
    assert collect("--input_dir", tmp_path, "--select", "iid") == 0
    assert rows_in(capsys.readouterr().out) == ["ERM", "ERM, backend engine", "ERM, backend upstream"]


def test_a_random_search_is_one_row(tmp_path, capsys):
    for trial in range(2):
        for seed in range(3):
            for env in range(3):
                lr = 10.0 ** -(1 + seed + 3 * trial * (seed > 0))
                args = {"trial_seed": trial, "hparams_seed": seed, "test_envs": [env]}
                write_run(tmp_path / f"{trial}{seed}{env}", args=args, hparams={"lr": lr, "rho": 0.05})
    assert collect("--input_dir", tmp_path, "--select", "iid") == 0
    out, err = capsys.readouterr()
    assert rows_in(out) == ["ERM"]
    assert "different" not in out + err


def test_one_draw_with_other_hyper_parameters_is_noticed(tmp_path, capsys):
    for seed in range(3):
        for copy in range(2):
            write_run(
                tmp_path / f"{seed}{copy}", args={"hparams_seed": seed}, hparams={"lr": 2 * seed + copy}
            )
    assert collect("--input_dir", tmp_path) == 0
    out = capsys.readouterr().out
    assert "ERM: runs of one hparams_seed and trial have different hyper-parameters (lr)" in out


def test_settings_that_code_set_are_rows_too(tmp_path, capsys):
    settings_of_sam(tmp_path, lambda rho: ({}, {"hparams": {"rho": rho}}))
    assert collect("--input_dir", tmp_path) == 0
    assert rows_in(capsys.readouterr().out) == ["ERM", "SAM, rho 0.05", "SAM, rho 0.1", "SAM, rho 0.2"]


# --- cells without a number ---------------------------------------------------------------------------------


def test_a_validation_part_of_one_class_is_the_reason_of_an_x(tmp_path, capsys):
    said = "only fakes among 3 samples: both classes are needed"
    for env in range(3):
        more = {"env1_out_auc": None, "why_null": {"env1_out_auc": said}}
        write_run(tmp_path / str(env), args={"test_envs": [env]}, **more)
    assert collect("--input_dir", tmp_path, "--metric", "auc", "--select", "iid") == 0
    out = capsys.readouterr().out
    assert f"No number for ERM, 0; ERM, 2: there is no validation AUC of 1 (env1_out_auc: {said}) X" in prose(
        out
    )
    assert "X under Avg: a cell of the row has no number\n" in out
    assert collect("--input_dir", tmp_path, "--metric", "auc", "--select", "iid", "--format", "csv") == 0
    import csv

    cells = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert all(bool(cell["mean"]) != bool(cell["reason"]) for cell in cells)


def test_a_test_part_of_one_class_is_too_and_a_trial_that_lacks_a_number(tmp_path, capsys):
    for trial in range(2):
        more = {"env0_in_auc": None, "why_null": {"env0_in_auc": "only reals"}} if trial else {}
        write_run(tmp_path / str(trial), args={"trial_seed": trial}, **more)
    assert collect("--input_dir", tmp_path, "--metric", "auc", "--select", "iid") == 0
    out = capsys.readouterr().out
    assert "50.0*" in out
    assert "No number for ERM, 0 (trial 1): there is no test AUC (env0_in_auc: only reals)\n" in out


def table_rows(out, *, beginning):
    """The cells of each row of the tables whose title begins so, a list for each table."""
    blocks = [block for block in out.split("\n-------- ")[1:] if block.startswith(beginning)]
    rows = [
        [re.split(r" {2,}", line.strip()) for line in block.split("\n\n")[0].splitlines()] for block in blocks
    ]
    return [[row for row in own[1:] if len(row) == len(own[1])] for own in rows]


def test_single_source_sweeps_have_numbers(tmp_path, capsys):
    """By test environment, 2 is tested by the runs that train on 0 and on 1: (0.2 + 0.6) / 2."""
    for source, value in ((0, 0.2), (1, 0.6), (2, 0.4)):
        others = [env for env in range(3) if env != source]
        values = {f"env{env}_in_acc": value for env in others}
        write_run(tmp_path / str(source), args={"test_envs": others}, **values)
    flags = ["--input_dir", tmp_path, "--select", "iid", "--by", "test_envs"]
    assert collect(*flags) == 0
    out = capsys.readouterr().out
    (table,) = table_rows(out, beginning="Dataset")
    assert table == [["Algorithm", "0", "1", "2", "Avg"], ["ERM", "50.0", "30.0", "40.0", "40.0"]]
    assert (
        "a number is the mean over the runs that hold the environment out together with others (0 + 1, 0 + 2, 1 + 2)"
        in prose(out)
    )
    (tmp_path / "2" / "results.jsonl").unlink()
    write_run(
        tmp_path / "sam", args={"algorithm": "SAM", "test_envs": [0, 2]}, env0_in_acc=0.5, env2_in_acc=0.5
    )
    assert collect(*flags) == 0
    out = capsys.readouterr().out
    (table,) = table_rows(out, beginning="Dataset")
    assert table[2] == ["SAM", "50.0", "X", "X", "X"]
    assert "  SAM, 1: no run\n  SAM, 2: trial 0 has 1 of 2 runs\n" in out


def test_records_without_auc_say_what_they_have(vlcs, capsys):
    assert collect("--input_dir", vlcs, "--metric", "auc") == 2
    err = capsys.readouterr().err
    assert "the records have no AUC (auc): they have acc." in err
    assert "did you mean" not in err


@pytest.mark.parametrize("layout", ["text", "markdown", "latex"])
def test_a_table_without_a_number_is_a_sentence(tmp_path, capsys, layout):
    for env in range(3):
        write_run(tmp_path / str(env), args={"test_envs": [env]})
    assert collect("--input_dir", tmp_path, "--select", "iid", "loo", "--format", layout) == 0
    out = capsys.readouterr().out
    assert " X " not in out
    assert (
        "Debug28, leave-one-domain-out cross-validation: no table, because no run holds out a pair of"
        in prose(out)
    )
    assert out.count("veraging") + out.count("verages") == 1, "of the rule that has numbers"


# --- what is not written as it should be ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["text", "csv", "json", "parquet", "latex", "markdown"])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path, capsys, layout):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--format", layout, "--output", "/dev/full") == 1
    assert "Not saved to /dev/full: No space left on device." in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


def test_a_device_is_written_to_and_stays_one(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert collect("--input_dir", tmp_path, "--output", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    assert collect("--input_dir", tmp_path, "--output", tmp_path / "pipe") == 1, "nobody reads it"


def test_a_closed_standard_output_is_a_sentence(vlcs):
    command = f"'{sys.executable}' -m roga_domainbed collect-results --input_dir '{vlcs}' >&-"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "standard output is closed" in done.stderr


NAMES = (
    "=1+1",
    "-2",
    "@x",
    "\x1b[31mred",
    "a\nb",
    "$x_1$ & 50 % \\ {y} #",
    "<b>|*_`[z](u)",
    "\u202ereversed",
    "ρ",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_only_names_in_every_format(tmp_path, capsys, name):
    import csv

    write_run(tmp_path / "a", args={"algorithm": name, "dataset": name})
    for layout in ("text", "markdown", "latex", "csv", "json", "parquet"):
        assert collect("--input_dir", tmp_path, "--select", "iid", "--format", layout) == 0
        out = capsys.readouterr().out
        if layout != "csv" and layout != "json":
            assert not re.search("[\x1b\u202e]", out), layout
        if layout == "csv":
            cells = [cell for row in csv.reader(io.StringIO(out)) for cell in row]
            assert not any(
                cell.startswith(("=", "-", "@", "+", "\t", "\r")) for cell in cells if not is_float(cell)
            )
        if layout == "text":
            lines = out.splitlines()
            assert len([line for line in lines if not line.startswith("  number in every")]) == 11
            assert all(len(line) <= 80 for line in lines if "no table" in line), "prose fits a terminal"
    assert json.loads((tmp_path / "results.json").read_text())["cells"][0]["algorithm"] == name


def is_float(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_settings_of_equal_values_and_other_names_differ(tmp_path, capsys):
    for place, name in enumerate(("compile", "strict_mode")):
        write_run(tmp_path / str(place), args={name: True})
    assert collect("--input_dir", tmp_path, "--select", "iid") == 0
    assert rows_in(capsys.readouterr().out) == ["ERM, compile true", "ERM, strict_mode true"]
