"""One training run, start to end: arguments checked, folder made, experiment built, loop run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import torch.distributed

from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.engine.lib.misc import Tee
from roga_domainbed.errors import Failed, Problems, RogaError
from roga_domainbed.files import Busy, locked
from roga_domainbed.host.backend import host
from roga_domainbed.input.image_files import UnreadableImage
from roga_domainbed.input.prefetch import ReaderDied
from roga_domainbed.launch import lease
from roga_domainbed.launch.folders import DAMAGED, OUTPUT, RESULTS, remove_own, run_folder_problem
from roga_domainbed.launch.jobfile import LOCK_FILE, attempts, is_live
from roga_domainbed.optim import NonFiniteError
from roga_domainbed.optim.collectives import PeerStopped, together
from roga_domainbed.results.records import ERRORS, RECORDS, is_done, read_records
from roga_domainbed.trainer import checkpoint, distributed
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.experiment import Experiment, library_versions
from roga_domainbed.trainer.hyperparameters import resolve_hparams
from roga_domainbed.trainer.loop import TrainingLoop
from roga_domainbed.trainer.running_means import RunningMeans
from roga_domainbed.trainer.splits import unreadable_message
from roga_domainbed.trainer.stop import Paused, Stopped, StopRequested, StopSignals
from roga_domainbed.upstream import bridge


def train(config: TrainConfig) -> Path:
    """Train one model and write its records, scores, model, output and the marker ``done``.

    An unfinished run of the same arguments in the folder is continued from its last checkpoint.

    Args:
        config: the arguments; see ``TrainConfig``.

    Returns:
        The output folder.

    Raises:
        RogaError: for everything the user can put right, all of it at once where it can be seen before the
            data is loaded.
        Stopped: SIGTERM, SIGUSR1 or SIGUSR2 came; the same call resumes the run.
        KeyboardInterrupt: Ctrl-C came; likewise.
    """
    problems = Problems()
    bridge.register()  # first: what a checkout has of its own gets its names
    config.check(problems)
    _check_host(config, problems)
    hparams = resolve_hparams(config, host(), problems)
    output_dir = Path(config.output_dir)
    if config.output_dir:
        _check_folder(config, problems)
    for message in distributed.problems(config, host()):
        problems.add(message)
    problems.check()
    is_first = distributed.join() == 0
    if is_first:
        _make_folder(output_dir)
    try:
        with StopSignals() as signals:
            if not is_first:
                _follow(config, hparams, signals)
                return output_dir
            with _alone_in(output_dir):
                _check_folder(
                    config, problems
                )  # again: the process that had the lock may have finished the run
                problems.check()
                _train(config, hparams, output_dir, signals)
    except Busy:
        raise RogaError(f"another process trains in --output_dir {config.output_dir!r} now") from None
    except StopRequested as stop:
        if stop.name == "SIGINT":
            raise KeyboardInterrupt from None
        raise Stopped(_how_it_stopped(stop, output_dir)) from None
    return output_dir


@contextlib.contextmanager
def _alone_in(output_dir: Path) -> Iterator[None]:
    """Inside, no other training of ours works in the folder.

    A launcher has made an attempt at the job for this process, and before each file the training finds that it is still
    the newest. A training that no launcher started holds a lock.

    Raises:
        Busy: another one works there.
    """
    if lease.held_in(output_dir) is not None:
        yield
    elif is_live(output_dir, attempts(output_dir)):
        raise Busy
    else:
        with locked(output_dir / LOCK_FILE):
            yield


def _train(config: TrainConfig, hparams: dict[str, Any], output_dir: Path, signals: StopSignals) -> None:
    start, damaged, notices = None, {}, []
    if not config.overwrite:
        start, damaged = checkpoint.newest(output_dir)
        here = checkpoint.settings(config.record_args(), hparams, host().name)
        there = _settings_of_records(output_dir) if start is None else start.settings
        if there is not None:
            checkpoint.require_equal(there, here, config.output_dir)
            if start is None:
                notices.append("an unfinished run without a checkpoint was here; it starts anew")
    experiment = Experiment(config, hparams, host())
    distributed.share(experiment)
    # An earlier run is removed only now, when nothing but the training itself can fail.
    with signals.held():
        lease.require(output_dir)
        notices += [checkpoint.set_aside(path) for path in damaged]
        if start is None:
            _clear_folder(output_dir, with_damaged=config.overwrite)
        else:
            _cut(output_dir / OUTPUT, start.output_bytes)
    with Tee(output_dir / OUTPUT), Tee(output_dir / ERRORS, channel="stderr") as err:
        if start is None:
            _print_header(config, hparams)
        for sentence in notices:
            print(f"Notice: {sentence}.")
        try:
            TrainingLoop(experiment, output_dir, signals, start).run()
        except StopRequested as stop:
            sentence = _how_it_stopped(stop, output_dir)
            print(f"{sentence[0].upper()}{sentence[1:]}.")
            raise
        except RogaError as error:
            lease.require(output_dir)
            message = str(error)
            if isinstance(error, UnreadableImage):
                print("An image cannot be read; looking for others.")
                message = unreadable_message(experiment.dataset, experiment.splits, error)
            if isinstance(error, (PeerStopped, ReaderDied)):
                message += f"; {_what_then(output_dir)}"
            _note(err.file, f"error: {message}\n")  # the caller prints it
            if message != str(error):
                error = (Failed if isinstance(error, Failed) else RogaError)(message)
            raise error from error.__cause__
        except Exception:
            lease.require(output_dir)
            _note(err.file, traceback.format_exc())
            raise


def _follow(config: TrainConfig, hparams: dict[str, Any], signals: StopSignals) -> None:
    """Take part in the steps of the first process, writing nothing.

    Raises:
        SystemExit: the run has ended early, for a reason that another process gives.
    """
    config = dataclasses.replace(config, skip_model_save=True, checkpoint_every=0, profile=False, track=None)
    try:
        together(torch.distributed.barrier)
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            experiment = Experiment(config, hparams, host())
            distributed.share(experiment)
            # A signal to all may find the first process in a step that needs this one: the first one leaves first.
            with signals.held():
                _FollowingLoop(experiment, Path(folder), signals).run()
    except (PeerStopped, StopRequested, NonFiniteError):  # what is not finite, every process finds
        raise SystemExit(1) from None


class _FollowingLoop(TrainingLoop):
    def __init__(self, experiment: Experiment, output_dir: Path, signals: StopSignals):
        super().__init__(experiment, output_dir, signals)
        self.averaging = None  # the first process has the average, and makes the records

    def _record(self, step: int) -> None:
        self.running_means, self.record_due = RunningMeans(), False


def _how_it_stopped(stop: StopRequested, output_dir: Path) -> str:
    if isinstance(stop, Paused):
        return f"paused {stop.name}; the same command without --until goes on"
    return f"stopped by {stop.name}; {_what_then(output_dir)}"


def _what_then(output_dir: Path) -> str:
    resumed = checkpoint.exists(output_dir)
    return f"the same command {'resumes it' if resumed else 'starts anew: there is no checkpoint'}"


def _note(file: TextIO, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk may be what happened: nothing may stay in the buffer
        os.write(file.fileno(), text.encode())


def _settings_of_records(output_dir: Path) -> dict[str, Any] | None:
    """The settings in the first record of an unfinished run; None if there is no record."""
    if not (output_dir / RECORDS).exists():
        return None
    records = read_records(output_dir / RECORDS).records
    if not records:
        return None
    first = records[0]
    backend = first.get("provenance", {}).get("backend", "upstream")  # whose train does not note it
    return checkpoint.settings(first["args"], first.get("hparams", {}), backend)


def _cut(path: Path, n_bytes: int) -> None:
    """Cut off what was written after a checkpoint, so that no line appears twice."""
    if path.exists() and path.stat().st_size > n_bytes:
        os.truncate(path, n_bytes)


def _check_host(config: TrainConfig, problems: Problems) -> None:
    """Name what an older or smaller checkout does not have; the engine says so itself."""
    if host().name != "upstream":
        return
    for registry, name in ((ALGORITHMS, config.algorithm), (DATASETS, config.dataset)):
        if name in registry and name not in bridge.available(registry):
            problems.add(f"the DomainBed checkout {host().home} has no {registry.kind} {name!r}")


def _check_folder(config: TrainConfig, problems: Problems) -> None:
    problem = run_folder_problem(config.output_dir)
    if problem is not None:
        problems.add(f"--output_dir {config.output_dir!r} {problem}")
    elif is_done(config.output_dir) and not config.overwrite:
        problems.add(
            f"--output_dir {config.output_dir!r} holds a finished run; choose another, or pass --overwrite to "
            "replace it"
        )


def _make_folder(output_dir: Path) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / LOCK_FILE).touch()  # first: it says that the folder is a run's
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise RogaError(f"--output_dir {str(output_dir)!r} cannot be written: {error.strerror}") from None


def _clear_folder(output_dir: Path, *, with_damaged: bool) -> None:
    for path in list(output_dir.iterdir()):
        if RESULTS.fullmatch(path.name) or (with_damaged and DAMAGED.fullmatch(path.name)):
            remove_own(path)


def _print_header(config: TrainConfig, hparams: dict[str, Any]) -> None:
    print("Command:\n\t" + shlex.join(sys.argv))
    for title, values in (
        ("Environment", library_versions()),
        ("Args", dict(sorted(config.record_args().items()))),
        ("HParams", dict(sorted(hparams.items()))),
    ):
        print(f"{title}:")
        for name, value in values.items():
            print(f"\t{name}: {value}")
