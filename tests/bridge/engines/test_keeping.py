"""An engine in a script, with nobody beside it, carries out words and defaults by itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bridge.commands import ApprovalWord, Decision
from bridge.engines import LocalEngine
from bridge.errors import ConfigError
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, Guard, GuardMaker, GuardRules, KeeperMaker, read_ledger
from bridge.testing.sources import END, PAUSE, ScriptedSource
from tests.bridge.engines.common import check_words, make_streams, read, say
from tests.bridge.engines.mortal import TUNABLE
from tests.bridge.engines.pipelines import EachTenth, make_pipeline

LIMIT = 60.0


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


@contextlib.contextmanager
def script(stager: Stager, rules: GuardRules, frames: int) -> Iterator[None]:
    """Run an engine with a keeper over a stream that waits behind its frames."""
    [(name, batch)] = make_streams(frames, ["a"]).items()
    source = ScriptedSource(
        name, [batch, PAUSE, END], address=stager.address, capabilities=TUNABLE
    ).start()
    source.wait_until_paused()
    with contextlib.ExitStack() as stack:

        def connect(name: str) -> StagerClient:
            return stack.enter_context(StagerClient(stager.address, name=name))

        guard = KeeperMaker(rules)(connect)
        engine = LocalEngine(make_pipeline(("policy", EachTenth())), connect("engine"), guard=guard)
        thread = threading.Thread(target=engine.run)
        thread.start()
        try:
            yield
        finally:
            source.resume()
            source.join()
            thread.join(LIMIT)
            assert not thread.is_alive()


@pytest.mark.parametrize("default", ["approve", "deny"])
def test_the_default_is_carried_out_once_also_beside_a_desk(
    stager: Stager, reader: StagerClient, default: ApprovalWord
) -> None:
    rules = GuardRules(approval=("set",), approval_timeout=0.2, approval_default=default)
    applied = ("sent", "applied", 1) if default == "approve" else ("denied", None, 0)

    def settled() -> bool:
        # Somebody else keeps as well.
        desk.tick()
        lines = [x for x in read_ledger(reader) if x.approval and x.approval.by]
        return [(x.verdict, x.outcome, x.answers) for x in lines] == [applied] * 4

    with Desk(lambda: StagerClient(stager.address)) as desk, script(stager, rules, 40):
        wait_for(settled)
    lines = read_ledger(reader).lines()
    assert [(x.verdict, x.outcome, x.answers) for x in lines] == [applied] * 4
    assert {x.approval.by for x in lines if x.approval} == {"time limit"}
    assert len(read(reader, "decisions", Decision)) == 8


def test_words_are_carried_out_and_the_end_denies_the_rest(
    stager: Stager, reader: StagerClient
) -> None:
    with script(stager, GuardRules(approval=("set",)), 40):
        wait_for(lambda: len(read_ledger(reader)) == 4)
        yes, no, *_ = [line.id for line in read_ledger(reader)]
        say(reader, yes, "approve")
        say(reader, no, "deny")
        wait_for(lambda: any(line.answers for line in read_ledger(reader)))
    check_words(reader, {yes: "approve", no: "deny"})
    # What the rules are is known to whoever decides beside it, also without a checkpoint.
    assert read(reader, "rules/test", GuardRules)[0].approval == ("set",)


def test_a_guard_that_asks_people_in_vain_is_refused(
    client: StagerClient, reader: StagerClient
) -> None:
    rules = GuardRules(approval=("set", "restart"))

    def make(guard: Guard) -> LocalEngine:
        return LocalEngine(make_pipeline(), client, guard=guard)

    with pytest.raises(ConfigError, match=r"'test' have people asked before 'set', 'restart'.*Kee"):
        make(GuardMaker(rules)(lambda name: reader))
    make(GuardMaker(rules, kept=True)(lambda name: reader))
    make(GuardMaker()(lambda name: reader))
