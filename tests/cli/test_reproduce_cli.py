"""reproduce: what lacks is named at once, the rehearsal runs every row, the same command goes on."""

import os

import pytest

from datasets_ext import manifest
from datasets_ext.miniature import write_miniatures
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.cli import main, reproduce
from roga_domainbed.errors import Problems
from roga_domainbed.launch import LAUNCHERS, LauncherInfo, Outcome
from roga_domainbed.sweep.folder import stored_plans
from roga_domainbed.sweep.plan import Plan, load_preset

TABLE = """
datasets: [FFPP, FFPPSeen]
n_hparams: 1
n_trials: 3
steps: 500
test_envs: {FFPP: [0], FFPPSeen: [4, 5, 6, 7]}
split: official
hparams: {backbone: meso4, lr: 0.001}
rows:
  - {name: SAM, algorithm: SAM}
  - {name: RoGA, algorithm: RoGA, hparams: {rho: 0.1}}
paper:
  source: Someone 2024, Table 9
  note: They chose by test data.
  columns:
    - {name: GID-DF, dataset: FFPP, env: DF, metric: auc}
    - {name: NT, dataset: FFPPSeen, env: NT_test, metric: eer}
  rows:
    RoGA: [90.08, 12.5]
    DisGRL: [86.1, null]
"""


def launch_here(jobs, options):
    """A launcher: each job in this process, which has torch already."""
    for job in jobs:
        os.makedirs(job.output_dir, exist_ok=True)
        yield Outcome(job, main(list(job.argv)))


@pytest.fixture
def here():
    """The name of that launcher."""
    with LAUNCHERS.temporarily(LauncherInfo("here", f"{__name__}:launch_here", "")):
        yield "here"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TABLE)
    return str(path)


def test_the_rehearsal_runs_every_row_and_compares_it_and_the_same_command_goes_on(
    table, tmp_path, here, capsys
):
    out = tmp_path / "out"
    argv = ["reproduce", table, "--smoke", "--output_dir", str(out), "--command_launcher", here]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "4 jobs: 0 done, 0 incomplete, 4 not launched." in printed
    rehearsal = printed.index("A smoke run: its numbers mean nothing.")
    assert rehearsal < printed.index("Total records") < printed.index("Against Someone 2024, Table 9")
    assert "A smoke run: its numbers mean nothing. They chose by test data." in printed, (
        "in the table's notes, too"
    )
    lines = [line.split() for line in printed[printed.index("Against Someone") :].splitlines()]
    found = {(line[0], line[1]): line[2:] for line in lines if len(line) > 2}
    assert found["RoGA", "GID-DF"][0] == "90.08"
    assert float(found["RoGA", "NT"][1]) >= 0
    assert found["DisGRL", "GID-DF"] == ["86.10", "paper", "only"]
    assert ("SAM", "GID-DF") in found
    records = sorted(path.stat().st_mtime_ns for path in out.glob("*/results.jsonl"))
    assert main(argv) == 0
    assert "4 jobs: 4 done, 0 incomplete, 0 not launched." in capsys.readouterr().out
    assert sorted(path.stat().st_mtime_ns for path in out.glob("*/results.jsonl")) == records, (
        "nothing ran again"
    )
    # in the folder of a rehearsal no other sweep starts
    write_miniatures(tmp_path / "data", ["FFPP"])
    assert main(["reproduce", table, "--data_dir", str(tmp_path / "data"), "--output_dir", str(out)]) == 2
    assert "holds another sweep, or this one with other arguments" in capsys.readouterr().err


def test_all_data_and_weights_that_lack_are_named_at_once_with_what_makes_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("roga_domainbed.networks.pretrained._cached", lambda repository: None)
    data = tmp_path / "data"
    write_miniatures(data, ["UADFV"])
    out = tmp_path / "out"
    assert main(["reproduce", "table6", "--data_dir", str(data), "--output_dir", str(out)]) == 2
    error = capsys.readouterr().err
    assert "3 problems" in error
    for tree in ("FFPP", "CelebDF1"):
        assert (
            f"{str(data / tree)!r} has not been prepared: roga-domainbed prepare {tree.lower()} --source FOLDER "
            f"--data_dir {data}" in error
        )
    assert "UADFV" not in error
    assert "the weights of resnet34" in error
    assert "--weights resnet34=FILE" in error
    assert not out.exists()


