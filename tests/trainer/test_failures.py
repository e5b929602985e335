"""What can go wrong while a run trains, provoked for real: what was there stays, and a sentence says what happened."""

import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import signal
import time

import pytest
import torch
from small_runs import at_step, checkpoints, comparable, in_child, run, use_small_images

from roga_domainbed.errors import RogaError
from roga_domainbed.input.prefetch import Prefetcher, ReaderDied
from roga_domainbed.launch.job import State, failure_line
from roga_domainbed.processes import Worker, WorkerDied
from roga_domainbed.sweep.jobs import train_job
from roga_domainbed.trainer import checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and signals of POSIX")

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000  # clone(2)
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096  # mount(2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


def is_whole(folder, n_records):
    """The newest checkpoint can be read and every record is a line of JSON."""
    found, damaged = checkpoint.newest(folder)
    lines = (folder / "results.jsonl").read_text().splitlines()
    return found is not None and not damaged and len([json.loads(line) for line in lines]) == n_records


# --- the disk ---------------------------------------------------------------------------------------------


def in_child_that_mounts(function):
    """Call ``function(mount)`` in a child that may mount what only it sees; skip where the kernel does not allow it."""

    def call():
        libc = ctypes.CDLL(None, use_errno=True)

        def mount(source, target, kind, flags, options=b""):
            if libc.mount(source, str(target).encode(), kind, flags, options):
                print("mount:", os.strerror(ctypes.get_errno()))
                raise SystemExit(77)

        if libc.unshare(_NEW_MOUNTS) and libc.unshare(_NEW_USER | _NEW_MOUNTS):
            raise SystemExit(77)
        function(mount)

    status = in_child(call)
    if status == 77:
        pytest.skip("this kernel lets only root mount")
    assert status == 0


def make_read_only(mount, folder):
    mount(str(folder).encode(), folder, b"", _BIND)
    mount(b"", folder, b"", _BIND | _REMOUNT | _READ_ONLY)


def run_that_fails(folder, step, action, message, **kwargs):
    """A run in which ``action()`` is called in the update of that step."""
    with pytest.MonkeyPatch.context() as context:
        at_step(context, step, action)
        with pytest.raises(RogaError, match=message):
            run(folder, **kwargs)


