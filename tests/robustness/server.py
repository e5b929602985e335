"""Runs commands of the command line, each in a forked child, at a fraction of a second each.

The process imports everything once. A case is a JSON line on stdin:

    argv        the command line
    cwd         where it runs
    timeout     seconds until it counts as a hang and is killed
    environ     environment variables to set
    limits      resource limits: RLIMIT_... → bytes, files
    stdout      null: kept; "closed": no file descriptor; "full": a full device; "gone": nobody reads
    fault       name and arguments of a function in faults.py, called in the child before the command

The answer is a JSON line: status (negative: a signal), stdout, stderr, seconds, hang.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path

SHOWN = 200_000  # bytes of output kept


def preload() -> None:
    import torch

    from roga_domainbed import cli

    torch.set_num_threads(1)
    for module, _ in cli.COMMANDS.values():
        importlib.import_module(module)
    for name in (
        "roga_domainbed.trainer.run roga_domainbed.inference.predict roga_domainbed.inference.evaluate "
        "roga_domainbed.report.page roga_domainbed.engine.algorithms datasets_ext.prepare.driver "
        "pyarrow.parquet pandas scipy.stats matplotlib.pyplot av cv2 jinja2 yaml"
    ).split():
        importlib.import_module(name)
    sys.path.insert(0, str(Path(__file__).parents[1] / "datasets_ext"))
    from prepare_videos import SQUARES

    from datasets_ext.prepare.detectors import DETECTORS

    DETECTORS.add(SQUARES)


def child(case: dict, out: int, err: int) -> None:
    from roga_domainbed import cli

    os.chdir(case["cwd"])
    os.setpgid(0, 0)
    os.environ.update(case.get("environ", {}))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(err, 2)
    where = case.get("stdout")
    if where == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif where == "gone":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    elif where == "closed":
        os.close(1)
    else:
        os.dup2(out, 1)
    encoding = case.get("environ", {}).get("PYTHONIOENCODING", "utf-8")
    # For the whole life of this process.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = None if where == "closed" else open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    argv = [
        argument.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
        for argument in case["argv"]
    ]
    sys.argv = ["roga-domainbed", *argv]
    for name, value in case.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if case.get("fault"):
        import faults

        getattr(faults, case["fault"][0])(*case["fault"][1:])
    status = 99
    try:
        status = cli.main(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                status = status or 120  # what Python itself does
        os._exit(status or 0)


def run(case: dict) -> dict:
    """Run a case in a child; pipes take its output, as a limit on the size of files would cut it off."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            child(case, out_end, err_end)
        finally:
            os._exit(98)
    os.close(out_end)
    os.close(err_end)
    texts = {out: b"", err: b""}
    hang, kill_after = False, case.get("kill_after")
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - start
        for pipe in select.select(list(texts), [], [], 0 if ended else 0.01)[0]:
            texts[pipe] += os.read(pipe, 2**20) if len(texts[pipe]) < SHOWN else os.read(pipe, 2**20)[:0]
        if ended:
            break
        if kill_after is not None and seconds > kill_after:
            os.kill(pid, getattr(signal, case.get("kill_by", "SIGKILL")))
            kill_after = None
        if not hang and seconds > case.get("timeout", 30):
            hang = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what the command left behind
    for pipe in texts:
        os.set_blocking(pipe, False)
        with contextlib.suppress(BlockingIOError):
            texts[pipe] += os.read(pipe, SHOWN)
        os.close(pipe)
    shown = {
        name: texts[pipe].decode("utf-8", "replace") for name, pipe in (("stdout", out), ("stderr", err))
    }
    return {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, "hang": hang, **shown}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing that is imported may print into the answers
    preload()
    gc.freeze()  # a collection in a child would copy every page that it looks at
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
