"""Whole runs on 16 random images an environment: records, files, reproducibility, refusals."""

import contextlib
import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from small_runs import records_of, use_small_images

from roga_domainbed import catalog
from roga_domainbed.engine.datasets import Debug28
from roga_domainbed.errors import RogaError
from roga_domainbed.files import locked
from roga_domainbed.trainer import profile
from roga_domainbed.trainer import run as running
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

SMALL = {
    "dataset": "Debug28",
    "hparams": '{"batch_size": 8, "backbone": "meso4"}',
    "steps": 5,
    "checkpoint_freq": 2,
    "n_workers": 0,
}
UPSTREAMS_OWN = "UpstreamsOwn"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


@pytest.fixture
def upstreams_own():
    """An algorithm that the catalog knows and only a checkout has."""
    with catalog.ALGORITHMS.temporarily(catalog.AlgorithmInfo(UPSTREAMS_OWN)):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run with ``SMALL``; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as context:
        use_small_images(context)
        run(folder, save_model_every_checkpoint=True)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "run")


# The keys of a record that upstream's trainer writes for ERM on three environments.
UPSTREAM_KEYS = {
    "args", "env0_in_acc", "env0_out_acc", "env1_in_acc", "env1_out_acc", "env2_in_acc", "env2_out_acc",
    "epoch", "hparams", "loss", "mem_gb", "step", "step_time",
}  # fmt: skip


def run(folder, **kwargs):
    train(TrainConfig(output_dir=str(folder), **{**SMALL, **kwargs}))
    return records_of(folder)


def numbers(records):
    """Everything but clocks and paths."""
    skipped = ("step_time", "data_time", "args", "provenance")
    return [{key: value for key, value in record.items() if key not in skipped} for record in records]


def test_records_have_upstreams_keys_steps_and_epochs(finished):
    records = records_of(finished)
    assert [record["step"] for record in records] == [0, 2, 4]
    # 16 images, 3 held out: 13/8 steps an epoch
    assert [record["epoch"] for record in records] == [0.0, 2 * 8 / 13, 4 * 8 / 13]
    assert all(record.keys() >= UPSTREAM_KEYS for record in records)
    assert records[0]["args"] == {
        **TrainConfig(**SMALL).record_args(),
        "save_model_every_checkpoint": True,
        "output_dir": str(finished),
    }
    assert records[0]["provenance"]["backend"] in ("engine", "upstream")
    assert records[0]["provenance"]["split"] == "frame"


def test_binary_tasks_carry_auc_ap_and_eer_with_a_reason_where_there_is_none(finished):
    for record in records_of(finished):
        for env in range(3):
            for part, n in (("in", 13), ("out", 3)):
                assert record[f"env{env}_{part}_n"] == n
                for metric in ("auc", "ap", "eer"):
                    key = f"env{env}_{part}_{metric}"
                    if record[key] is None:
                        assert "both classes are needed" in record["why_null"][key]
                    else:
                        assert 0 <= record[key] <= 1


def test_files_of_a_finished_run(finished):
    folder = finished
    assert {path.name for path in folder.iterdir()} == {
        "results.jsonl", "scores.parquet", "out.txt", "err.txt", "model.pkl", "done", "train.lock",
        "model_step0.pkl", "model_step2.pkl", "model_step4.pkl",
    }  # fmt: skip
    assert (folder / "done").read_bytes() == b"done"
    assert "HParams:" in (folder / "out.txt").read_text()
    model = torch.load(folder / "model.pkl", weights_only=True)
    assert set(model) == {
        "args", "model_input_shape", "model_num_classes", "model_num_domains", "model_hparams", "model_dict",
        "model_class_names",
        "model_image_kind",
    }  # fmt: skip
    assert model["model_input_shape"] == (3, 32, 32)
    assert model["model_num_domains"] == 2


def test_random_hparams_leave_a_model_that_loads_without_running_code(tmp_path, monkeypatch):
    monkeypatch.undo()  # 28 pixels, for the default network
    run(tmp_path / "run", hparams_seed=3, hparams='{"batch_size": 4}', steps=1)
    torch.load(tmp_path / "run" / "model.pkl", weights_only=True)


