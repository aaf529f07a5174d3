"""The process that looks after a job of its own: ``python -m bridge.jobs.driver PLAN.json``."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bridge.engines import load_engine
from bridge.engines.protocol import EngineStatistics
from bridge.errors import ConfigError, HeadraceError, MissingExtra
from bridge.jobs.records import JobRecord, JobStore, started_at
from bridge.jobs.sources import JobPlan

__all__ = ["make_engine", "start_driver"]

log = logging.getLogger(__name__)

_START = 2.0
"""Seconds after which a driver that still runs has begun."""


def make_engine(
    plan: JobPlan,
    checkpoint: str,
    savepoint: str,
    on_status: Callable[[EngineStatistics], None] | None = None,
) -> Any:
    """Return the engine of a plan.

    Raises
    ------
    MissingExtra
        If it is not installed here.
    """
    table = plan.engine
    settings = dict(table.settings)
    if table.kind == "spark":
        if plan.files:
            settings.setdefault("spark.submit.pyFiles", ",".join(plan.files))
        if plan.archive:
            settings.setdefault("spark.archives", f"{plan.archive}#environment")
            settings.setdefault("spark.pyspark.python", "./environment/bin/python")
    elif table.kind == "flink":
        if plan.files:
            settings.setdefault("python.files", ",".join(plan.files))
        if plan.archive:
            settings.setdefault("python.archives", plan.archive)
            settings.setdefault("python.executable", f"{Path(plan.archive).name}/bin/python")
    # Beside the checkpoints: who begins anew without them begins anew without it.
    ledger = f"{checkpoint}/ledger" if checkpoint and "://" not in checkpoint else ""
    return load_engine(table.kind)(
        plan.job(ledger),
        cluster=table.cluster,
        checkpoint=checkpoint,
        parallelism=table.parallelism,
        settings=settings,
        savepoint=savepoint,
        on_status=on_status,
    )


def start_driver(
    plan: JobPlan, record: JobRecord, store: JobStore, *, savepoint: str = ""
) -> JobRecord:
    """Start the process that runs a job in the background, and write its record.

    Raises
    ------
    HeadraceError
        If it ends at once; the message is what it said.
    """
    path = store.folder / "jobs" / f"{record.id}.plan"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    plain = {"plan": msgspec.to_builtins(plan), "savepoint": savepoint, "id": record.id}
    path.write_bytes(msgspec.json.encode(plain))
    logfile = store.log(record.id)
    with logfile.open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "bridge.jobs.driver", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "HEADRACE_STATE": str(store.folder)},
        )
    record.pid, record.started, record.log = child.pid, started_at(child.pid), str(logfile)
    store.write(record)
    try:
        code = child.wait(_START)
    except subprocess.TimeoutExpired:
        return record
    if code:
        lines = logfile.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line for line in reversed(lines) if line.startswith("headrace: ")), "")
        raise ConfigError(
            said.removeprefix("headrace: ") or f"The job ended at once; see {logfile}."
        )
    return record


def _run(path: Path) -> int:
    plain = msgspec.json.decode(path.read_bytes())
    plan = msgspec.convert(plain["plan"], JobPlan)
    store = JobStore()
    record = store.find(plain["id"]) if _wait_for(store, plain["id"]) else None
    checkpoint = record.checkpoint if record is not None else ""
    for name in plan.files:
        sys.path.append(name if Path(name).is_dir() else str(Path(name).parent))
    engine = make_engine(plan, checkpoint, plain["savepoint"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=engine.stop).start())
    try:
        statistics = engine.run(plan.until)
    except (ConfigError, MissingExtra) as error:
        print(f"headrace: {error}", flush=True)  # noqa: T201
        return 2
    except HeadraceError as error:
        print(f"headrace: {error}", flush=True)  # noqa: T201
        return 1
    finally:
        if record is not None:
            record.savepoint = getattr(engine, "savepoint", "") or record.savepoint
            store.write(record)
    log.info("The job has ended: %s, after %d frames.", statistics.state, statistics.frames)
    return 0


def _wait_for(store: JobStore, job: str) -> bool:
    """Wait a moment for the record, which is written when this process has been started."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        if any(record.id == job for record in store.all()):
            return True
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("py4j").setLevel(logging.WARNING)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    sys.exit(_run(Path(sys.argv[1])))
