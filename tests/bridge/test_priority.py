"""All threads of a process give way, those that were there before too; garbage is left longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from bridge.priority import TASKS

SCRIPT = f"""
import gc, json, os, pathlib, threading
from bridge.priority import clean_up_rarely, give_way

def nice():
    tasks = pathlib.Path({str(TASKS)!r})
    return [os.getpriority(os.PRIO_PROCESS, int(p.name)) for p in tasks.iterdir()]

over = threading.Event()
threading.Thread(target=over.wait).start()
before = nice()
give_way(3)
threading.Thread(target=over.wait).start()
after = nice()
give_way(40)
clean_up_rarely()
print(json.dumps([before, after, nice(), gc.get_freeze_count(), gc.get_threshold()[0]]))
over.set()
"""


def test_threads_from_before_give_way_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    before, after, least, frozen, young = json.loads(done.stdout)
    now = os.getpriority(os.PRIO_PROCESS, 0)
    assert set(before) == {now}
    assert len(after) == len(before) + 1 >= 3
    assert set(after) == {min(19, now + 3)}
    assert set(least) == {19}
    assert frozen > 1000
    assert young > 700
