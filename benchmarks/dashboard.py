"""The live dashboard: what the page holds, what it costs the run, what the server takes.

Real processes throughout: a stager, simulations that put frames, the local engine, ``headrace
dashboard``, and pages in headless Chromium (drawn in software) or clients that acknowledge as
pages do. Each cost is a ratio of two parts of one run.

* 100,000 points: eight simulations fill a reduced space; then 1,000 points a second come in, and
  the page is asked for ten pictures a second for a minute; once more with a page that is throttled
  4 times.
* First view: from the request to the first card on screen, with an empty cache.
* Server: 200 simulations, five updates a second to one page, processor time of the whole process.
* Cost: frames a second of eight walkers of alanine dipeptide, whose processors are never idle, with
  the dashboard and three pages, one in its overview, one in its reduced space and one in its
  observables, against none, in turns within one run; and the processor time that goes there, which
  is much less noisy.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import multiprocessing.synchronize
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

import bridge.dashboard
from benchmarks.processes import engine_process, spawn, stager_process
from benchmarks.report import figure, result
from benchmarks.steering import EXAMPLES
from bridge import FrameBatch, FrameOperator, Pipeline, StreamSchema
from bridge.pipeline import Context
from bridge.staging import StagerClient
from bridge.staging.producer import Producer
from bridge.staging.rendezvous import resolve

Channels = dict[str, tuple[dict[str, Any], float]]
"""Channel to its options, and the seconds between two messages."""

SIMULATIONS = 8
POINTS = 100_000
FRAMES_A_SECOND = 1000
ARGUMENTS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    *(("--no-sandbox",) if os.geteuid() == 0 else ()),
)


class Project(FrameOperator):
    """Two numbers of each frame: a point of the plane."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"point": batch["x"][:, :2] * 2.0})


def pipeline() -> Pipeline:
    """Return the pipeline of the engine's process."""
    return Pipeline("watched", [("project", Project())], outputs=("point",))


def _simulate(
    address: str,
    names: list[str],
    first: int,
    rate: float,
    stop: multiprocessing.synchronize.Event,
    limit: int,
) -> None:
    """Put `first` frames of each simulation at once, then `rate` frames a second of all."""
    rng = np.random.default_rng(len(names))
    schema = StreamSchema.from_arrays({"x": np.zeros(3, np.float32)}, time_unit="ps")
    with contextlib.ExitStack() as stack:
        producers = [stack.enter_context(Producer(name, schema, address=address)) for name in names]
        places = np.zeros((len(names), 3))
        step = 0

        def put(count: int) -> None:
            nonlocal places, step
            for _ in range(count):
                step += 1
                places = 0.98 * places + rng.normal(size=places.shape)
                for producer, place in zip(producers, places, strict=True):
                    producer.put(step, step * 0.1, {"x": place.astype(np.float32)})

        put(first)
        began, before = time.monotonic(), step
        while not stop.is_set() and (not limit or step < limit):
            if rate:
                due = int((time.monotonic() - began) * rate / len(names))
                put(max(0, due - (step - before)))
                time.sleep(0.01)
            else:
                put(100)


