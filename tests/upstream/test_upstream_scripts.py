"""Upstream's own scripts with the plugin in them, and that nothing of theirs changes by it."""

import json
import os
import re
import subprocess
import sys

import pytest

from roga_domainbed.catalog import ALGORITHMS

pytestmark = pytest.mark.upstream

SMALL = '{"batch_size": 8}'


UNIT_TESTS = """
import json, sys, unittest
{prepare}

class Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.seen = []

    def stopTest(self, test):
        bad = [kind for kind in ("failures", "errors", "skipped") for other, _ in getattr(self, kind) if other is test]
        self.seen.append([test.id(), bad or ["ok"]])

names = "lib.test_misc lib.test_query test_model_selection test_hparams_registry scripts.test_collect_results"
names = [f"domainbed.test.{{name}}" for name in (names + " scripts.test_sweep").split()]
result = Result()
unittest.defaultTestLoader.loadTestsFromNames(names).run(result)
json.dump(result.seen, open({path!r}, "w"))
"""


def upstreams_unit_tests(home, path, prepare):
    code = UNIT_TESTS.format(prepare=prepare, path=str(path))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, check=True, capture_output=True)
    # A parameterized test carries its position in a list that the plugin makes longer.
    return {(re.sub(r"_\d+_", "_", name), *outcome) for name, outcome in json.loads(path.read_text())}


def test_upstreams_unit_tests_end_the_same_with_the_plugin(home, tmp_path):
    plain = upstreams_unit_tests(home, tmp_path / "plain.json", "")
    plugged = upstreams_unit_tests(
        home, tmp_path / "plugged.json", "from roga_domainbed.upstream import bridge; bridge.register()"
    )
    assert plain <= plugged
    ours = plugged - plain
    assert {outcome for _, outcome in ours} <= {"ok"}
    added = "|".join(info.name for info in ALGORITHMS if info.plugin)
    assert all(re.search(f"_({added})$", name) for name, _ in ours)
    assert sum(outcome == "ok" for _, outcome in plain) > 30


def sweep_of(faces, out):
    flags = "--datasets SynthFake --n_hparams 1 --n_trials 1 --steps 2 --single_test_envs --skip_confirmation"
    return [*flags.split(), "--data_dir", faces, "--output_dir", out]


@pytest.mark.parametrize("launcher", ["local", "roga_local"])
def test_a_stock_sweep_trains_both_kinds_of_algorithms_and_stock_tables_show_them(
    launcher, faces, run_cli, tmp_path
):
    names = ["ERM", "CORAL", "RoGA"] if launcher == "roga_local" else ["RoGA"]
    arguments = [*sweep_of(faces, tmp_path / "out"), "--algorithms", *names, "--command_launcher", launcher]
    arguments += ["--hparams", SMALL]
    run_cli("upstream", "sweep", "launch", *arguments)
    folders = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert len(folders) == 4 * len(names)
    assert all((folder / "done").exists() for folder in folders)
    table = run_cli("upstream", "collect_results", "--input_dir", tmp_path / "out").stdout
    rows = [line.split()[0] for line in table.splitlines() if line and line.split()[0] in names]
    assert rows[: len(names)] == names
    assert f"Total records: {8 * len(names)}" in table


def test_the_dummy_launcher_prints_commands_that_re_enter_with_the_plugin(faces, run_cli, tmp_path):
    arguments = [*sweep_of(faces, tmp_path / "out"), "--algorithms", "RoGA", "--command_launcher", "dummy"]
    done = run_cli("upstream", "sweep", "launch", *arguments)
    commands = re.findall(r"Dummy launcher: (.*)", done.stdout)
    assert len(commands) == 4
    assert all(" -m roga_domainbed upstream train --algorithm RoGA " in command for command in commands)
    subprocess.run(commands[0], shell=True, check=True, capture_output=True)
    folder = re.search(r"--output_dir (\S+)", commands[0])[1]
    assert os.path.exists(os.path.join(folder, "done"))


def stock_train(run_cli, faces, folder, *arguments):
    run_cli(
        *("upstream", "train", "--data_dir", faces, "--dataset", "SynthFake", "--test_envs", 1, "--steps", 1),
        *("--hparams", SMALL, "--skip_model_save", "--output_dir", folder, *arguments),
    )


