"""Tables by training set: the numbers by hand, leave-one-out beside it, rules, formats, and the page."""

import csv
import io
import json
import re

import pytest

from roga_domainbed.cli import main


def write_run(
    folder, test_envs, test, algorithm="ERM", trial=0, validation=0.5, dataset="PACS", n_envs=4, step=0
):
    """A run as DomainBed's own script records it: no provenance, no counts, and ``test`` on what is held out."""
    args = {
        "dataset": dataset,
        "algorithm": algorithm,
        "test_envs": test_envs,
        "trial_seed": trial,
        "hparams_seed": 0,
    }
    values = {f"env{env}_{split}_acc": validation for env in range(n_envs) for split in ("in", "out")}
    values |= {f"env{env}_in_acc": value for env, value in test.items()}
    name = f"{algorithm}-{trial}-{'-'.join(map(str, test_envs))}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    with open(folder / name / "results.jsonl", "a") as file:
        file.write(json.dumps({"args": args, "step": step, **values}) + "\n")
    (folder / name / "done").write_text("done")


def write_single_source(folder, algorithms=("ERM", "RoGA"), trials=2):
    """Trained on ``source``, tested on ``env``: 50 + 10 source + env, 4 less in trial 0, 2 more for RoGA."""
    for algorithm in algorithms:
        for trial in range(trials):
            for source in range(4):
                test = {
                    env: (50 + 10 * source + env - 4 * (trial == 0) + 2 * (algorithm == "RoGA")) / 100
                    for env in range(4)
                }
                write_run(folder, [env for env in range(4) if env != source], test, algorithm, trial)
    return folder


def collect(capsys, folder, *flags):
    assert main(["collect-results", "--input_dir", str(folder), *flags]) == 0
    return capsys.readouterr().out


def tables_in(out):
    """Title → rows of cells."""
    found = {}
    for block in out.split("\n-------- ")[1:]:
        title, *lines = block.split("\n\n")[0].splitlines()
        rows = [re.split(r" {2,}", line.strip()) for line in lines]
        found[title.partition(", model selection")[0]] = [row for row in rows if len(row) == len(rows[0])]
    return found


def test_each_training_set_has_a_block_with_an_average(tmp_path, capsys):
    out = collect(capsys, write_single_source(tmp_path), "--select", "iid")
    tables = tables_in(out)
    assert list(tables) == [
        *(f"Dataset: PACS, trained on {name}" for name in "ACPS"),
        "Averages of PACS by training set",
    ]
    # Two trials 4 apart: their mean is 2 below the later one, with an error of 2 / √2.
    assert tables["Dataset: PACS, trained on C"] == [
        ["Algorithm", "A", "P", "S", "Avg"],
        ["ERM", "58.0 +/- 1.4", "60.0 +/- 1.4", "61.0 +/- 1.4", "59.7"],
        ["RoGA", "60.0 +/- 1.4", "62.0 +/- 1.4", "63.0 +/- 1.4", "61.7"],
    ]
    # The mean over the other environments: 2, 5/3, 4/3 and 1 above 48 + 10 source; over all of them 64.5.
    assert tables["Averages of PACS by training set"] == [
        ["Algorithm", *(f"trained on {name}" for name in "ACPS"), "Avg"],
        ["ERM", "50.0 +/- 1.4", "59.7 +/- 1.4", "69.3 +/- 1.4", "79.0 +/- 1.4", "64.5"],
        ["RoGA", "52.0 +/- 1.4", "61.7 +/- 1.4", "71.3 +/- 1.4", "81.0 +/- 1.4", "66.5"],
    ]
    assert " X " not in out
    assert "Missing" not in out


def test_leave_one_out_in_the_same_folder_has_a_table_of_its_own(tmp_path, capsys):
    """ERM alone, one trial: neither RoGA nor the other trial is missing there."""
    write_single_source(tmp_path)
    for env in range(4):
        write_run(tmp_path, [env], {env: 0.9 + env / 100})
    out = collect(capsys, tmp_path, "--select", "iid")
    tables = tables_in(out)
    assert tables.pop("Dataset: PACS") == [
        ["Algorithm", "A", "C", "P", "S", "Avg"],
        ["ERM", "90.0", "91.0", "92.0", "93.0", "91.5"],
    ]
    assert tables.pop("Averages") == [["Algorithm", "PACS", "Avg"], ["ERM", "91.5", "91.5"]]
    assert " X " not in out
    assert "*" not in out
    alone = tmp_path / "alone"
    alone.mkdir()
    assert tables == tables_in(collect(capsys, write_single_source(alone), "--select", "iid"))


