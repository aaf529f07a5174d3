"""A process that is forked, as `multiprocessing` does on Linux, can connect like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bridge.staging import Stager

CHILD = """
import os, sys
from bridge.staging import StagerClient
first = StagerClient(sys.argv[1])
names = [t.name for t in first.topics()]
pid = os.fork()
if pid == 0:
    with StagerClient(sys.argv[1]) as client:
        assert [t.name for t in client.topics()] == names
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert [t.name for t in first.topics()] == names
first.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system cannot fork.")
def test_a_forked_process_connects_on_its_own() -> None:
    with Stager() as stager:
        stager.start()
        # A process of its own, because one with other threads had better not be forked.
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD, stager.address],
            start_new_session=True,
        )
        try:
            assert child.wait(30.0) == 0
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
