"""Experiment trackers show what results.jsonl holds, resume with the run, and cannot harm it."""

import importlib.util
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import at_step, comparable, in_child, records_of, run, use_small_images

from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.files import locked
from roga_domainbed.launch.deletion import delete_unfinished
from roga_domainbed.launch.folders import other_files, run_folder_problem
from roga_domainbed.optim.collectives import PeerStopped
from roga_domainbed.trainer import run as run_of_trainer
from roga_domainbed.trainer import trackers
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.stop import StopSignals
from roga_domainbed.trainer.trackers import follow, tracking
from roga_domainbed.trainer.trackers.run_info import RunInfo
from roga_domainbed.trainer.trackers.scalars import scalars

NAMES = ["0", "1", "2"]  # Debug28's environments
STEPS = [0, 4, 8]  # of the records of a small run


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    use_small_images(monkeypatch)
    monkeypatch.chdir(tmp_path)  # where MLflow puts its database
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # whoever tests may have a key for W&B in theirs
    monkeypatch.setattr(tracking, "PATIENCE_S", 120.0)  # other tests may have the processors


def expected(folder):
    """(step, name) → value of all finite numbers in the records, by another way than ``scalars`` goes."""
    found = {}
    for record in records_of(folder):
        for key, value in record.items():
            if isinstance(value, (int, float)) and key != "step" and math.isfinite(value):
                words = key.split("_")
                if words[0].startswith("env"):
                    key = f"{'_'.join(words[2:])}/{NAMES[int(words[0][3:])]}/{words[1]}"
                found[record["step"], key] = value
    return found


def kill_and_resume(folder, monkeypatch, tracker):
    """Kill a run in step 5, whose record of step 4 is newer than its checkpoint of 3 steps; resume it."""
    with monkeypatch.context() as context:
        at_step(context, 5, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: run(folder, checkpoint_every=3, track=[tracker])) == -signal.SIGKILL
    assert [record["step"] for record in records_of(folder)] == STEPS[:2]
    with locked(folder / f"track_{tracker}.log", patience_s=120):  # its process sends what it has, and ends
        pass
    run(folder, checkpoint_every=3, track=[tracker])
    output = (folder / "out.txt").read_text()
    assert "Continued after 3 of 9 steps." in output
    assert "is off from here on" not in output


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks of POSIX")


# --- what is sent ------------------------------------------------------------------------------------------


def test_names_group_a_metric_by_environment_and_part():
    record = {
        "step": 300,
        "epoch": 1.5,
        "loss": 0.25,
        "env0_in_acc": 0.5,
        "env1_out_auc_video": 0.75,
        "plain_env1_uda_acc": 1,
        "env7_out_acc": 0.5,  # no name is known
        "env0_out_eer": None,
        "env1_in_loss": math.nan,
        "env1_out_loss": math.inf,
        "is_last": True,
        "args": {"steps": 3},
    }
    assert scalars(record, ["DF", "F2F"]) == {
        "epoch": 1.5,
        "loss": 0.25,
        "acc/DF/in": 0.5,
        "auc_video/F2F/out": 0.75,
        "plain_acc/F2F/uda": 1,
        "env7_out_acc": 0.5,
    }


class FakeExperiment:
    names = ["DF", "F2F", "FS", "NT"]
    hparams = {"lr": 0.001}

    def __init__(self, **kwargs):
        self.config = TrainConfig(dataset="SynthFake", **kwargs)


def test_a_jobs_group_is_its_sweep_and_its_name_leaves_out_the_hash_that_is_its_seed(tmp_path):
    job = FakeExperiment(algorithm="SAM", row="SAM, rho 0.1", test_envs=[1, 3], trial_seed=2, seed=987654)
    info = RunInfo.of(job, tmp_path / "sweep" / ("1f" * 16), "wandb")
    assert (info.group, info.name) == ("sweep", "SAM, rho 0.1, SynthFake, F2F+NT, trial 2")
    alone = FakeExperiment(algorithm="SAM", test_envs=[3], hparams_seed=5, seed=1, track=["wandb"])
    info = RunInfo.of(alone, tmp_path / "run", "wandb")
    assert (info.group, info.name) == (None, "SAM, SynthFake, NT, hparams 5, seed 1")
    flat = info.flat_config()
    assert (flat["dataset"], flat["hparams.lr"], flat["test_env_names"]) == ("SynthFake", 0.001, ["NT"])
    assert "track" not in flat