def test_training_validation_chooses_the_step_within_a_training_set(tmp_path, capsys):
    for source, others in ((0, [1, 2]), (1, [0, 2])):
        for step, validation in ((0, 0.6 - source / 10), (1, 0.4 + source / 10), (2, 0.3)):
            test = dict.fromkeys(others, (10 * (1 + source) + step) / 100)
            shared = {"dataset": "Debug28", "n_envs": 3, "step": step}
            write_run(tmp_path, others, test, validation=validation, **shared)
    tables = tables_in(collect(capsys, tmp_path, "--select", "iid"))
    assert tables["Dataset: Debug28, trained on 0"][1] == ["ERM", "10.0", "10.0", "10.0"], "step 0 has 0.6"
    assert tables["Dataset: Debug28, trained on 1"][1] == ["ERM", "20.0", "20.0", "20.0"], (
        "of equals the first"
    )
    tables = tables_in(collect(capsys, tmp_path, "--select", "last"))
    assert tables["Dataset: Debug28, trained on 1"][1] == ["ERM", "22.0", "22.0", "22.0"]


def test_leave_one_domain_out_selection_is_one_sentence_for_all_training_sets(tmp_path, capsys):
    out = collect(capsys, write_single_source(tmp_path), "--select", "loo")
    (sentence,) = [line for line in out.split("\n\n") if "no table" in line]
    assert " ".join(sentence.split()) == (
        "PACS, trained on A; C; P; S, leave-one-domain-out cross-validation: no table, because this rule judges a run "
        "by others that hold out one environment more, and here all train on the same."
    )


def test_a_run_that_is_missing_in_one_training_set_is_missed_there_alone(tmp_path, capsys):
    write_single_source(tmp_path)
    (tmp_path / "RoGA-0-0-2-3" / "results.jsonl").unlink()
    (tmp_path / "RoGA-1-0-2-3" / "results.jsonl").unlink()
    tables = tables_in(collect(capsys, tmp_path, "--select", "iid"))
    assert tables["Dataset: PACS, trained on C"][2] == ["RoGA", "X", "X", "X", "X"]
    for name in "APS":
        assert "X" not in " ".join(tables[f"Dataset: PACS, trained on {name}"][2])


def test_the_comparison_is_over_all_training_sets(tmp_path, capsys):
    out = collect(capsys, write_single_source(tmp_path), "--select", "iid", "--compare", "ERM")
    title, _, row, *_ = out.split("\n-------- Compared with ERM")[1].splitlines()[0:4]
    assert title.startswith(" over training sets of PACS, metric: acc")
    row = next(line for line in out.splitlines() if line.startswith("RoGA") and "24/0/0" in line)
    assert row.split()[1] == "+2.0"


@pytest.mark.parametrize("layout", ["csv", "json"])
def test_data_formats_say_what_was_trained_on(tmp_path, capsys, layout):
    out = collect(capsys, write_single_source(tmp_path), "--select", "iid", "--format", layout)
    cells = list(csv.DictReader(io.StringIO(out))) if layout == "csv" else json.loads(out)["cells"]
    found = {(cell["dataset"], cell["trained_on"], cell["column"]): cell["mean"] for cell in cells}
    assert float(found["PACS", "C", "A"]) == pytest.approx(60.0)  # RoGA's come last
    assert float(found["PACS", "", "trained on C"]) == pytest.approx(60 + 5 / 3)


def test_upstreams_tables_do_not_know_of_it(tmp_path, capsys):
    out = collect(capsys, write_single_source(tmp_path), "--compat", "upstream")
    assert "trained on" not in out
    flags = ["--compat", "upstream", "--by", "train_envs"]
    assert main(["collect-results", "--input_dir", str(tmp_path), *flags]) == 2
    assert "upstream has no tables for --by: leave out --compat" in capsys.readouterr().err


def test_the_page_has_a_section_for_each_training_set_and_one_for_leave_one_out(tmp_path):
    write_single_source(tmp_path)
    for env in range(4):
        write_run(tmp_path, [env], {env: 0.9 + env / 100})
    page = tmp_path / "report.html"
    assert main(["report", "--input_dir", str(tmp_path), "--output", str(page)]) == 0
    text = page.read_text()
    heads = re.findall(r"<h2>(PACS[^<]*)</h2>", text)
    assert heads == ["PACS", *(f"PACS, trained on {name}" for name in "ACPS")]
    assert "<title>PACS: accuracy</title>" in text
    assert "Averages of PACS by training set" in text
    assert "PACS, trained on S: RoGA has the highest average accuracy, 81.0; ERM is second with 79.0." in text
    assert "PACS: ERM has an average accuracy of 91.5." in text
    assert "No runs are missing." in text