@pytest.mark.parametrize(("flags", "mode"), [((), "official"), (("--split", "group"), "group")])
def test_stock_train_is_given_the_manifests_split_the_official_one_by_default(
    flags, mode, faces, run_cli, records_of, tmp_path
):
    """``epoch`` is step / min(in-split) · batch size: 1 at the end of a step counted by hand from the split."""
    stock_train(run_cli, faces, tmp_path / "run", "--steps", 2, "--trial_seed", 3, *flags)
    (first, last) = records_of(tmp_path / "run")
    assert first["hparams"]["split"] == mode

    from datasets_ext import manifest, splits

    rows = manifest.read(faces / "SynthFake")
    names = ["DF", "F2F", "FS", "NT"]
    environments = [rows[rows["env"] == name].reset_index(drop=True) for name in names]
    pairs = splits.split_indices(mode, environments, names, 3, 0.2, [1])
    smallest = min(len(in_split) for in_split, _ in pairs)
    assert last["epoch"] == 1 / (smallest / 8)


def test_stock_train_is_refused_what_leaks(faces, run_cli, tmp_path):
    arguments = ("--data_dir", faces, "--dataset", "SynthFake", "--test_envs", 1, "--split", "frame")
    done = run_cli("upstream", "train", *arguments, "--output_dir", tmp_path / "run", code=2)
    assert "training and test share" in done.stderr
    assert "--allow-leakage trains all the same" in done.stderr
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_stock_train_is_given_what_is_trained_on(faces, run_cli, records_of, tmp_path):
    """8 people train, in each of three environments: 3, 3 and 2 of them, whose 2 fakes leave 1 real; 2 frames each."""
    smaller = json.dumps({**json.loads(SMALL), "batch_size": 4})
    flags = ("--reals", "partitioned", "--balance", "1:2", "--steps", 2, "--hparams", smaller)
    stock_train(run_cli, faces, tmp_path / "run", *flags)
    (first, last) = records_of(tmp_path / "run")
    assert (first["hparams"]["reals"], first["hparams"]["balance"]) == ("partitioned", "1:2")
    assert last["epoch"] == 1 / (2 * (2 + 1) / 4)


def test_stock_train_is_given_a_share_of_the_training_part(faces, run_cli, records_of, tmp_path):
    """8 people train, a real and a fake of each: an eighth is one of each, two frames each."""
    smaller = json.dumps({**json.loads(SMALL), "batch_size": 4})
    flags = ("--train_fraction", 0.125, "--label_noise", 0, "--steps", 2, "--hparams", smaller)
    stock_train(run_cli, faces, tmp_path / "run", *flags)
    (first, last) = records_of(tmp_path / "run")
    assert first["hparams"]["train_fraction"] == 0.125
    assert "label_noise" not in first["hparams"], "the default makes no other job"
    assert last["epoch"] == 1 / (2 * (1 + 1) / 4), (
        "the smallest part; without the flag, 8 frames of a test part"
    )


def test_stock_datasets_have_label_noise_and_true_labels_where_they_are_tested(run_cli, records_of, tmp_path):
    """A network that does not learn has one accuracy on one label: only that of noisy parts may change."""
    accuracies = []
    for name, flags in (("true", ()), ("noisy", ("--label_noise", 1))):
        run_cli(
            *(
                "upstream",
                "train",
                "--data_dir",
                tmp_path,
                "--dataset",
                "Debug28",
                "--test_envs",
                1,
                "--steps",
                1,
            ),
            *(
                "--hparams",
                '{"batch_size": 8, "lr": 0}',
                "--skip_model_save",
                "--output_dir",
                tmp_path / name,
                *flags,
            ),
        )
        (record,) = records_of(tmp_path / name)
        accuracies.append({key: value for key, value in record.items() if key.endswith("_acc")})
    assert record["hparams"]["label_noise"] == 1
    changed = {key for key in accuracies[0] if accuracies[0][key] != accuracies[1][key]}
    assert changed
    assert not changed & {"env1_in_acc", "env1_out_acc"}


