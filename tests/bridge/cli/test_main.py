"""The command line as its users and their scripts meet it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli.main import VERBS, main


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(verb in output for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("headrace ")


@pytest.mark.parametrize(
    "arguments", [[], ["--fly"], ["inspect"], ["stage", "--limit"], ["run", "-x"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: headrace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "There is no verb 'fly'; headrace --help shows all."),
        (["rnu"], "did you mean 'run'?"),
        (["run"], "Name the configuration"),
        (["run", "."], ". is a folder; name a run.toml."),
        (["run", "nothing.toml"], "Cannot read nothing.toml"),
        (["run", "--resume"], "Name the folder of the run to resume"),
        (["run", "--resume", "--output", "x", "--seed", "3"], "keeps its seed"),
        (["inspect", "nowhere"], "there is no such folder"),
        (["replay", "nowhere.pdb"], "does not exist"),
        (["report", "nowhere"], "is not the folder of a run: there is no such folder."),
        (["stage", "--durable"], "--durable needs --directory"),
        (["stage", "--limit", "much"], "'much' is not a size"),
        (["stage", "--address", "carrier://pigeon"], "carrier://pigeon"),
        (["stage", "--address", "tcp://0.0.0.0:0"], "keys"),
        (["inspect", "carrier://pigeon"], "carrier://pigeon"),
    ],
)
def test_a_wrong_configuration_is_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.rstrip().endswith(".")
    assert json.loads(captured.out)["message"] == captured.err.removeprefix("headrace: ").rstrip()


def test_the_doctor_knows_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridge.runs import health

    found = health.find_spec
    monkeypatch.setattr(health, "find_spec", lambda n: None if n == "openmm" else found(n))
    assert main(["doctor", "--json"]) == 0
    findings = {f["subject"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["adapter openmm"]["state"] == "missing"
    assert findings["adapter openmm"]["advice"] == "pip install 'headrace[openmm]'"
    assert findings["numpy"]["state"] == "ok"
    assert "muller_brown" in findings["adapters"]["found"]
    assert main(["doctor"]) == 0
    assert "headrace[openmm]" in capsys.readouterr().out.replace("\n", "").replace(" ", "")


def test_without_its_core_it_is_not_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridge.runs import health

    found = health.find_spec
    monkeypatch.setattr(health, "find_spec", lambda n: None if n == "zmq" else found(n))
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_keys_are_made_for_their_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert main(["keys", str(folder), "--json"]) == 0
    assert {Path(p).name for p in json.loads(capsys.readouterr().out)["files"]} == {
        "stager.key", "stager.pub", "client.key", "client.pub",
    }  # fmt: skip
    assert stat.S_IMODE((folder / "stager.key").stat().st_mode) == 0o600
    assert (folder / "allowed" / "client.pub").exists()
    assert main(["keys", str(folder)]) == 2
    assert "are not overwritten" in capsys.readouterr().err
    assert main(["keys", str(folder), "bob"]) == 0
    assert (folder / "allowed" / "bob.pub").exists()
    assert main(["keys", str(folder), "../eve"]) == 2


@pytest.mark.parametrize("module", ["argparse", "numpy"])
def test_whoever_interrupts_it_while_it_is_loaded_gets_a_sentence(
    module: str, tmp_path: Path
) -> None:
    # Where the tests run in the background of a script, SIGINT is ignored by all that they start.
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    text = f"import os, signal\n{heard}\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / f"{module}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    ended = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "inspect", "nowhere"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (130, "headrace: interrupted.\n")