# --- the argument ------------------------------------------------------------------------------------------


def test_trackers_are_no_setting_of_a_run():
    assert TrainConfig(track=["wandb"]).record_args() == TrainConfig().record_args()


def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    argv = "train --dataset Debug28 --steps 0 --output_dir run --track tensorboard mlflow".split()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "--steps must be a whole number" in error  # all problems at once
    for name in ("tensorboard", "mlflow"):
        install = "pip install 'roga-domainbed[track]'"
        assert f"--track {name} needs the package '{name}': {install}" in error
    assert not Path("run").exists()


def test_an_unknown_tracker_is_refused_with_the_names_of_those_there_are(capsys):
    assert main("train --dataset Debug28 --output_dir run --track tensorbord".split()) == 2
    assert (
        "--track must be one of 'tensorboard', 'wandb', 'mlflow'; got ['tensorbord']"
        in capsys.readouterr().err
    )


def test_a_folder_of_the_package_s_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "wandb_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("wandb_of_nobody") is not None
    assert not trackers._is_installed("wandb_of_nobody")
    assert trackers._is_installed("json")


def test_no_training_imports_a_tracker(monkeypatch):
    script = "import sys, roga_domainbed.trainer.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "roga_domainbed.trainer.trackers.tracking" in modules
    assert not {"tensorboard", "wandb", "mlflow"} & set(modules)


# --- the trackers, read back with their own readers --------------------------------------------------------


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return reader, [
        ((event.step, tag), event.value) for tag in reader.Tags()["scalars"] for event in reader.Scalars(tag)
    ]


def as_float32(values):  # which is what TensorBoard keeps
    return {key: struct.unpack("f", struct.pack("f", value))[0] for key, value in values.items()}


@needs_fork
def test_tensorboard_has_every_point_once_and_changes_no_number(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    run(tmp_path / "without")
    kill_and_resume(tmp_path / "run", monkeypatch, "tensorboard")
    reader, points = read_tensorboard(tmp_path / "run")
    assert len(points) == len(dict(points))
    assert dict(points) == as_float32(expected(tmp_path / "run"))
    assert {step for (step, tag), _ in points if tag == "loss"} == set(STEPS)
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = reader.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    given = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["algorithm"].string_value == "RoGA"
    assert given["hparams.batch_size"].number_value == 4
    assert comparable(tmp_path / "run") == comparable(tmp_path / "without")


@pytest.mark.slow
def test_tensorboard_gets_what_a_killed_run_could_not_send(tmp_path):
    pytest.importorskip("tensorboard")
    run(tmp_path, track=["tensorboard"])
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-100])  # the last event is cut
    assert {step for (step, _), _ in read_tensorboard(tmp_path)[1]} == set(STEPS[:2])
    (tmp_path / "done").unlink()
    run(tmp_path, track=["tensorboard"], overwrite=False, steps=9)
    points = read_tensorboard(tmp_path)[1]
    assert dict(points) == as_float32(expected(tmp_path))
    assert len(points) == len(dict(points))


