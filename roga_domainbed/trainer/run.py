"""One training run, start to end: arguments checked, folder made, experiment built, loop run."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from roga_domainbed import bridge
from roga_domainbed.backend import host
from roga_domainbed.engine.lib.misc import Tee
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.records import DONE, RECORDS, is_done
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.hyperparameters import resolve_hparams
from roga_domainbed.trainer.loop import TrainingLoop
from roga_domainbed.trainer.provenance import environment_versions
from roga_domainbed.trainer.scores import SCORES


def train(config: TrainConfig) -> Path:
    """Train one model and write its records, scores, model, output and the marker ``done``.

    Args:
        config: the arguments; see ``TrainConfig``.

    Returns:
        The output folder.

    Raises:
        RogaError: for everything the user can put right, all of it at once where it can be seen before the
            data is loaded.
    """
    problems = Problems()
    config.check(problems)
    bridge.register()
    hparams = resolve_hparams(config, host(), problems)
    output_dir = Path(config.output_dir)
    if not config.overwrite and (output_dir / RECORDS).exists():
        state = "a finished run" if is_done(output_dir) else "records of an unfinished run"
        problems.add(
            f"--output_dir {config.output_dir!r} holds {state}; choose another, or pass --overwrite to replace it"
        )
    problems.check()
    _make_folder(output_dir)
    experiment = Experiment(config, hparams, host())
    # Only now, when nothing but the training itself can fail, does an earlier run give way.
    _clear_folder(output_dir)
    with Tee(output_dir / "out.txt"), Tee(output_dir / "err.txt", channel="stderr") as err:
        _print_header(config, hparams)
        try:
            TrainingLoop(experiment, output_dir).run()
        except RogaError as error:
            err.file.write(f"error: {error}\n")  # the caller prints it
            raise
        except Exception:
            err.file.write(traceback.format_exc())
            raise
    return output_dir


def _make_folder(output_dir: Path) -> None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise RogaError(f"--output_dir {str(output_dir)!r} cannot be written: {error.strerror}") from None


def _clear_folder(output_dir: Path) -> None:
    for pattern in (DONE, RECORDS, SCORES, "out.txt", "err.txt", "model*.pkl", "*.part"):
        for path in output_dir.glob(pattern):
            path.unlink()


def _print_header(config: TrainConfig, hparams: dict[str, Any]) -> None:
    print("Command:\n\t" + shlex.join(sys.argv))
    for title, values in (
        ("Environment", environment_versions()),
        ("Args", dict(sorted(config.record_args().items()))),
        ("HParams", dict(sorted(hparams.items()))),
    ):
        print(f"{title}:")
        for name, value in values.items():
            print(f"\t{name}: {value}")
