"""Verbs of other distributions, installed as such in a folder of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bridge.cli.main import main
from bridge.cli.services import CommandLine
from bridge.commands import Event
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.runs.records import read_events
from bridge.schema import StreamSchema, Variable
from bridge.staging.client import StagerClient
from bridge.staging.producer import Producer
from bridge.staging.stager import Stager

Install = Callable[..., None]

GREET = """
HELP = "greet somebody, at 100 % of the volume"
def add_arguments(parser):
    parser.add_argument("who")
def execute(arguments, services):
    print(f"Hello {arguments.who}", arguments.json, type(services).__name__)
    return 1
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a way to install a distribution that brings verbs."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, text: str, *verbs: str) -> None:
        info = tmp_path / f"{distribution}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1\n")
        lines = [f"{verb} = {distribution}_verbs" for verb in verbs]
        (info / "entry_points.txt").write_text("\n".join(["[headrace.verbs]", *lines, ""]))
        (tmp_path / f"{distribution}_verbs.py").write_text(text)

    return install


def test_a_verb_is_listed_and_done(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("polite", GREET, "greet")
    assert main(["--help"]) == 0
    assert "greet somebody, at 100 % of the volume" in capsys.readouterr().out
    assert main(["greet", "--help"]) == 0
    assert "Greet somebody, at 100 % of the volume." in capsys.readouterr().out
    assert main(["greet", "Ada", "--json"]) == 1
    assert capsys.readouterr().out == "Hello Ada True CommandLine\n"
    assert main(["greet"]) == 2


def test_no_verb_of_the_house_is_taken_over(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("thief", GREET, "run")
    assert main(["run", "--help"]) == 0
    assert "Greet" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("HELP = 'help'\ndef execute(a, s): return 0", "lacks add_arguments"),
    ],
)
def test_a_verb_that_cannot_be_loaded_says_why(
    install: Install, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(f"broken{len(said)}", text, "mend")
    assert main(["--help"]) == 0
    assert "mend" in capsys.readouterr().out
    assert main(["mend", "--json"]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.endswith(".\n")
    assert json.loads(captured.out)["error"] == "ConfigError"
    assert main(["doctor", "--help"]) == 0


def test_two_that_bring_the_same_verb_are_named(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("one", GREET, "greet")
    install("other", GREET, "greet")
    assert main(["greet", "Ada"]) == 2
    assert "one_verbs (one), other_verbs (other)" in capsys.readouterr().err


def test_a_missing_extra_is_a_sentence_and_2(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "from bridge.extras import needs\n    with needs('learning', 'greeting'):\n"
    text = GREET.replace("print", f"{body}        import no_such_package\n    print", 1)
    install("needy", text, "greet")
    assert main(["greet", "Ada"]) == 2
    assert capsys.readouterr().err == (
        "headrace: The package 'no_such_package' is needed for greeting and is not installed; "
        "install it with: pip install 'headrace[learning]'.\n"
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, io, json, sys\nfrom bridge.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "print(json.dumps([n for n in ('torch', 'river', 'safetensors') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == []


def test_services_tell_and_read() -> None:
    schema = StreamSchema((Variable("x", "<f4", (2,)), Variable("y", "<f4", ())))
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    with Stager("memory://services").start() as stager:
        with Producer("a", schema, address=stager.address) as producer:
            for i in range(100):
                producer.put(i, float(i), {"x": x[i], "y": np.float32(i)})
        services = CommandLine()
        services.tell(stager.address, Event("promoted", "Told."))
        with StagerClient(stager.address) as client:
            assert [e.message for e in read_events(client) if e.kind == "promoted"] == ["Told."]
        read = FrameBatch.concatenate(list(services.read(stager.address, "frames/a")))
        np.testing.assert_array_equal(read["x"], x)
        some = list(services.read(stager.address, "frames/a", columns=["x"], last=7))
        assert list(FrameBatch.concatenate(some).offsets) == list(range(93, 100))
        assert list(some[0].columns) == ["x"]
        with pytest.raises(ConfigError, match="no topic 'frames/b'"):
            list(services.read(stager.address, "frames/b"))
        with pytest.raises(ConfigError, match="no column 'z'"):
            list(services.read(stager.address, "frames/a", columns=["z"]))
