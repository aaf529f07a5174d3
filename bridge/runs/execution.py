"""Carries out a run: processes for the supervisor's actions, limits, and the report at the end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bridge.config import parse_duration
from bridge.errors import HeadraceError
from bridge.runs.child import read_cause
from bridge.runs.dashboard import Companion
from bridge.runs.directory import RunDirectory, write_json
from bridge.runs.keyfiles import client_keys
from bridge.runs.latency import read_put_times
from bridge.runs.placement import kept_to
from bridge.runs.plan import Plan
from bridge.runs.processes import Process
from bridge.runs.quantities import convert_time, parse_simulated_time
from bridge.runs.records import read_events, save_lines
from bridge.runs.report import Ending, make_report
from bridge.runs.supervision import ENGINE, STAGER, Action, Supervisor
from bridge.runs.traces import read_traces, save_traces
from bridge.runs.watch import Snapshot, Watcher
from bridge.runs.wishes import marked_frames, wanted_columns
from bridge.staging.client import StagerClient
from bridge.staging.rendezvous import FILE_NAME, resolve
from bridge.steering import Desk, Ledger, read_ledger

__all__ = ["Execution", "View"]

log = logging.getLogger(__name__)

TURN = 0.1
"""Seconds between two looks at the processes."""

START, CLUSTER_START = 60.0, 240.0
"""Seconds that an engine has to begin; a cluster on a busy machine takes its time."""

FAREWELL = 10.0
"""Seconds that the dashboard has to save its recording and end; it holds up nothing else."""

_MODULES = {STAGER: "bridge.runs.stager", ENGINE: "bridge.runs.engine"}
_MEMBER, _TRAINER, _SERVICE = "bridge.runs.member", "bridge.runs.trainer", "bridge.runs.service"


class View(Protocol):
    """Somebody who watches; called in the thread that carries out the run."""

    def update(self, snapshot: Snapshot, supervisor: Supervisor, elapsed: float) -> None:
        """Show how things stand; called about ten times a second."""
        ...

    def tell(self, message: str, level: str) -> None:
        """Tell one sentence."""
        ...


class Execution:
    """One run, from its first process to its report.

    Parameters
    ----------
    plan
        What to do; checked.
    directory
        Where; prepared.
    view
        Who watches.
    make_plots
        Called with the directory once everything else is written; None for no plots.
    """

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        view: View,
        *,
        make_plots: Callable[[RunDirectory], Any] | None = None,
    ) -> None:
        self.plan = plan
        self.directory = directory
        self.report: dict[str, Any] = {}
        self._view = view
        self._make_plots = make_plots
        self._streams = plan.streams()
        table = plan.configuration.run
        # Name of the process to what it runs, and the name of that.
        self._beside = {
            **{f"trainer-{name}": (_TRAINER, name) for name in plan.configuration.training},
            **{f"service-{name}": (_SERVICE, name) for name in plan.configuration.service},
        }
        self._placement = plan.placement()
        self.supervisor = Supervisor(
            tuple(self._streams),
            restarts=table.restarts,
            durable=plan.configuration.staging.durable,
            when_member_fails=table.when_member_fails,
            drain=parse_duration(table.drain),
            start=START if plan.engine.kind == "local" else CLUSTER_START,
            trainers=tuple(self._beside),
        )
        self._dashboard: Companion | None = None
        if plan.configuration.dashboard.enabled:
            self._dashboard = Companion(directory, plan.base, view.tell)
        self._processes: dict[str, Process] = {}
        self._lives: dict[str, int] = {}
        self._watcher: Watcher | None = None
        self._pause = threading.Event()
        self._interrupts = 0
        self._seen = 0
        self._listening = False
        self._began = time.monotonic()
        self._started = time.time()
        self._wall_time: float | None = None

    # ------------------------------------------------------------- outside

    def interrupt(self) -> None:
        """End in good order; a second time: at once. May be called by a signal handler."""
        self._interrupts += 1

    def execute(self) -> Supervisor:
        """Carry out the run; blocks until every process has ended.

        Returns
        -------
        Supervisor
            Its `outcome`, `reason` and `failures` say how it went; `report` has the figures.
        """
        supervisor = self.supervisor
        with kept_to(self._placement.others):
            try:
                self._do(supervisor.begin(self._now()))
                while not supervisor.ended:
                    self._turn()
                    self._pause.wait(0.0 if supervisor.ended else TURN)
            finally:
                # Whatever happened, nobody is left behind.
                self._reap(kill=True)
                if self._dashboard is not None:
                    self._dashboard.end(1.0)
                if self._watcher is not None:
                    self._watcher.stop(1.0)
        return supervisor

    # ------------------------------------------------------------- one turn

    def _now(self) -> float:
        return time.monotonic()

    def _turn(self) -> None:
        supervisor = self.supervisor
        for name, process in list(self._processes.items()):
            code = process.poll()
            if code is not None:
                process.close()
                del self._processes[name]
                self._note_exit(name, code, process)
        if not self._listening and STAGER in self._processes:
            self._look_for_stager()
        while self._seen < self._interrupts:
            self._seen += 1
            self._do(supervisor.interrupt(self._now()))
        if supervisor.phase == "starting" and self._snapshot().engine is not None:
            self._do(supervisor.ready(ENGINE, self._now()))
        if supervisor.phase == "starting":
            for name in self._beside:
                if name in self._processes and self.directory.ready(name).exists():
                    self._do(supervisor.ready(name, self._now()))
        self._check_limits()
        self._do(supervisor.tick(self._now()))
        self._look_after_dashboard()
        self._view.update(self._snapshot(), supervisor, self._now() - self._began)

    def _look_after_dashboard(self) -> None:
        if self._dashboard is None:
            return
        if self.supervisor.phase == "running":
            # Not earlier: what the run begins with should not wait for what only shows it.
            self._dashboard.begin()
        self._dashboard.look()

    def _note_exit(self, name: str, code: int, process: Process) -> None:
        log.info("%s ended with %d.", name, code)
        if name == STAGER:
            self._listening = False
        why = ""
        if code != 0 and not self.supervisor.ended:
            lines = process.last_lines()
            why = read_cause(lines)
            if lines and not why:
                self._view.tell(f"The last lines of {process.log}:", "warning")
                for line in lines:
                    self._view.tell(f"  {line}", "log")
        self._do(self.supervisor.exited(name, code, self._now(), why))

    def _look_for_stager(self) -> None:
        # Without an environment: a stager that somebody else announced is not ours.
        with contextlib.suppress(HeadraceError):
            address = resolve(None, self.directory.path, timeout=0.0, environment={})
            if self.plan.address != address:
                self.plan = msgspec.structs.replace(self.plan, address=address)
                self.plan.write(self.directory)
            self._listening = True
        if self._listening:
            if self._watcher is None:
                self._watcher = Watcher(
                    lambda: self._connect("watch"),
                    pipeline=self.plan.configuration.pipeline.name,
                    event=self.plan.configuration.report.event,
                    desk=Desk(lambda: self._connect("desk"), self.plan.rules),
                )
                self._watcher.start()
            self._do(self.supervisor.ready(STAGER, self._now()))

    def _connect(self, name: str) -> StagerClient:
        return StagerClient(
            self.plan.address, name=name, keys=client_keys(self.plan.key_folder), timeout=10.0
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot() if self._watcher is None else self._watcher.snapshot

    def _check_limits(self) -> None:
        supervisor, snapshot = self.supervisor, self._snapshot()
        if supervisor.phase != "running":
            return
        now, table = self._now(), self.plan.configuration.run
        self._note_target()
        if table.max_wall_time and now - self._began >= parse_duration(table.max_wall_time):
            reason = f"The limit of {table.max_wall_time} of wall time is reached."
            self._do(supervisor.stop("limit_reached", reason, now))
        elif table.max_time and snapshot.simulations:
            value, unit = parse_simulated_time(table.max_time)
            if snapshot.total_time >= convert_time(value, unit, snapshot.time_unit):
                reason = f"The limit of {table.max_time} of simulated time is reached."
                self._do(supervisor.stop("limit_reached", reason, now))

    def _note_target(self) -> None:
        target = self._snapshot().target
        if target is not None:
            self._do(self.supervisor.target_reached(target.message, self._now()))

    # ------------------------------------------------------------- actions

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action.kind:
                case "start":
                    self._start(action.process)
                case "stop":
                    self._stop(action.process)
                case "kill":
                    if action.process in self._processes:
                        self._processes[action.process].kill()
                case "tell":
                    self._view.tell(action.message, action.level)
                case "report":
                    self._write_report()
                    if self._dashboard is not None:
                        # While the stager is there, of which it saves the rest.
                        self._dashboard.end(FAREWELL)
                    self._do(self.supervisor.reported(self._now()))

    def _start(self, name: str) -> None:
        life = self._lives[name] = self._lives.get(name, 0) + 1
        arguments = [str(self.directory.path)]
        module, beside = self._beside.get(name, (_MODULES.get(name, _MEMBER), ""))
        if beside:
            arguments.append(beside)
        elif module == _MEMBER:
            arguments += [name, *(["--again"] if life > 1 else [])]
        if name == STAGER:
            (self.directory.path / FILE_NAME).unlink(missing_ok=True)
        if beside:
            self.directory.ready(name).unlink(missing_ok=True)
        self._processes[name] = Process(
            name,
            module,
            arguments,
            log=self.directory.log(name),
            directory=Path(self.plan.base),
            processors=self._placement.own.get(name),
        )
        pids = {name: process.pid for name, process in self._processes.items()}
        write_json(self.directory.processes, pids)

    def _stop(self, name: str) -> None:
        process = self._processes.get(name)
        if process is None:
            return
        streams = self._streams.get(name)
        if streams is None or self._watcher is None:
            process.ask_to_stop()
            return
        # A member is told in the language of all commands, so that the ledger has it.
        reason = self.supervisor.reason or "The run ends."
        self._watcher.tell_to_stop(streams, reason, "headrace run")

    def _reap(self, *, kill: bool) -> None:
        for process in self._processes.values():
            if kill and process.poll() is None:
                process.kill()
        for process in self._processes.values():
            process.wait(10.0)
            process.close()
        self._processes.clear()

    # ------------------------------------------------------------- report

    def _write_report(self) -> None:
        """Write the figures, and what plots are made of, while staging still holds it."""
        self._wall_time = self._now() - self._began
        supervisor = self.supervisor
        if self._watcher is None:
            return
        self._watcher.stop()
        try:
            self._watcher.conclude("The run ended before anybody decided.", "headrace run")
            with contextlib.closing(self._connect("report")) as client:
                self._watcher.catch_up(client)
                self._note_target()
                ledger = read_ledger(client)
                events = read_events(client)
                put = read_put_times(client, ledger.lines())
                self._write_traces(client, ledger)
            ending = Ending(
                outcome=supervisor.outcome,
                reason=supervisor.reason or "All members have finished.",
                failures=tuple(supervisor.failures),
                started=self._started,
                wall_time=self._wall_time,
                restarts=supervisor.restarted,
            )
            save_lines(self.directory.ledger, ledger.lines())
            save_lines(self.directory.events, events)
            self.report = make_report(
                self.plan,
                ending,
                self._watcher.snapshot,
                ledger.lines(),
                events,
                streams=self._streams,
                put=put,
            )
            write_json(self.directory.report, self.report)
            if self._make_plots is not None:
                self._make_plots(self.directory)
        except HeadraceError as error:
            supervisor.failures.append(f"The report could not be written: {error}")
            self._view.tell(supervisor.failures[-1], "error")

    def _write_traces(self, client: StagerClient, ledger: Ledger) -> None:
        table = self.plan.configuration.report
        columns = wanted_columns(table)
        if not columns:
            return
        traces = read_traces(
            client,
            self.plan.configuration.pipeline.name,
            columns=columns,
            max_points=table.max_points,
            marks=marked_frames(ledger.lines()),
        )
        save_traces(self.directory.results, traces)