def model_of(folder):
    return torch.load(folder / "model.pkl", weights_only=True)["model_dict"]


@pytest.mark.parametrize("algorithm", ["ERM", "RoGA"])
def test_the_same_seed_gives_the_same_numbers_and_weights_and_another_does_not(tmp_path, algorithm, finished):
    a, b = finished if algorithm == "ERM" else tmp_path / "a", tmp_path / "b"
    first = records_of(a) if algorithm == "ERM" else run(a, algorithm=algorithm)
    assert numbers(first) == numbers(run(b, algorithm=algorithm))
    assert all(torch.equal(value, model_of(b)[key]) for key, value in model_of(a).items())
    assert numbers(first) != numbers(run(tmp_path / "c", algorithm=algorithm, seed=1))


def test_loader_processes_change_no_number(tmp_path, finished):
    assert numbers(records_of(finished)) == numbers(run(tmp_path / "b", n_workers=2))


def test_an_environment_smaller_than_its_batch_trains_and_is_named_once(tmp_path, capsys):
    # batch 64 of 13 images: upstream hangs here
    records = run(tmp_path / "run", hparams='{"batch_size": 64, "backbone": "meso4"}', steps=2)
    assert records[-1]["step"] == 1
    notices = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Notice")]
    assert notices == [
        f"Notice: environment {i} has 13 samples for a minibatch of 64: samples repeat within a minibatch."
        for i in (1, 2)
    ]


def test_records_of_roga_carry_its_step_values(tmp_path):
    first, *others = run(tmp_path / "run", algorithm="RoGA")
    for record in (first, *others):
        assert {"loss", "perturbed_loss", "grad_norm", "alpha_ratio_0", "alpha_ratio_1"} <= set(record)
    assert -1 <= first["cosine"] <= 1, "measured every tenth step, the first one included"


def test_class_balanced_training_runs(tmp_path):
    assert (
        len(run(tmp_path / "run", hparams='{"batch_size": 8, "backbone": "meso4", "class_balanced": true}'))
        == 3
    )


def test_domain_adaptation_hands_over_unlabelled_images_of_the_test_environment(tmp_path, monkeypatch):
    from roga_domainbed.engine.algorithms import ERM

    seen = []
    original = ERM.update

    def spy(self, minibatches, unlabeled=None):
        seen.append(unlabeled)
        return original(self, minibatches, unlabeled)

    monkeypatch.setattr(ERM, "update", spy)
    records = run(tmp_path / "run", task="domain_adaptation", uda_holdout_fraction=0.5, test_envs=[1])
    assert all(len(unlabeled) == 1 and unlabeled[0].shape == (8, 3, 32, 32) for unlabeled in seen)
    assert "env1_uda_acc" in records[0], "named by the environment, not by its position"
    assert records[0]["env1_uda_n"] + records[0]["env1_in_n"] == 13


def test_a_run_that_exists_is_not_overwritten_unless_asked(copied):
    folder = copied
    before = (folder / "results.jsonl").read_bytes()
    with pytest.raises(RogaError, match="holds a finished run; choose another, or pass --overwrite"):
        run(folder)
    assert (folder / "results.jsonl").read_bytes() == before
    assert len(run(folder, overwrite=True)) == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hparams": '{"learning_rate": 1}'}, r"unknown hparam 'learning_rate'"),
        ({"algorithm": "RoGA", "hparams": '{"rhoo": 1}'}, r"unknown hparam 'rhoo' \(did you mean 'rho'\?\)"),
        ({"hparams": '{"lr": "high"}'}, "hparam 'lr' must be a finite number, above 0; got 'high'"),
        (
            {"algorithm": "RoGA", "hparams": '{"roga_terms": "all"}'},
            "hparam 'roga_terms' must be one of 'both', 'perturb', 'align'; got 'all'",
        ),
        ({"algorithm": UPSTREAMS_OWN}, "algorithm 'UpstreamsOwn' is DomainBed's own: set DOMAINBED_HOME"),
        ({"split": "official"}, "--split official needs a manifest, which Debug28 does not have"),
        ({"holdout_fraction": 0.01}, r"the out-split of environment 0 is empty"),
    ],
)
def test_faults_that_need_the_classes_are_named_before_training(tmp_path, kwargs, message, upstreams_own):
    with pytest.raises(RogaError, match=message):
        run(tmp_path / "run", **kwargs)
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_a_loss_that_is_not_finite_stops_the_run_without_a_done_marker(tmp_path):
    with pytest.raises(RogaError, match=r"step \d: .* is (nan|inf)"):
        run(tmp_path / "run", hparams='{"batch_size": 8, "backbone": "meso4", "lr": 1e30}')
    assert not (tmp_path / "run" / "done").exists()