def read_wandb(folder):
    """The runs in W&B's offline files: (id, name, group, config), rows of the history."""
    from wandb.proto import wandb_internal_pb2 as protocol

    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    run, rows = None, []
    for payload in _leveldb_log(path.read_bytes()[7:], first=7):
        record = protocol.Record.FromString(payload)
        if record.HasField("run"):
            run = record.run
        if record.HasField("history"):
            rows.append(
                {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            )
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    return (run.run_id, run.display_name, run.run_group, config), rows


def _leveldb_log(content, first):
    """The records of a file in the log format of LevelDB: blocks of 32 KiB with fragments of records."""
    block, place, payload = 2**15, 0, b""
    while place + 7 <= len(content):
        left = block - (place + first) % block
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if kind == 0:
            break
        payload += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield payload
            payload = b""


@needs_fork
@pytest.mark.slow
def test_wandb_goes_offline_without_a_key_and_a_resumed_run_is_one_whole_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    kill_and_resume(folder, monkeypatch, "wandb")
    (run_id, name, group, config), rows = read_wandb(folder)
    assert run_id == json.loads((folder / "track_wandb.json").read_text())["id"]
    assert (name, group) == ("RoGA, Debug28, 0, seed 0", "")
    assert (config["algorithm"], config["hparams"]["batch_size"]) == ("RoGA", 4)
    assert [row["_step"] for row in rows] == STEPS
    points = {(row["_step"], key): value for row in rows for key, value in row.items() if key[0] != "_"}
    assert points == expected(folder)
    assert "Notice: --track wandb is offline (No API key" in (folder / "out.txt").read_text()


@pytest.mark.slow
def test_wandb_may_be_switched_off_by_its_own_variable(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(tmp_path / "run", track=["wandb"])
    assert not (tmp_path / "run" / "wandb").exists()
    assert "Notice: --track" not in (tmp_path / "run" / "out.txt").read_text()


def read_mlflow(uri):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [
        (
            client.get_experiment(run.info.experiment_id).name,
            run,
            [
                ((metric.step, key), metric.value)
                for key in run.data.metrics
                for metric in client.get_metric_history(run.info.run_id, key)
            ],
        )
        for run in runs
    ]


@needs_fork
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
@pytest.mark.parametrize("uri", [None, pytest.param("sqlite:///elsewhere.db", marks=pytest.mark.long)])
def test_mlflow_has_every_point_once_in_one_run(uri, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = tmp_path / "sweep" / ("0" * 32)
    kill_and_resume(folder, monkeypatch, "mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    ((experiment, found, points),) = read_mlflow(uri or f"sqlite:///{tmp_path}/mlflow.db")
    assert (experiment, found.info.run_name) == ("sweep", "RoGA, Debug28, 0, trial 0")
    assert found.info.status == "FINISHED"
    assert (found.data.params["algorithm"], found.data.params["hparams.batch_size"]) == ("RoGA", "4")
    assert len(points) == len(dict(points))
    clocks = ("step_time", "data_time")  # of the killed run: MLflow forgets no point
    for (step, key), value in expected(folder).items():
        assert dict(points)[step, key] == value or (step == 4 and key in clocks)
    assert dict(points).keys() == expected(folder).keys()


# --- what goes wrong with a tracker ------------------------------------------------------------------------

FAKE = """
import os, time
from pathlib import Path
class Tracker:
    def __init__(self, run, steps): {begin}
    def has(self, step): return False
    def log(self, step, values): {log}
    def finish(self, done): {finish}
"""


def run_with_fake(folder, tmp_path, monkeypatch, begin="pass", log="pass", finish="pass", **kwargs):
    """A run with a tracker that does what these statements say."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "fake_tracker.py").write_text(FAKE.format(begin=begin, log=log, finish=finish))
    (tmp_path / "fake" / "sitecustomize.py").write_text(
        "from roga_domainbed.trainer import trackers\ntrackers.MODULES['wandb'] = 'fake_tracker'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setattr(trackers, "_is_installed", lambda package: True)
    run(folder, track=["wandb"], **kwargs)
    return (folder / "out.txt").read_text()


@pytest.mark.parametrize(
    ("what", "notice"),
    [
        (
            {"begin": "raise OSError(28, 'No space left on device')"},
            "OSError: [Errno 28] No space left on device",
        ),
        ({"begin": "raise SystemExit(3)"}, "SystemExit: 3"),
        (
            {"log": "raise ConnectionError('no route to the server.\\\\nLong story')"},
            "no route to the server.",
        ),
        ({"log": "os.kill(os.getpid(), 9)"}, "its process was killed by SIGKILL"),
        ({"finish": "raise ValueError"}, "Notice: --track wandb is off from here on: ValueError."),
    ],
)
def test_a_tracker_that_fails_is_switched_off_with_one_notice(what, notice, tmp_path, monkeypatch):
    output = run_with_fake(tmp_path / "run", tmp_path, monkeypatch, **what)
    assert (tmp_path / "run" / "done").exists()
    assert output.count("Notice: --track wandb is off from here on: ") == 1
    assert notice in output


def test_nobody_waits_for_a_tracker_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.5)
    pid = tmp_path / "pid"
    begin = f"Path({str(pid)!r}).write_text(str(os.getpid())), time.sleep(100)"
    start = time.monotonic()
    output = run_with_fake(tmp_path / "run", tmp_path, monkeypatch, begin=begin)
    assert time.monotonic() - start < 60
    assert (tmp_path / "run" / "done").exists()
    assert "Notice: --track wandb is not done after 0.5 s and goes on by itself" in output
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_tracker_gets_the_records_as_they_come_and_ends_after_the_last(tmp_path, monkeypatch):
    told = tmp_path / "told"
    output = run_with_fake(
        tmp_path / "run",
        tmp_path,
        monkeypatch,
        begin="print('chatter of a package')",
        log=f"print(step, file=open({str(told)!r}, 'a'))",
        finish=f"print('done', done, file=open({str(told)!r}, 'a'))",
    )
    assert told.read_text().split("\n") == [*map(str, STEPS), "done True", ""]
    assert "chatter" not in output
    assert "chatter of a package" in (tmp_path / "run" / "track_wandb.log").read_text()


def test_a_half_written_record_is_waited_for(tmp_path):
    path = tmp_path / "results.jsonl"
    assert follow._records(path, 0) == ([], 0)
    path.write_bytes(b'{"step": 0}\nnonsense\n{"step": 5}\n{"ste')
    records, offset = follow._records(path, 0)
    assert records == [{"step": 0}, {"step": 5}]
    path.write_bytes(path.read_bytes() + b'p": 9}\n')
    assert follow._records(path, offset) == ([{"step": 9}], len(path.read_bytes()))


def test_of_several_processes_the_first_alone_has_trackers(monkeypatch):
    seen = []

    def experiment(config, hparams, host):
        seen.append(config)
        raise PeerStopped("the first has ended")

    monkeypatch.setattr(run_of_trainer, "Experiment", experiment)
    monkeypatch.setattr(run_of_trainer, "together", lambda wait: None)
    with pytest.raises(SystemExit):
        run_of_trainer._follow(TrainConfig(dataset="Debug28", track=["wandb"]), {}, StopSignals())
    assert seen[0].track is None


# --- the run's folder --------------------------------------------------------------------------------------

WANDB_RUN = "offline-run-20260102_030405-0c90f494"


@pytest.fixture
def tracked(tmp_path):
    """The folder of a run that is not done, with what trackers leave."""
    folder = tmp_path / "run"
    for name in (
        "train.lock",
        "track_wandb.log",
        "track_wandb.json",
        "tensorboard/events.out.tfevents.1796083195.host.103.0",
        f"wandb/{WANDB_RUN}/files/requirements.txt",
        f"wandb/{WANDB_RUN}/run-0c90f494.wandb",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_what_trackers_leave_belongs_to_the_run_and_is_deleted_with_it(tracked):
    assert run_folder_problem(tracked) is None
    assert other_files(os.listdir(tracked)) == []
    assert delete_unfinished(str(tracked))
    assert not tracked.exists()


@pytest.mark.parametrize("name", ["tensorboard/notes.md", "wandb/my-run/notes.md", "wandb/latest-run"])
def test_other_files_in_the_folders_of_trackers_stay(name, tracked, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    mine = tracked / name
    if name.endswith("latest-run"):
        mine = tracked / "wandb" / "run-20260102_030405-abc"
        mine.symlink_to(tmp_path / "elsewhere")
    else:
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
    with pytest.raises(RogaError, match=r"it holds other files too \((tensorboard|wandb)/"):
        delete_unfinished(str(tracked))
    run(tracked, overwrite=True)
    assert mine.exists()
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"
    assert not (tracked / "wandb" / WANDB_RUN).exists()
    assert not list(tracked.glob("tensorboard/events*"))
    assert not (tracked / "track_wandb.json").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_tracker_s_folder_is_a_folder(kind, tracked, tmp_path):
    for path in (tracked / "wandb" / WANDB_RUN, tracked / "wandb"):
        path.rename(tmp_path / path.name)
    if kind == "link":
        (tracked / "wandb").symlink_to(tmp_path / "wandb")
    else:
        (tracked / "wandb").write_text("notes")
    assert run_folder_problem(tracked).startswith("has a wandb that is no f")