def limit_file_size(n_bytes):
    # The kernel refuses to write a file past this size, as it refuses one on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def test_a_full_disk_is_an_error_and_earlier_files_are_whole(tmp_path):
    folder = tmp_path / "small disk"
    folder.mkdir()

    def train(mount):
        mount(b"tmpfs", folder, b"tmpfs", 0, b"size=8m")
        message = r"cannot write '.*checkpoint_6.pt': No space left on device"
        run_that_fails(folder / "run", 5, fill, message)
        assert is_whole(folder / "run", n_records=2)
        assert not list(folder.glob("run/*.part"))
        os.unlink(folder / "ballast")
        run(folder / "run")
        assert "Continued after 5 of 9 steps." in (folder / "run" / "out.txt").read_text()

    def fill():
        with open(folder / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    in_child_that_mounts(train)


def test_a_file_that_may_not_grow_is_an_error_and_earlier_files_are_whole(tmp_path):
    folder, message = tmp_path / "run", r"cannot write '.*checkpoint_6.pt': File too large"
    assert in_child(lambda: run_that_fails(folder, 5, lambda: limit_file_size(60_000), message)) == 0
    assert checkpoints(folder) == ["checkpoint_4.pt", "checkpoint_5.pt"]
    assert is_whole(folder, n_records=2)


def test_a_record_that_cannot_be_written_leaves_those_before(tmp_path):
    folder, message = tmp_path / "run", r"cannot write '.*results.jsonl': .*; the records before are intact"

    def limit():
        limit_file_size((folder / "results.jsonl").stat().st_size + 100)

    assert in_child(lambda: run_that_fails(folder, 4, limit, message, checkpoint_every=3)) == 0
    assert is_whole(folder, n_records=1)


def test_a_folder_that_becomes_read_only_is_an_error_and_earlier_files_are_whole(tmp_path):
    folder, message = tmp_path / "run", r"cannot write '.*checkpoint_6.pt': Read-only file"
    folder.mkdir()
    in_child_that_mounts(
        lambda mount: run_that_fails(folder, 5, lambda: make_read_only(mount, folder), message)
    )
    assert is_whole(folder, n_records=2)


def test_a_read_only_folder_is_refused_before_anything(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()

    def train(mount):
        make_read_only(mount, folder)
        with pytest.raises(RogaError, match=r"--output_dir .* cannot be written: Read-only file system"):
            run(folder)

    in_child_that_mounts(train)
    assert list(folder.iterdir()) == []


# --- processes --------------------------------------------------------------------------------------------


def test_a_killed_loader_process_is_named_and_the_run_goes_on_afterwards(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def kill_a_reader():
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with monkeypatch.context() as context:
        at_step(context, 0, kill_a_reader)
        with pytest.raises(
            RogaError, match=r"a process that reads images has died, .* fewer --n_workers; the same command"
        ):
            run(folder, n_workers=2)
    assert "a process that reads images has died" in (folder / "err.txt").read_text()
    run(folder)
    run(tmp_path / "unbroken")
    assert comparable(folder) == comparable(tmp_path / "unbroken")


def read_ahead(n_bytes, n_tasks=4):
    """The first byte of each result of two reader processes, for tasks that are numbers."""
    tasks = list(range(n_tasks))
    results = Prefetcher(
        lambda task: (torch.full((n_bytes,), task, dtype=torch.uint8), None), tasks, workers=2, processes=True
    )
    return [int(result[0]) for result, _ in results]


def test_readers_need_no_shared_memory():
    def train(mount):
        mount(b"tmpfs", "/dev/shm", b"tmpfs", 0, b"size=1m")
        assert read_ahead(8 * 2**20) == [0, 1, 2, 3]

    in_child_that_mounts(train)


def test_a_reader_that_dies_in_the_middle_of_its_result_is_noticed_though_others_live():
    workers = [Worker(lambda question: bytes(8 * 2**20)) for _ in range(2)]
    connection, process = workers[0]._connection, workers[0]._process
    connection.send_bytes(b"question")
    assert connection.poll(20), "it has begun to answer, and waits for us to read"
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises((EOFError, OSError)):  # after the length, or within the content
        connection.recv_bytes()
    with pytest.raises(WorkerDied):
        workers[0].ask(b"question")
    assert len(workers[1].ask(b"question")) == 8 * 2**20


def test_a_dead_reader_is_noticed_before_the_turn_of_its_task():
    def do(task):
        if task == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    results = iter(Prefetcher(do, list(range(100)), workers=2, processes=True))
    assert next(results) == 0
    time.sleep(1)  # a long step, in which the reader of the fourth task dies
    with pytest.raises(ReaderDied, match="a process that reads images has died"):
        next(results)


def test_readers_that_cannot_be_started_are_a_sentence():
    def train():
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, used + 4))
        with pytest.raises(
            RogaError, match=r"cannot be started: Too many open files; give fewer --n_workers"
        ):
            read_ahead(1)

    assert in_child(train) == 0


# --- numbers ----------------------------------------------------------------------------------------------


def break_weights(algorithm, value):
    with torch.no_grad():
        next(algorithm.parameters())[0] = value


@pytest.mark.parametrize("at_once", [True, False], ids=["as on a CPU", "as on a GPU"])
def test_a_loss_that_is_not_finite_keeps_the_state_before_and_marks_the_job_failed(
    at_once, tmp_path, monkeypatch
):
    from roga_domainbed.algorithms.roga import RoGA

    monkeypatch.setattr("roga_domainbed.optim.finite.checked_at_once", lambda device: at_once)

    job = train_job(
        {"dataset": "Debug28", "algorithm": "RoGA", "test_envs": [0], "hparams_seed": 0}, str(tmp_path)
    )
    folder = tmp_path / job.id
    original, calls = RoGA.update, []

    def update(self, minibatches, unlabeled=None):
        calls.append(None)
        if len(calls) == 6:
            minibatches[1][0][0, 0, 0, 0] = float("nan")
        return original(self, minibatches, unlabeled)

    with monkeypatch.context() as context:
        context.setattr(RoGA, "update", update)
        with pytest.raises(RogaError, match=r"step 5: the .* of domain 1 is nan"):
            run(folder)
    found, _ = checkpoint.newest(folder)
    assert found.steps_done == 5, "the last good step was 4"
    assert job.reason.startswith("step 5: the loss of domain 1 is nan")
    assert "exited with 2 (step 5: the loss of domain 1 is nan" in failure_line(job, 2)
    run(folder)  # this time without the NaN
    run(tmp_path / "unbroken")
    assert comparable(folder) == comparable(tmp_path / "unbroken")
    assert job.state is State.DONE


def test_without_checkpoints_the_next_record_reads_what_no_step_waited_for(tmp_path, monkeypatch):
    from roga_domainbed.algorithms.roga import RoGA

    monkeypatch.setattr("roga_domainbed.optim.finite.checked_at_once", lambda device: False)
    original = RoGA.update

    def update(self, minibatches, unlabeled=None):
        if self.optimizer.steps_taken == 5:
            minibatches[1][0][0, 0, 0, 0] = float("nan")
        return original(self, minibatches, unlabeled)

    monkeypatch.setattr(RoGA, "update", update)
    with pytest.raises(RogaError, match=r"step 5: the .* of domain 1 is nan; later steps used it"):
        run(tmp_path / "run", checkpoint_every=0)
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 4], "the record of step 8 is not written"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_never_reach_a_checkpoint(value, tmp_path, monkeypatch):
    from roga_domainbed.algorithms.roga import RoGA

    original = RoGA.update

    def update(self, *args):
        values = original(self, *args)
        if self.optimizer.steps_taken == 6:
            break_weights(self, value)
        return values

    with monkeypatch.context() as context:
        context.setattr(RoGA, "update", update)
        with pytest.raises(RogaError, match="step 5: 1 parameters are not finite after it"):
            run(tmp_path / "run")
    assert checkpoints(tmp_path / "run") == ["checkpoint_4.pt", "checkpoint_5.pt"]