def test_frame_split_is_stock_behaviour_exactly(faces, run_cli, records_of, tmp_path, home):
    """The same numbers as from the script that knows no manifest, on our dataset class put in by hand."""
    stock_train(run_cli, faces, tmp_path / "ours", "--steps", 3, "--split", "frame", "--allow-leakage")
    hparams = records_of(tmp_path / "ours")[0]["hparams"]
    assert (hparams.pop("split"), hparams.pop("allow_leakage")) == ("frame", True)
    code = """
import runpy, sys
from roga_domainbed.host.backend import host
import datasets_ext.synthfake.dataset, roga_domainbed.networks.meso4
h = host()
h.datasets.SynthFake = datasets_ext.synthfake.dataset.SynthFake
h.networks.Featurizer = roga_domainbed.networks.meso4.Meso4
runpy.run_module("domainbed.scripts.train", run_name="__main__", alter_sys=True)
"""
    command = [
        sys.executable,
        "-c",
        code,
        "--data_dir",
        str(faces),
        "--dataset",
        "SynthFake",
        "--test_envs",
        "1",
    ]
    command += ["--steps", "3", "--skip_model_save", "--output_dir", str(tmp_path / "stock")]
    command += ["--hparams", json.dumps(hparams)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    ours, stock = (records_of(tmp_path / name) for name in ("ours", "stock"))
    assert len(ours) == 2
    for a, b in zip(ours, stock, strict=True):
        for key in a:
            if key not in ("args", "hparams", "step_time"):
                assert a[key] == b[key], key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown script 'trian' (did you mean 'train'?)"),
        (["train", "--split"], "--split needs a value: official, group, frame"),
        (["train", "--split", "grop"], "unknown split 'grop' (did you mean 'group'?)"),
        (["train", "--reals", "partition"], "'partition' (did you mean 'partitioned'?)"),
        (["train", "--balance", "1/4"], "--balance must be the ratio of real to fake videos"),
        (["train", "--label_noise"], "--label_noise needs a value: a share such as 0.4"),
        (
            ["train", "--label_noise", "2", "--dataset", "PACS"],
            "--label_noise must be a finite number, at least 0",
        ),
        (
            ["train", "--hparams", '{"train_fraction": "half"}'],
            "--train_fraction must be a finite number, above 0",
        ),
        (["train", "--strict", "--dataset", "PACS"], "--strict needs a manifest, which PACS does not have"),
        (
            ["train", "--hparams", '{"allow_leakage": "yes"}'],
            "'allow_leakage' must be true or false; got 'yes'",
        ),
        (["train", "--split", "group", "--dataset", "PACS"], "needs a manifest, which PACS does not have"),
        (["train", "--dataset", "SynthFaek"], "unknown dataset 'SynthFaek' (did you mean 'SynthFake'?)"),
        (["train", "--algorithm", "Roga"], "unknown algorithm 'Roga' (did you mean 'RoGA'?)"),
        (["train", "--hparams", '{"lr_schedule": "cosine"}'], "'lr_schedule' is for 'roga-domainbed train'"),
        (["train", "--hparams", '{"lr_decay": 0.5}'], "'lr_decay' is for 'roga-domainbed train'"),
        (["train", "--hparams", '{"averaging": "ema"}'], "'averaging' is for 'roga-domainbed train'"),
        (
            ["sweep", "launch", "--algorithms", "RoGA", "MLDG", "--hparams", '{"optimizer": "sgd"}'],
            "error: MLDG: hparam 'optimizer' 'sgd' would change nothing: on the DomainBed checkout ",
        ),
        (["train", "--hparams", "{", "--split", "group"], "--hparams is not valid JSON"),
        (
            ["sweep", "launch", "--algorithms", "SAM", "ERM", "--hparams", '{"optimizer": "sgdd"}'],
            "hparam 'optimizer' must be one of 'adam', 'adamw', 'sgd'; got 'sgdd'",
        ),
    ],
)
def test_a_wrong_argument_is_named_in_a_line(arguments, message, run_cli):
    done = run_cli("upstream", *arguments, code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_split_smaller_than_the_minibatch_is_refused_where_upstream_would_hang(run_cli, tmp_path):
    done = run_cli(
        "upstream", "train", "--dataset", "Debug28", "--output_dir", tmp_path / "run", code=2, timeout=120
    )
    assert "cannot give minibatches of 64" in done.stderr
