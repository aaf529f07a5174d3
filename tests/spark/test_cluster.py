"""A standalone cluster, whose workers run in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bridge.engines.results import read_results
from bridge.jobs.clusters import LocalCluster
from bridge.staging import Stager, StagerClient
from tests.bridge.engines.archived import make_archive
from tests.bridge.engines.common import make_streams, play, read_status


def test_workers_run_in_an_archived_environment(
    stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    play(stager.address, make_streams(50, names=("a",)))
    with LocalCluster("spark", workers=1, slots=2, directory=tmp_path / "cluster") as cluster:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "bridge.cli", "submit", "--engine", "spark", "--attach"),
                *("--cluster", cluster.address, "--stager", stager.address),
                *("--python-archive", str(make_archive(tmp_path))),
                "tests.bridge.engines.archived:make_pipeline",
            ],
            capture_output=True,
            text=True,
            timeout=150,
            env={**os.environ, "HEADRACE_STATE": str(tmp_path / "state"), "PYTHONPATH": "."},
            check=False,
        )
    assert done.returncode == 0, done.stderr + done.stdout
    # The driver's page, which its master's address does not tell.
    pages = {status.page for status in read_status(reader, "archived")}
    assert any(page.startswith("http://127.0.0.1:") for page in pages), pages
    results = read_results(reader, "archived", "a")
    assert results is not None
    assert results["archived"].tolist() == [True] * 50