@contextlib.contextmanager
def _simulations(
    address: str, count: int, *, first: int, rate: float = 0.0, limit: int = 0
) -> Iterator[Any]:
    stop = spawn.Event()
    names = [f"walker-{i:03d}" for i in range(count)]
    process = spawn.Process(target=_simulate, args=(address, names, first, rate, stop, limit))
    process.start()
    try:
        yield process
    finally:
        stop.set()
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def _dashboard(address: str) -> Iterator[tuple[dict[str, Any], psutil.Process]]:
    """Run ``headrace dashboard``; gives what it printed, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", "dashboard", address, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_points(facts: dict[str, Any], wanted: int) -> None:
    """Wait until the dashboard has seen so many points."""
    url = f"{facts['address']}api/points?x=point[0]&y=point[1]&limit=10"
    headers = {"Authorization": f"Bearer {facts['token']}"}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        meta = httpx.get(url, headers=headers, timeout=30).json()["meta"]
        if meta["total"] >= wanted:
            return
        time.sleep(0.2)
    raise SystemExit(f"The dashboard saw {meta['total']} of {wanted} points within 120 s.")


def _watch_points(url: str, seconds: float, throttle: int) -> tuple[float, float, int]:
    """Return pictures a second, median lag in ms and the greatest number of points shown."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(60_000)
        page.goto(url)
        page.get_by_test_id("nav-embedding").click()
        page.get_by_test_id("embedding-more").click()
        page.get_by_test_id("embedding-limit").select_option("250000")
        page.wait_for_function("() => (window.__stats.received.points || 0) > 10")
        if throttle > 1:
            session = page.context.new_cdp_session(page)
            session.send("Emulation.setCPUThrottlingRate", {"rate": throttle})
            page.wait_for_timeout(3000)
        lags = []
        before = page.evaluate("() => window.__stats.received.points")
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            page.wait_for_timeout(1000)
            lags.append(float(page.evaluate("() => window.__stats.lag_ms")))
        took = time.monotonic() - began
        count = page.evaluate("() => window.__stats.received.points") - before
        shown = page.get_by_test_id("embedding-count").inner_text()
        browser.close()
    # "100 000 of 123 456 points", with narrow spaces.
    first = re.sub(r"[^\d]", "", re.split(r"[^\d\s]", shown.strip())[0])
    return count / took, float(np.median(lags)), int(first or 0)


def _first_view(url: str) -> float:
    """Return the seconds from the request to the first card on screen, with an empty cache."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        began = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.locator("[data-testid^='card-']").first.wait_for()
        took = time.perf_counter() - began
        browser.close()
    return took


def _assets() -> float:
    """Return the size of all assets of the page, compressed, in MB."""
    folder = Path(str(bridge.dashboard.__file__)).parent / "page"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) / 1e6


async def _page(facts: dict[str, Any], channels: Channels) -> None:
    """Subscribe and acknowledge as a page does, until cancelled."""
    from websockets.asyncio.client import connect

    address = facts["address"].replace("http://", "ws://").rstrip("/") + "/ws"
    headers = {"Authorization": f"Bearer {facts['token']}"}
    async with connect(
        address, subprotocols=["headrace.1"], additional_headers=headers, max_size=None
    ) as socket:
        for number, (channel, (options, every)) in enumerate(channels.items(), 1):
            await socket.send(
                json.dumps(
                    {
                        "type": "subscribe", "id": number, "channel": channel,
                        "options": options, "every": every,
                    }
                )
            )  # fmt: skip
        async for message in socket:
            # Both begin with the number of the subscription and that of the message.
            told = re.search(rb'"id":(\d+),"seq":(\d+)', _head(message))
            if told is not None:
                word = {"type": "ack", "id": int(told[1]), "seq": int(told[2])}
                await socket.send(json.dumps(word))


def _head(message: str | bytes) -> bytes:
    return message[:80].encode() if isinstance(message, str) else message[:80]


def _watch(facts: dict[str, Any], pages: Sequence[Channels]) -> None:
    # It stands for pages on other machines.
    os.nice(19)

    async def all_of_them() -> None:
        await asyncio.gather(*(_page(facts, channels) for channels in pages))

    asyncio.run(all_of_them())


@contextlib.contextmanager
def _pages(facts: dict[str, Any], *pages: Channels) -> Iterator[psutil.Process]:
    process = spawn.Process(target=_watch, args=(facts, pages))
    process.start()
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.join()


def _seconds_of(process: psutil.Process) -> float:
    """Return the processor time of a process so far, that of its threads to the nanosecond."""
    total = 0
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def _server(seconds: float) -> float:
    """Return the share of a core that the server takes for 200 simulations, 5 updates/s."""
    with (
        stager_process() as (address, _),
        engine_process(address, "benchmarks.dashboard:pipeline"),
        _simulations(address, 200, first=5, rate=FRAMES_A_SECOND),
        _dashboard(address) as (facts, process),
        _pages(facts, dict.fromkeys(("run", "overview", "events", "ledger"), ({}, 0.2))),
    ):
        time.sleep(5.0)
        before, began = _seconds_of(process), time.monotonic()
        time.sleep(seconds)
        # The engine ends with its streams.
        return (_seconds_of(process) - before) / (time.monotonic() - began)


ALWAYS: Channels = {
    "run": ({}, 1.0),
    "overview": ({}, 1.0),
    "events": ({"limit": 1000}, 0.25),
    "ledger": ({"limit": 1000}, 0.25),
}
"""What the page asks for, and how often, in whatever view."""

VIEWS: dict[str, Channels] = {
    "overview": {**ALWAYS, "overview": ({}, 0.4)},
    "reduced space": {**ALWAYS, "points": ({"x": "tica[0]", "y": "tica[1]"}, 0.1)},
    "observables": {**ALWAYS, "series": ({"columns": ["phi_psi[0]"]}, 0.5)},
}
"""The same in three of its views; it shows one at a time."""


class _Window:
    """What a run did between two moments: frames, and parts of a processor.

    Parameters
    ----------
    groups
        Name to the processes that are meant by it.
    frames
        Returns how many frames there are so far.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[psutil.Process]], frames: Callable[[], int]
    ) -> None:
        self._groups, self._frames = groups, frames
        self._begin = self._look()

    def _look(self) -> dict[str, float]:
        taken = {name: sum(map(_seconds_of, each)) for name, each in self._groups.items()}
        machine = psutil.cpu_times()
        taken |= {"idle": machine.idle, "stolen": getattr(machine, "steal", 0.0)}
        return {"frames": float(self._frames()), **taken, "now": time.monotonic()}

    def close(self) -> dict[str, float]:
        """Return each of them a second."""
        end = self._look()
        took = end.pop("now") - self._begin.pop("now")
        return {name: (end[name] - self._begin[name]) / took for name in end}


