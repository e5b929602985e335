"""A sweep's folder knows what the sweep trains: ``plan.json``, which ``launch`` writes there.

A folder may have several plans, of launches with other arguments; its jobs are those of all. A folder of version 0.1.0
has none: there the job files of its jobs tell.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.files import locked, replacing
from roga_domainbed.foreign import Malformed, read_json
from roga_domainbed.launch import Job
from roga_domainbed.launch.folders import holds_no
from roga_domainbed.launch.jobfile import read_job_file
from roga_domainbed.sweep.plan import Plan

if TYPE_CHECKING:
    from roga_domainbed.results.protocols import Planned

PLAN_FILE = "plan.json"
_LOCK_FILE = "plan.lock"
_JOB_FOLDER = re.compile(r"[0-9a-f]{32}")


def sweep_folder_problem(folder: str | os.PathLike) -> str | None:
    """Why no sweep may be launched in ``folder``, as the end of a sentence; None if it may.

    Raises:
        OSError: the folder cannot be looked at.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return "is not a folder"
    if not names or {PLAN_FILE, _LOCK_FILE} & set(names) or any(map(_JOB_FOLDER.fullmatch, names)):
        return None
    return holds_no("sweep", names)


def stored_plans(folder: str | os.PathLike) -> list[Plan]:
    """The plans in the folder's ``plan.json``; none if there is no such file.

    Raises:
        RogaError: the file cannot be read as one, or a plan in it is not allowed.
    """
    return [plan for plan, _ in _stored(folder)]


def planned(folders: Iterable[str | os.PathLike]) -> Planned:
    """What the sweeps in ``folders`` hold out, as far as their plans are known."""
    from roga_domainbed.results.protocols import Planned  # numpy, which help texts do without

    one_by_one: dict[str, set[tuple[int, ...]]] = {}
    by_training_set: dict[str, set[tuple[int, ...]]] = {}
    is_complete = True
    for folder in folders:
        try:
            plans = stored_plans(folder)
        except RogaError:  # damaged: its runs can still be read
            plans = []
        is_complete &= bool(plans)
        for plan in plans:
            for dataset in plan.datasets or ():
                if dataset not in DATASETS:
                    is_complete = False
                    continue
                sets = {tuple(sorted(envs)) for envs in plan.held_out(dataset)}
                together = bool(plan.trains_on(dataset)) or all(len(envs) > 1 for envs in sets)
                (by_training_set if together else one_by_one).setdefault(dataset, set()).update(sets)
    return Planned(one_by_one, by_training_set, is_complete)


def store_plan(folder: str | os.PathLike, plan: Plan) -> None:
    """Add ``plan`` to the folder's, unless it is among them; the folder is made if it is not there.

    Raises:
        RogaError: what is there cannot be read.
        OSError: it cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    with locked(Path(folder, _LOCK_FILE), patience_s=math.inf):
        plans, new = [values for _, values in _stored(folder)], plan.values()
        if new not in plans:
            with replacing(Path(folder, PLAN_FILE), durable=True) as partial:
                partial.write_text(json.dumps({"plans": [*plans, new]}, indent=1) + "\n", encoding="utf-8")


def _stored(folder: str | os.PathLike) -> list[tuple[Plan, dict[str, Any]]]:
    path = os.path.join(folder, PLAN_FILE)
    problems = Problems()
    try:
        found = read_json(path, dict).get("plans")
        if not isinstance(found, list) or not found or not all(isinstance(plan, dict) for plan in found):
            raise Malformed("its 'plans' are not a list of mappings")
        plans = [(Plan.of(plan, "", problems), plan) for plan in found]
        problems.check()
    except FileNotFoundError:
        return []
    except (OSError, Malformed, RogaError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RogaError(
            f"{path!r} cannot be read as the plan of a sweep: {reason}. Remove it, and give the sweep's arguments"
        ) from None
    return plans


def jobs_by_their_files(folder: str | os.PathLike) -> tuple[list[Job], int]:
    """The jobs whose files a launcher of ours has left in the folder, and how many job folders have none."""
    try:
        names = sorted(filter(_JOB_FOLDER.fullmatch, os.listdir(folder)))
    except OSError:
        return [], 0
    jobs = [job for name in names if (job := _job(os.path.join(folder, name))) is not None]
    return sorted(jobs, key=_order), len(names) - len(jobs)


def _job(folder: str) -> Job | None:
    file = read_job_file(folder)
    prefix = () if file is None else file.argv[: 2 if file.argv[:1] == ("upstream",) else 1]
    if prefix not in (("train",), ("upstream", "train")):
        return None
    flags = _flags(file.argv[len(prefix) :])
    try:
        train_args = {
            "dataset": flags["dataset"][0],
            "algorithm": flags["algorithm"][0],
            "test_envs": [int(env) for env in flags["test_envs"]],
            "hparams_seed": int(flags["hparams_seed"][0]),
        }
    except (KeyError, IndexError, ValueError):
        return None
    if flags.get("row"):
        train_args["row"] = flags["row"][0]
    flags.pop("until", None)  # where its last start was to pause
    flags["output_dir"] = [folder]  # the sweep may have been moved
    words = [word for name, values in flags.items() for word in (f"--{name}", *values)]
    argv = (*prefix, *words)
    return Job(argv, folder, shlex.join(("roga-domainbed", *argv)), train_args)


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    flags: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            values = flags.setdefault(word.removeprefix("--"), [])
        else:
            values.append(word)
    return flags


def _order(job: Job) -> tuple:
    args = job.train_args
    return (
        args["dataset"],
        args["algorithm"],
        job.row,
        args["test_envs"],
        args["hparams_seed"],
        job.output_dir,
    )