def test_an_output_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RogaError, match=r"--output_dir .* cannot be written"):
        run(tmp_path / "file" / "run")


def test_a_dataset_with_fewer_environments_than_names_is_refused(tmp_path, monkeypatch):
    original = Debug28.__init__

    def without_the_last(self, *args):
        original(self, *args)
        self.datasets.pop()

    monkeypatch.setattr(Debug28, "__init__", without_the_last)
    with pytest.raises(RogaError, match="Debug28 has 2 environments on disk and 3 names: 0, 1, 2"):
        run(tmp_path / "run")


def test_every_dataset_of_the_catalog_says_its_environments():
    for info in catalog.DATASETS:
        assert len(info.environments) == len(set(info.environments)) >= 3


def test_an_earlier_run_survives_a_replacement_that_cannot_start(copied, upstreams_own):
    folder = copied
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RogaError, match="is DomainBed's own"):
        run(folder, overwrite=True, algorithm=UPSTREAMS_OWN)
    with pytest.raises(RogaError, match="out-split of environment 0 is empty"):
        run(folder, overwrite=True, holdout_fraction=0.01)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_stays_as_it_is(overwrite, tmp_path, monkeypatch):
    for name in ("out.txt", "model-best.pkl", "movie.mkv.part", "scores.parquet", "results.jsonl", "done"):
        (tmp_path / name).write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    for folder, message in ((".", "holds other files and no run"), ("", "must be a path, not empty")):
        with pytest.raises(RogaError, match=message):
            train(TrainConfig(output_dir=folder, overwrite=overwrite, **SMALL))
    assert contents(tmp_path) == before


def test_a_replacement_removes_the_files_of_the_run_alone(copied):
    (copied / "model-best.pkl").write_text("mine")
    (copied / "movie.mkv.part").write_text("mine")
    run(copied, overwrite=True, skip_model_save=True, steps=1)
    assert (copied / "model-best.pkl").read_text() == (copied / "movie.mkv.part").read_text() == "mine"
    assert not (copied / "model.pkl").exists()


