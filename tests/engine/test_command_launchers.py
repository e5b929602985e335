import sys

import pytest

from roga_domainbed.engine.command_launchers import REGISTRY
from roga_domainbed.errors import RogaError


def test_dummy_prints_the_commands(capsys):
    REGISTRY["dummy"](["a b", "c"])
    assert capsys.readouterr().out == "Dummy launcher: a b\nDummy launcher: c\n"


def test_local_runs_shell_commands_in_order_and_says_which_failed(tmp_path, capfd):
    REGISTRY["local"]([f"echo 1 >> {tmp_path}/log", "exit 3", f"echo 2 >> {tmp_path}/log"])
    assert (tmp_path / "log").read_text() == "1\n2\n"
    assert "exited with 3: exit 3" in capfd.readouterr().err


def test_multi_gpu_gives_each_command_one_gpu_and_keeps_the_list(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    code = "import os,sys; open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    commands = [f'{sys.executable} -S -c "{code}" {tmp_path}/{i}' for i in range(3)]
    REGISTRY["multi_gpu"](commands)
    assert len(commands) == 3
    assert {(tmp_path / str(i)).read_text() for i in range(3)} <= {"4", "6"}


def test_multi_gpu_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RogaError, match="no GPU"):
        REGISTRY["multi_gpu"](["true"])
