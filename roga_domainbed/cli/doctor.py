"""Show what is installed, what is missing and how to get it.

    $ roga-domainbed doctor --data_dir data
    ok    this          roga-domainbed 0.1.0, Python 3.12.3
    ok    torch         2.8.0, torchvision 0.23.0
    -     GPU           torch sees none; training runs on 2 CPU threads
    ok    backend       the embedded engine; DOMAINBED_HOME=<DomainBed checkout> uses that instead
    ok    one step      of ERM and RoGA, on engine
    …
    Training works.

It also takes one training step in memory. The exit status is 1 if anything fails. --full checks the numbers too, in a
few minutes: seeds and splits against DomainBed's, metrics against scikit-learn, RoGA's update against SAM's and its
base optimizer's, and ERM trained on SynthFake against stored bands.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roga_domainbed import __version__
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.plugins import load_plugins
from roga_domainbed.errors import RogaError
from roga_domainbed.host import backend, checkout, optional_imports


@dataclass(frozen=True)
class Finding:
    """One line: ``state`` is ``ok``, ``-`` for what is optional and absent, or ``FAIL``."""

    state: str
    what: str
    detail: str


#: Module → the extra that brings it, and what it is for.
_EXTRAS = {
    "av": ("prepare", "reading videos"),
    "cv2": ("prepare", "finding faces"),
    "matplotlib": ("report", "figures"),
    "jinja2": ("report", "the HTML report"),
    "pytorch_grad_cam": ("explain", "heat maps"),
    "onnxscript": ("export", "ONNX files"),
    "submitit": ("cluster", "Slurm"),
    "ray": ("ray", "Ray"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look for datasets, and whether to check the numbers."""
    parser.add_argument("--data_dir", help="folder of the datasets: also list those in it")
    parser.add_argument(
        "--full", action="store_true", help="also check seeds, metrics, update rules, a training"
    )


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if one is a failure."""
    failed = False
    for finding in _findings(args.data_dir, args.full):
        failed |= finding.state == "FAIL"
        print(f"{finding.state:<4}  {finding.what:<12}  {finding.detail}", flush=True)
    print("\nSomething does not work: see FAIL above." if failed else "\nTraining works.")
    return int(failed)


def _findings(data_dir: str | None, full: bool) -> Iterator[Finding]:
    yield Finding("ok", "this", f"roga-domainbed {__version__}, Python {platform.python_version()}")
    yield from _torch()
    try:
        host = backend.host()
    except RogaError as error:
        yield Finding("FAIL", "backend", str(error))
        return
    yield from _backend(host)
    yield from _one_step(host)
    for plugin in load_plugins():
        state = "FAIL" if plugin.error else "ok"
        yield Finding(state, "plugin", plugin.error or f"{plugin.name}, from {plugin.package}")
    for module, (extra, purpose) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding("-", module, f"not installed; for {purpose}: pip install 'roga-domainbed[{extra}]'")
    if data_dir is not None:
        yield from _datasets(data_dir)
    if full:
        yield from _full()


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # a wheel for another machine fails in any of these ways
        yield Finding("FAIL", "torch", f"{error}: install torch and torchvision of one release")
        return
    yield Finding("ok", "torch", f"{torch.__version__}, torchvision {torchvision.__version__}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("ok", "GPU", f"CUDA {torch.version.cuda}: {', '.join(names)}")
    else:
        why = "torch is built without CUDA" if torch.version.cuda is None else "torch sees none"
        yield Finding("-", "GPU", f"{why}; training runs on {torch.get_num_threads()} CPU threads")


def _backend(host: backend.Host) -> Iterator[Finding]:
    if host.home is None:
        detail = "the embedded engine; DOMAINBED_HOME=<DomainBed checkout> uses that instead"
        yield Finding("ok", "backend", detail)
        return
    how = "DOMAINBED_HOME" if os.environ.get("DOMAINBED_HOME") else "the import path"
    commit = checkout.commit(host.home)
    changed = checkout.changes(host.home)
    state = f"commit {commit}" if commit else "no git commit: an unpacked archive?"
    if changed:
        state += f", {len(changed)} files changed"
    yield Finding("ok", "backend", f"the DomainBed checkout {host.home} (from {how}), {state}")
    for package, purpose in optional_imports.missing().items():
        yield Finding("-", package, f"not installed; for {purpose}: pip install {package}")


def _one_step(host: backend.Host) -> Iterator[Finding]:
    """An update of ERM and of RoGA on random 28 x 28 images: every part of the backend that a training uses."""
    try:
        import torch

        from roga_domainbed.upstream import bridge

        bridge.register()
        minibatch = torch.rand(4, 3, 28, 28), torch.tensor([0, 1, 0, 1])
        for name in ("ERM", "RoGA"):
            hparams = host.hparams_registry.default_hparams(name, "Debug28")
            algorithm = host.algorithms.get_algorithm_class(name)((3, 28, 28), 2, 2, hparams)
            algorithm.update([minibatch, minibatch], None)
    except Exception as error:  # whatever it is, its message is the finding
        kind = "" if isinstance(error, RogaError) else f"{type(error).__name__}: "
        yield Finding("FAIL", "one step", f"{kind}{error}")
        return
    yield Finding("ok", "one step", f"of ERM and RoGA, on {host.name}")


def _datasets(data_dir: str) -> Iterator[Finding]:
    folder = Path(data_dir)
    if not data_dir or not folder.is_dir():
        yield Finding("FAIL", "data", f"--data_dir {data_dir!r} is not a folder")
        return
    prepared = {path.parent.name for path in folder.glob("*/manifest.parquet")}
    known = {info.folder for info in DATASETS if info.needs_data_dir and (folder / info.folder).is_dir()}
    for name in sorted(prepared | known):
        manifest = ", with a manifest" if name in prepared else ""
        registered = [info.name for info in DATASETS if info.folder == name]
        role = f"for {', '.join(registered)}" if registered else "a part of combined datasets"
        yield Finding("ok", "data", f"{folder / name}: {role}{manifest}")
    if not prepared | known:
        yield Finding("-", "data", f"no dataset in {folder}")


def _full() -> Iterator[Finding]:
    """The checks of the numbers; whatever one of them raises is its finding, and the next is made all the same."""
    from roga_domainbed.cli.full_checks import CHECKS, CheckFailed

    for name, check in CHECKS.items():
        try:
            with tempfile.TemporaryDirectory(prefix="roga-domainbed-doctor-") as scratch:
                found = Finding("ok", name, check(Path(scratch)))
        except (CheckFailed, RogaError) as error:
            found = Finding("FAIL", name, str(error))
        except Exception as error:
            found = Finding("FAIL", name, f"{type(error).__name__}: {error}")
        yield found