# --- images -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged_faces(tmp_path_factory):
    """SynthFake with an empty, a truncated and a foreign file among the training images, and where they are."""
    from datasets_ext.synthfake.generate import generate

    root = tmp_path_factory.mktemp("data")
    generate(root, n_identities=3, n_frames=2)
    files = sorted((root / "SynthFake" / "DF").rglob("*.png"))[:3]
    files[0].write_bytes(b"")
    os.truncate(files[1], files[1].stat().st_size // 2)
    files[2].write_text("no image")
    return root, files


def on_faces(folder, root, **kwargs):
    hparams = '{"batch_size": 4, "backbone": "meso4", "image_size": 32}'
    data = {
        "dataset": "SynthFake",
        "data_dir": str(root),
        "split": "frame",
        "test_envs": [3],
        "allow_leakage": True,
    }
    run(folder, hparams=hparams, steps=2, **data, **kwargs)


def test_unreadable_images_stop_the_run_named_and_counted(damaged_faces, tmp_path):
    root, files = damaged_faces
    with pytest.raises(RogaError) as caught:
        on_faces(tmp_path / "run", root)
    message = str(caught.value)
    assert message.startswith("3 images cannot be read; --skip-unreadable trains without:")
    assert all(str(file) in message for file in files)
    assert message in (tmp_path / "run" / "err.txt").read_text()


def test_unreadable_images_are_left_out_where_that_is_asked_for_and_counted(damaged_faces, tmp_path, capsys):
    root, files = damaged_faces
    on_faces(tmp_path / "run", root, skip_unreadable=True)
    first, *_ = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert first["provenance"]["unreadable"]["count"] == 3
    assert first["args"]["skip_unreadable"] is True
    n_images = len(list((root / "SynthFake" / "DF").rglob("*.png")))
    assert first["env0_in_n"] + first["env0_out_n"] == n_images - 3
    out = capsys.readouterr().out
    assert all(f"Left out: cannot read the image {str(file)!r}" in out for file in files)


def test_a_split_without_a_readable_image_is_refused():
    from roga_domainbed.input.environment import Environment
    from roga_domainbed.trainer.splits import EnvironmentSplit, drop_unreadable

    class Broken(Environment):
        def __getitem__(self, index):
            raise RogaError(f"cannot read the image {index}")

    with pytest.raises(RogaError, match="no image of the out-split of environment DF can be read"):
        drop_unreadable([Broken()], [EnvironmentSplit([0], [1], [])], ["DF"])


def test_a_worker_whose_parent_is_dead_already_ends(tmp_path):
    from roga_domainbed.processes import end_with_parent

    def parent():
        def start():
            while os.getppid() == father:
                time.sleep(0.01)
            (tmp_path / "orphan").write_text(str(os.getpid()))
            end_with_parent()
            time.sleep(30)
            (tmp_path / "still here").touch()

        father = os.getpid()
        multiprocessing.get_context("fork").Process(target=start).start()
        os.kill(father, signal.SIGKILL)

    assert in_child(parent) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while not (tmp_path / "orphan").exists() or is_alive(
        int((tmp_path / "orphan").read_text() or os.getpid())
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "still here").exists()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
