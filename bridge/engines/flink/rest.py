"""What a Flink cluster's REST interface tells, and what it can be asked to do."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from bridge.engines.causes import find_cause
from bridge.errors import EngineError

__all__ = ["TERMINAL", "FlinkRest"]

TERMINAL = ("FINISHED", "CANCELED", "FAILED", "SUSPENDED")


class FlinkRest:
    """A client of Flink's REST interface.

    Parameters
    ----------
    address
        Such as ``http://127.0.0.1:8081``.
    timeout
        Seconds that a request may take.
    """

    def __init__(self, address: str, *, timeout: float = 5.0) -> None:
        self.address = address.rstrip("/")
        if "://" not in self.address:
            self.address = f"http://{self.address}"
        self._timeout = timeout
        # Nobody stands between us and the cluster: proxies of the environment are not asked.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, *, method: str = "GET", body: Any = None) -> Any:
        """Send a request and return what came back.

        Raises
        ------
        EngineError
            If the cluster does not answer, or refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path,
            data=data,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")
            raise EngineError(
                f"Flink at {self.address} refused {method} {path}: {_first_error(said)}"
            ) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise EngineError(
                f"Flink does not answer at {self.address}: {reason}. Is the cluster up?"
            ) from error
        return json.loads(text) if text else {}

    def text(self, path: str) -> str:
        """Return what is no JSON, such as a log.

        Raises
        ------
        EngineError
            If the cluster does not answer, or has none.
        """
        try:
            with self._opener.open(self.address + path, timeout=self._timeout) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except OSError as error:
            raise EngineError(f"Flink at {self.address} gives no {path}: {error}.") from error

    def overview(self) -> dict[str, Any]:
        """Return the cluster's own figures: task managers, slots, jobs."""
        return dict(self.ask("/overview"))

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that the cluster knows, with ``jid``, ``name`` and ``state``."""
        return list(self.ask("/jobs/overview")["jobs"])

    def find(self, name: str) -> str | None:
        """Return the id of the newest job of a name; None if there is none."""
        found = [job for job in self.jobs() if job["name"] == name]
        return max(found, key=lambda job: job["start-time"])["jid"] if found else None

    def state(self, job: str) -> str:
        """Return the state of a job, such as ``RUNNING``."""
        return str(self.ask(f"/jobs/{job}/status")["status"])

    def details(self, job: str) -> dict[str, Any]:
        """Return everything that Flink tells of a job."""
        return dict(self.ask(f"/jobs/{job}"))

    def checkpoints(self, job: str) -> dict[str, Any]:
        """Return counts, the latest and the history of a job's checkpoints."""
        return dict(self.ask(f"/jobs/{job}/checkpoints"))

    def cause(self, job: str) -> str:
        """Return why a job failed last, as a sentence; empty if it never did."""
        history = self.ask(f"/jobs/{job}/exceptions").get("exceptionHistory", {})
        entries = history.get("entries", [])
        return find_cause(entries[0]["stacktrace"]) if entries else ""

    def failures(self, job: str) -> list[dict[str, Any]]:
        """Return the failures that Flink remembers of a job, the newest first."""
        history = self.ask(f"/jobs/{job}/exceptions").get("exceptionHistory", {})
        return list(history.get("entries", []))

    def task_managers(self) -> list[dict[str, Any]]:
        """Return the cluster's task managers."""
        return list(self.ask("/taskmanagers")["taskmanagers"])

    def cancel(self, job: str) -> None:
        """Ask for a job to be cancelled; it is not waited for."""
        self.ask(f"/jobs/{job}?mode=cancel", method="PATCH")

    def stop(self, job: str, directory: str = "", *, timeout: float = 60.0) -> str:
        """Stop a job with a savepoint, and return where that lies.

        Raises
        ------
        EngineError
            If it does not come about in time.
        """
        body = {"drain": False, **({"targetDirectory": directory} if directory else {})}
        asked = self.ask(f"/jobs/{job}/stop", method="POST", body=body)["request-id"]
        deadline = time.monotonic() + timeout
        while True:
            answer = self.ask(f"/jobs/{job}/savepoints/{asked}")
            if answer["status"]["id"] == "COMPLETED":
                break
            if time.monotonic() > deadline:
                raise EngineError(f"Waited {timeout:.0f} s for the savepoint of job {job}.")
            time.sleep(0.1)
        operation = answer.get("operation", {})
        if "failure-cause" in operation:
            trace = operation["failure-cause"].get("stack-trace", "")
            raise EngineError(f"The savepoint of job {job} failed: {find_cause(trace)}")
        return str(operation["location"])

    def wait(self, job: str, states: tuple[str, ...] = TERMINAL, *, timeout: float = 60.0) -> str:
        """Wait for a job to come into one of some states, and return which.

        Raises
        ------
        EngineError
            At the time limit.
        """
        deadline = time.monotonic() + timeout
        while True:
            state = self.state(job)
            if state in states:
                return state
            if time.monotonic() > deadline:
                raise EngineError(
                    f"Waited {timeout:.0f} s for job {job} to be {' or '.join(states)}; "
                    f"it is {state}."
                )
            time.sleep(0.1)


def _first_error(text: str) -> str:
    try:
        errors = json.loads(text)["errors"]
        return find_cause("\n".join(map(str, errors)))
    except (ValueError, KeyError, TypeError):
        return text.strip().partition("\n")[0][:300]