def test_the_second_of_two_equal_commands_leaves_the_run_that_the_first_finished(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "run"

    @contextlib.contextmanager
    def locked_when_the_first_has_finished(path):
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        with locked(path):
            yield

    monkeypatch.setattr(running, "locked", locked_when_the_first_has_finished)
    with pytest.raises(RogaError, match="holds a finished run"):
        run(folder)
    assert contents(folder) == contents(finished)


def test_a_replacement_leaves_nothing_of_the_earlier_run(copied):
    folder = copied
    run(folder, overwrite=True, skip_model_save=True, steps=1)
    assert {path.name for path in folder.iterdir()} == {
        "results.jsonl", "scores.parquet", "out.txt", "err.txt", "done", "train.lock",
    }  # fmt: skip


def test_err_txt_says_why_a_run_stopped(tmp_path):
    with pytest.raises(RogaError):
        run(tmp_path / "run", hparams='{"batch_size": 8, "backbone": "meso4", "lr": 1e30}')
    assert (tmp_path / "run" / "err.txt").read_text().startswith("error: step ")


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ('{"lr": -1}', "hparam 'lr' must be a finite number, above 0; got -1"),
        ('{"lr": NaN}', "hparam 'lr' must be a finite number, above 0; got nan"),
        (
            '{"batch_size": 0}',
            "hparam 'batch_size' must be a whole number, at least 1 and at most 65,536; got 0",
        ),
        (
            '{"batch_size": 16.5}',
            "hparam 'batch_size' must be a whole number, at least 1 and at most 65,536; got 16.5",
        ),
        (
            '{"resnet_dropout": 2}',
            "hparam 'resnet_dropout' must be a finite number, at least 0 and below 1; got 2",
        ),
        ('{"weight_decay": -0.1}', "hparam 'weight_decay' must be a finite number, at least 0; got -0.1"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, hparams, message):
    with pytest.raises(RogaError, match=message):
        run(tmp_path / "run", hparams=hparams)
    assert not (tmp_path / "run").exists()


def test_partial_evaluation_takes_fixed_samples_and_the_last_record_all(tmp_path):
    records = run(tmp_path / "run", eval_max_per_env=4)
    assert [record["env1_in_n"] for record in records] == [4, 4, 13]
    assert [record["env1_out_n"] for record in records] == [3, 3, 3]


def test_needed_parts_leave_out_what_is_trained_on_until_the_last_record(tmp_path):
    first, _, last = run(tmp_path / "run", eval_parts="needed")
    assert {"env0_in_acc", "env0_out_acc", "env1_out_acc"} <= first.keys()
    assert "env1_in_acc" not in first
    assert "env1_in_acc" in last


def test_eval_every_sets_the_records(tmp_path):
    records = run(tmp_path / "run", eval_every=3)
    assert [record["step"] for record in records] == [0, 3, 4]
    assert records[0]["args"]["eval_every"] == 3


def test_records_say_how_numbers_were_computed(finished):
    made_by = records_of(finished)[0]["provenance"]
    assert made_by["input"] == {"path": "exact"}
    assert (made_by["precision"], made_by["compiled"]) == ("fp32", False)


def test_a_profile_is_a_table_of_ranges_and_a_trace(tmp_path, capsys):
    run(tmp_path / "run", algorithm="SAM", profile=True)
    table = capsys.readouterr().out.partition("range ")[2].partition("\nof 4 steps; peak memory")[0]
    ms = {line[:14].strip(): float(line.split()[-2]) for line in table.splitlines()[1:]}
    assert set(ms) == set(profile.RANGES) - {"checkpoint"}
    assert list(ms.values()) == sorted(ms.values(), reverse=True)
    assert ms["data"] + ms["update"] + ms["evaluation"] <= ms["step"]
    assert ms["first pass"] + ms["second pass"] + ms["optimizer step"] <= ms["update"]
    with gzip.open(tmp_path / "run" / profile.TRACE) as file:
        assert {event.get("name") for event in json.load(file)["traceEvents"]} >= set(ms)


def test_bf16_on_a_processor_trains_to_almost_the_same_loss(tmp_path):
    plain = run(tmp_path / "a", steps=1)[0]["loss"]
    half = run(tmp_path / "b", steps=1, precision="bf16")[0]["loss"]
    assert half != plain
    assert half == pytest.approx(plain, rel=0.02)


def test_time_left_is_measured_without_the_first_step(monkeypatch, capsys):
    from roga_domainbed.trainer import progress

    now = iter([100.0, 110.0, 130.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    table = progress.RecordTable(["a", "b", "c"], [0], n_steps=301)
    for step in (0, 100, 300):
        table.print({"step": step})
    # ten seconds for a hundred steps, so twenty for the two hundred that are left
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[3:]] == ["-", "0:20", "0:00"]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_standard_output_does_not_end_a_training(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "roga_domainbed", "train", "--dataset", "Debug28", "--steps", "5"]
    command += ["--output_dir", str(folder), "--n_workers", "0", "--checkpoint_freq", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        assert training.stdout.readline() == "Command:\n"
        training.stdout.close()  # as `| head -1` does
        err = training.stderr.read()
    assert training.returncode == 0
    assert "nothing more goes to standard output (Broken pipe); the work goes on" in err
    assert "Traceback" not in err
    assert (folder / "done").exists()
    assert [line[:7].strip() for line in (folder / "out.txt").read_text().splitlines()[-3:]] == [
        "0",
        "2",
        "4",
    ]
