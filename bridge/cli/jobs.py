"""``headrace jobs``: submitted jobs, and how they are getting on."""

from __future__ import annotations

import argparse
import json
import time

import msgspec
from rich.console import Console
from rich.table import Table

from bridge.jobs.looking import JobView, look
from bridge.jobs.records import JobStore

__all__ = ["add_arguments", "execute"]

_GONE = ("finished", "stopped", "cancelled", "failed", "lost")
_BROKEN = ("cancelled", "failed", "lost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", nargs="?", default="", help="id, or name of the pipeline")
    parser.add_argument("--all", action="store_true", help="show those that are over, too")
    parser.add_argument("--forget", action="store_true", help="forget those that are over")


def execute(arguments: argparse.Namespace) -> int:
    """Show them."""
    store = JobStore()
    records = [store.find(arguments.job)] if arguments.job else store.all()
    views = [look(record, events=bool(arguments.job) or arguments.json) for record in records]
    if arguments.forget:
        for view in views:
            if view.state in _GONE:
                store.forget(view.record)
        views = [view for view in views if view.state not in _GONE]
    elif not (arguments.job or arguments.all or arguments.json):
        views = [view for view in views if view.state not in _GONE] or views[:5]
    if arguments.json:
        print(json.dumps([_plain(view) for view in views]))
    elif arguments.job:
        _detail(views[0])
    else:
        _list(views)
    return 0


def _plain(view: JobView) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(view)
    plain["lag"] = view.statistics.lag if view.statistics is not None else None
    return plain


def _list(views: list[JobView]) -> None:
    if not views:
        print("There is no job. Submit one with: headrace submit PIPELINE.toml --engine flink")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "pipeline", "engine", "state", "frames", "a second", "lag", "age"):
        table.add_column(heading, overflow="fold")
    for view in views:
        told = view.statistics
        table.add_row(
            view.record.id,
            view.record.pipeline,
            view.record.engine,
            view.state,
            "" if told is None else str(told.frames),
            "" if told is None else f"{told.rate:.0f}",
            "" if told is None else str(told.lag),
            f"{time.time() - view.record.submitted:.0f} s",
        )
    Console(soft_wrap=True).print(table)


def _detail(view: JobView) -> None:
    record, told = view.record, view.statistics
    print(f"Job {record.id}: {record.pipeline!r} on {record.engine}, {view.state}.")
    if view.why:
        print(f"  {view.why}")
    if record.cluster:
        print(f"  cluster      {record.cluster}")
    print(f"  stagers      {record.stagers}")
    print(f"  checkpoints  {record.checkpoint}")
    if record.savepoint:
        print(f"  savepoint    {record.savepoint}")
    if record.engine == "flink" and view.state in _BROKEN:
        from bridge.engines.flink.submission import find_checkpoint

        newest = find_checkpoint(record.checkpoint)
        if newest:
            print(f"  to go on     headrace submit … --savepoint {newest}")
    print(f"  restarts     {view.restarts}, {view.downtime:.1f} s of rest at all of them")
    if told is None:
        return
    print(
        f"  {told.frames} frames, {told.rate:.0f} a second, {told.quarantined} set aside, "
        f"{told.checkpoints} checkpoints, put to stored {told.latency * 1e3:.0f} ms "
        f"(99 % within {told.latency_99 * 1e3:.0f} ms)"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("simulation", "position", "lag", "step", "set aside", "missed", ""):
        table.add_column(heading, overflow="fold")
    for name, one in sorted(told.simulations.items()):
        table.add_row(
            name, str(one.position), str(one.lag), str(one.step), str(one.quarantined),
            str(one.missed), "finished" if one.finished else "",
        )  # fmt: skip
    Console(soft_wrap=True).print(table)
    for event in view.told[-5:]:
        print(f"  {event.kind}: {event.message}")