def test_where_jobs_fail_the_others_are_compared_and_the_status_says_it(
    table, tmp_path, here, capsys, monkeypatch
):
    def one_fails(jobs, options):
        for job in jobs:
            os.makedirs(job.output_dir)
            yield Outcome(job, 1 if "FFPPSeen" in job.argv else main(list(job.argv)))

    monkeypatch.setitem(globals(), "launch_here", one_fails)
    argv = ["reproduce", table, "--smoke", "--output_dir", str(tmp_path / "out"), "--command_launcher", here]
    assert main(argv) == 1
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed[printed.index("Against Someone") :].splitlines()]
    found = {(line[0], line[1]): line[2:] for line in lines if len(line) > 2}
    assert found["RoGA", "NT"] == ["12.50", "no", "run"]
    assert len(found["RoGA", "GID-DF"]) > 3


def test_a_table_that_a_launch_refuses_leaves_its_folder_to_another(table, tmp_path, here, capsys):
    argv = ["reproduce", table, "--smoke", "--output_dir", str(tmp_path / "out"), "--command_launcher", here]
    (tmp_path / "mine.yaml").write_text(TABLE.replace("rho: 0.1", "rhoo: 0.1"))
    assert main(argv) == 2
    assert "RoGA: unknown hparam 'rhoo'" in capsys.readouterr().err
    assert stored_plans(tmp_path / "out") == []


def test_the_command_that_makes_a_tree_is_one_of_prepare(capsys):
    trees = {
        tree for name in ("FFPPCross", "FFPPSeenCross", "FFPPDownload") for tree in DATASETS.get(name).trees
    }
    for tree in sorted(trees):
        with pytest.raises(SystemExit) as ended:
            main(["prepare", tree.lower(), "--help"])
        assert ended.value.code == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["table7"], "unknown table 'table7'"),
        (["none.yaml", "--data_dir", "d"], "none.yaml: it names no datasets, or neither algorithms nor rows"),
        (["table2"], "--data_dir is required for FFPP"),
        (
            ["table2", "--data_dir", "d", "--weights", "resnet34"],
            "--weights must be BACKBONE=FILE; got 'resnet34'",
        ),
        (["table2", "--data_dir", "d", "--weights", "resnet3=f"], "unknown backbone of this table 'resnet3'"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(argv, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.yaml").write_text("datasets: [FFPP]\n")
    assert main(["reproduce", *argv, "--output_dir", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_weights_reach_the_rows_that_have_the_backbone_and_no_other():
    problems = Problems()
    plan = Plan(**load_preset("table1_cross_dataset", problems))
    reproduce._give_weights(plan, ["resnet34=r.pth", "xception=x.pth"], problems)
    problems.check()
    found = {str(row): plan.hparams_of(row) for row in plan.rows}
    assert '"weights": "r.pth"' in found["RoGA"]
    assert '"weights": "x.pth"' in found["Xception"]
    assert '"weights": ""' in found["Meso4"]


@pytest.mark.parametrize("name", ["FFPPCross", "FFPPSeenCross", "DeepfakeDatasets"])
def test_miniatures_are_read_split_and_audited_like_the_prepared_trees(name, tmp_path):
    from datasets_ext.audit import audit

    info = DATASETS.get(name)
    write_miniatures(tmp_path, info.trees)
    held_out = [1] if name == "DeepfakeDatasets" else list(range(4, len(info.environments)))
    dataset = load(info.target)(tmp_path, held_out, {"data_augmentation": False, "image_size": 32})
    splits = dataset.split_indices("official", 0, 0.2, held_out)
    assert all(in_split and out_split for in_split, out_split in splits)
    assert audit(splits, dataset.environment_rows, held_out).leaks == ()
    assert set(manifest.read(tmp_path / info.trees[0])["dataset"]) == {info.trees[0]}


@pytest.mark.long
@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "table6"])
def test_every_table_has_a_rehearsal(name, tmp_path, capsys):
    assert main(["reproduce", name, "--smoke", "--output_dir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "A smoke run: its numbers mean nothing." in printed
    table = printed[printed.index("-------- Against arXiv:2505.20653") :]
    assert " no run" not in table
    assert " X " not in table
