"""``headrace submit``: a pipeline on Flink or Spark, over streams that are there."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from bridge.engines import load_engine
from bridge.engines.protocol import EngineStatistics
from bridge.errors import ConfigError
from bridge.jobs.driver import make_engine, start_driver
from bridge.jobs.records import JobRecord, JobStore
from bridge.jobs.sources import JobPlan, load_job
from bridge.staging.rendezvous import resolve

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Run a pipeline on Flink or Spark, over the streams of one or several stagers. Without "
        "--cluster, on this machine, and in the foreground: Ctrl-C saves and ends. With it, the "
        "job is handed over, and looked at with headrace jobs."
    )
    parser.add_argument("pipeline", metavar="PIPELINE.toml|module:object")
    parser.add_argument("--engine", choices=("flink", "spark"), help="needed, or kind in [engine]")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="http://HOST:8081 of a Flink cluster, or spark://HOST:7077",
    )
    parser.add_argument("--stager", metavar="ADDRESS[,ADDRESS]", help="or HEADRACE_STAGER")
    parser.add_argument("--run-directory", type=Path, help="where a stager wrote stager.json")
    parser.add_argument("--savepoint", default="", metavar="PATH", help="to go on from")
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of the checkpoints")
    parser.add_argument("--parallelism", type=int, metavar="N", help="workers that take part")
    parser.add_argument("--until", choices=("finished", "stopped"), default="finished")
    parser.add_argument("--keys", default="", help="folder made by headrace keys")
    parser.add_argument(
        "--python-files",
        default=[],
        nargs="+",
        metavar="PATH",
        help="Python files or folders of yours that the workers need",
    )
    parser.add_argument(
        "--python-archive", default="", metavar="ENV.tar.gz", help="environment for the workers"
    )
    parser.add_argument(
        "--set", default=[], action="append", metavar="KEY=VALUE", help="Flink's or Spark's own"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--detach", action="store_true", help="go on in the background")
    where.add_argument("--attach", action="store_true", help="stay, although it is on a cluster")


def execute(arguments: argparse.Namespace) -> int:
    """Submit the job; attached, wait for its end."""
    plan = _plan(arguments)
    table = plan.engine
    load_engine(table.kind)
    _check_stagers(plan)
    store = JobStore()
    number = uuid4().hex[:8]
    name = plan.job().name
    checkpoint = arguments.checkpoint or str(store.folder / "checkpoints" / number)
    if not arguments.checkpoint and table.kind == "flink" and table.cluster:
        checkpoint = str(Path(tempfile.gettempdir()) / f"headrace-checkpoints-{number}")
    record = JobRecord(
        id=number,
        pipeline=name,
        engine="flink" if table.kind == "flink" else "spark",
        stagers=plan.stagers,
        cluster=table.cluster,
        checkpoint=str(Path(checkpoint).absolute()) if "://" not in checkpoint else checkpoint,
        keys=plan.keys,
        submitted=time.time(),
    )
    if table.cluster and table.kind == "flink" and not arguments.attach:
        return _hand_over(plan, record, store, arguments)
    if arguments.detach or (table.cluster and not arguments.attach):
        record = start_driver(plan, record, store, savepoint=arguments.savepoint)
        return _tell(record, arguments, f"Its log is {record.log}.")
    return _attached(plan, record, store, arguments)


def _plan(arguments: argparse.Namespace) -> JobPlan:
    changes: dict[str, Any] = {}
    if arguments.engine:
        changes["kind"] = arguments.engine
    if arguments.cluster is not None:
        changes["cluster"] = arguments.cluster
    if arguments.parallelism is not None:
        if arguments.parallelism < 1:
            raise ConfigError("--parallelism must be at least 1.")
        changes["parallelism"] = arguments.parallelism
    plan = load_job(
        arguments.pipeline,
        stagers=resolve(arguments.stager, arguments.run_directory),
        settings=arguments.set,
        changes=changes,
        keys=arguments.keys,
        until=arguments.until,
        files=arguments.python_files,
        archive=arguments.python_archive,
    )
    if plan.engine.kind == "local":
        raise ConfigError("Say which engine is to run it: --engine flink or --engine spark.")
    return plan


def _check_stagers(plan: JobPlan) -> None:
    """Fail before any cluster is started, if there is nobody to read from."""
    plan.job().connect("submit").close()


def _hand_over(
    plan: JobPlan, record: JobRecord, store: JobStore, arguments: argparse.Namespace
) -> int:
    from bridge.engines.flink import submit

    table = plan.engine
    done = submit(
        plan.job(),
        cluster=table.cluster,
        parallelism=table.parallelism,
        checkpoint=record.checkpoint,
        savepoint=arguments.savepoint,
        settings=table.settings,
        files=plan.files,
        archive=plan.archive,
    )
    record.flink, record.rest = done.id, done.rest
    store.write(record)
    return _tell(record, arguments, f"Flink calls it {done.id}.")


def _tell(record: JobRecord, arguments: argparse.Namespace, more: str) -> int:
    if arguments.json:
        print(json.dumps(msgspec.to_builtins(record)))
    else:
        print(f"Job {record.id} runs {record.pipeline!r} on {record.engine}. {more}")
        print(
            f"Look at it with: headrace jobs {record.id}; end it with: headrace cancel {record.id}"
        )
    return 0


def _attached(
    plan: JobPlan, record: JobRecord, store: JobStore, arguments: argparse.Namespace
) -> int:
    began = time.monotonic()

    def show(status: EngineStatistics) -> None:
        print(
            f"{time.monotonic() - began:7.1f} s  {status.state}: {status.frames} frames, "
            f"{status.rate:.0f}/s, lag {status.lag}, {status.sent} commands",
            file=sys.stderr,
            flush=True,
        )

    engine = make_engine(plan, record.checkpoint, arguments.savepoint, show)
    times = 0

    def interrupt(*_: object) -> None:
        nonlocal times
        times += 1
        if times > 1:
            raise KeyboardInterrupt
        print("Ending in good order; Ctrl-C again ends at once.", file=sys.stderr, flush=True)
        threading.Thread(target=engine.stop, daemon=True).start()

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        statistics: EngineStatistics = engine.run(plan.until)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    savepoint = getattr(engine, "savepoint", "") if statistics.state == "stopped" else ""
    if arguments.json:
        plain = msgspec.to_builtins(statistics)
        print(json.dumps({"id": record.id, "savepoint": savepoint, **plain}))
    else:
        _report(
            statistics, savepoint or (record.checkpoint if statistics.state == "stopped" else "")
        )
    return 0


def _report(statistics: EngineStatistics, savepoint: str) -> None:
    print(
        f"{statistics.state}: {statistics.frames} frames of {len(statistics.simulations)} "
        f"simulations, {statistics.quarantined} set aside, {statistics.sent} of "
        f"{statistics.decisions} commands sent, {statistics.checkpoints} checkpoints."
    )
    if savepoint:
        print(f"To go on from here: --savepoint {savepoint}")