def _middle(values: Sequence[float]) -> tuple[float, list[float]]:
    """Return the median of the means of all pairs of values, and its interval of 95 %.

    Hodges and Lehmann, Ann. Math. Stat. 34, 598 (1963), doi:10.1214/aoms/1177704172: as robust as
    a median, and nearly as precise as a mean. The interval is that of the signed-rank test; of
    fewer than six values it is their range, and less sure.
    """
    x = np.asarray(values)
    n = len(x)
    first, second = np.triu_indices(n)
    means = np.sort((x[first] + x[second]) / 2)
    rank = int(n * (n + 1) / 4 - 1.96 * np.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    rank = max(0, rank)
    return float(np.median(means)), [float(means[rank]), float(means[-1 - rank])]


def _ratios(windows: Sequence[tuple[bool, Mapping[str, float]]], name: str) -> list[float]:
    """Return watched to unwatched of each four windows: a drift within them cancels out."""
    out = []
    for i in range(0, len(windows) - 3, 4):
        logs = {True: 0.0, False: 0.0}
        for watched, taken in windows[i : i + 4]:
            logs[watched] += np.log(taken[name]) / 2
        out.append(float(np.exp(logs[True] - logs[False])))
    return out


@contextlib.contextmanager
def _walkers(folder: Path) -> Iterator[tuple[Path, psutil.Process]]:
    """Run alanine dipeptide until told to end; gives its folder and its first process."""
    run, example = folder / "run", folder / "example"
    shutil.copytree(EXAMPLES / "alanine_dipeptide", example)
    configuration = example / "run.toml"
    # A target that is never reached.
    text, found = re.subn(r"upper = 120\.0", "upper = 20.000001", configuration.read_text())
    assert found == 1
    configuration.write_text(text)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "bridge.cli", "run", str(configuration),
            "--control", "random", "--max-time", "1000 ns", "--max-wall-time", "30 min",
            "--output", str(run), "--no-dashboard", "--no-plots",
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield run, psutil.Process(process.pid)
    finally:
        process.send_signal(2)
        process.wait(60)


def _cost(seconds: float, fours: int, settle: float) -> list[dict[str, Any]]:
    """Return the frames/s of alanine dipeptide with three pages open, in parts of those without.

    One run with one dashboard. Dashboard and pages are stopped (SIGSTOP) and go on in turns: on,
    off, off, on, so that what drifts meanwhile cancels out. Windows of the same kind differ by
    5 to 8 %, as the host's processors are not equally fast at all times: what the processes of a
    run do in a second of processor time changes together (correlation 0.95), with nothing stolen.
    So there are many windows; and beside the frames/s the walkers' processor time is compared,
    which differs by 2 to 4 % only.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-benchmark-"))
    windows: list[tuple[bool, dict[str, float]]] = []
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        run, first = stack.enter_context(_walkers(folder))
        client = stack.enter_context(StagerClient(resolve(None, run, timeout=60.0, environment={})))

        def frames() -> int:
            return sum(t.end for t in client.topics("frames/", schemas=False))

        while frames() < 2000:
            time.sleep(0.5)
        facts, dashboard = stack.enter_context(_dashboard(str(run)))
        pages = stack.enter_context(_pages(facts, *VIEWS.values()))
        watchers = (dashboard, pages)
        stack.callback(lambda: [p.resume() for p in watchers])
        numbers = json.loads((run / "processes.json").read_text())
        groups = {"dashboard": [dashboard], "pages": [pages],
                  "stager": [psutil.Process(numbers["stager"])]}  # fmt: skip
        groups["walkers"] = [
            p for p in first.children(recursive=True) if "bridge.runs.member" in p.cmdline()
        ]
        # Its start is not what is asked about: a page is left open all day.
        time.sleep(5.0)
        for number in range(4 * fours):
            watched = number % 4 in (0, 3)
            for p in watchers:
                p.resume() if watched else p.suspend()
            # What came meanwhile is read first.
            time.sleep(settle)
            window = _Window(groups, frames)
            time.sleep(seconds)
            windows.append((watched, window.close()))

    def cores(name: str, watched: bool = True) -> list[float]:
        return [taken[name] for kind, taken in windows if kind is watched]

    rates, shares = _ratios(windows, "frames"), _ratios(windows, "walkers")
    middle, between = _middle(rates)
    share, share_between = _middle(shares)
    more = float(np.mean(cores("stager")) - np.mean(cores("stager", False)))
    same = [float(np.std(np.log(cores("frames", kind)))) for kind in (True, False)]
    return [
        figure("frames/s with 3 pages open, of none", [middle], "", target=0.97, interval=between,
               fours=fours, seconds=seconds, windows_of_a_kind_differ_by=float(np.mean(same)),
               idle=float(np.mean(cores("idle"))), stolen=float(np.mean(cores("stolen")))),
        figure("the same: walkers' processor time", [share], "", interval=share_between),
        figure("the same: dashboard", cores("dashboard"), "cores", better="lower"),
        figure("the same: stager, more than without", [more], "cores", better="lower"),
        figure("the same: what stands for the pages", cores("pages"), "cores", better="lower"),
    ]  # fmt: skip


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    seconds = 10.0 if quick else 60.0
    figures = []
    with (
        stager_process() as (address, _),
        engine_process(address, "benchmarks.dashboard:pipeline"),
        _simulations(address, SIMULATIONS, first=POINTS // SIMULATIONS, rate=FRAMES_A_SECOND),
        _dashboard(address) as (facts, _process),
    ):
        _wait_for_points(facts, POINTS)
        rate, lag, shown = _watch_points(facts["url"], seconds, 1)
        figures += [
            figure("100,000 points, asked for 10 a second", [rate], "1/s", target=9.5,
                   points=shown),
            figure("100,000 points: lag", [lag], "ms", target=150, better="lower"),
        ]  # fmt: skip
        rate, lag, _shown = _watch_points(facts["url"], seconds / 2, 4)
        # Two messages: the one on its way, and the one that is being drawn.
        figures += [
            figure("page throttled 4 times: pictures", [rate], "1/s"),
            figure("page throttled 4 times: lag in messages", [lag * rate / 1e3], "messages",
                   target=2.0, better="lower"),
        ]  # fmt: skip
        views = [_first_view(facts["url"]) for _ in range(3 if quick else 5)]
        figures.append(figure("first view", views, "s", target=1.0, better="lower"))
    figures.append(figure("all assets, compressed", [_assets()], "MB", target=2.0, better="lower"))
    share = _server(seconds / 2)
    figures.append(
        figure("server, 200 simulations at 5 updates/s", [share], "cores", target=0.25,
               better="lower")
    )  # fmt: skip
    figures += _cost(2.0, 6 if quick else 30, 0.5)
    return result("dashboard", figures)
