"""The supervisor, driven without a process: every way a run may go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.runs.configuration import RestartsTable
from bridge.runs.supervision import ENGINE, STAGER, Action, Supervisor

MEMBERS = ("walker-0", "walker-1")


class Driver:
    """Carries out actions on paper: knows who runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.running: set[str] = set()
        self.told: list[str] = []
        self.stopped: list[str] = []
        self.killed: list[str] = []
        self.reports = 0
        self.now = 0.0
        self.do(supervisor.begin(self.now))

    def do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action.kind:
                case "start":
                    assert action.process not in self.running
                    self.running.add(action.process)
                case "stop":
                    self.stopped.append(action.process)
                case "kill":
                    self.killed.append(action.process)
                case "report":
                    self.reports += 1
                    self.do(self.supervisor.reported(self.now))
                case "tell":
                    self.told.append(action.message)

    def exit(self, name: str, code: int = 0, why: str = "") -> None:
        self.running.discard(name)
        self.do(self.supervisor.exited(name, code, self.now, why))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.supervisor.tick(self.now))

    def begin(self) -> Driver:
        self.do(self.supervisor.ready(STAGER, self.now))
        for name in (ENGINE, *self.supervisor.trainers):
            self.do(self.supervisor.ready(name, self.now))
        return self


def make(**changes: object) -> Driver:
    arguments = {"restarts": RestartsTable(member=1, engine=1, stager=1), "drain": 10.0}
    return Driver(Supervisor(MEMBERS, **{**arguments, **changes}))  # type: ignore[arg-type]


def test_members_wait_for_the_engine_and_the_engine_for_the_stager() -> None:
    driver = make()
    assert driver.running == {STAGER}
    driver.do(driver.supervisor.ready(STAGER, 0.0))
    assert driver.running == {STAGER, ENGINE}
    driver.do(driver.supervisor.ready(ENGINE, 0.0))
    assert driver.running == {STAGER, ENGINE, *MEMBERS}
    assert driver.supervisor.phase == "running"


def test_a_run_that_goes_well_ends_in_order() -> None:
    driver = make().begin()
    driver.exit("walker-0")
    assert driver.stopped == []
    driver.exit("walker-1")
    assert driver.stopped == [ENGINE]
    assert driver.supervisor.phase == "finishing"
    driver.exit(ENGINE)
    assert driver.reports == 1
    assert driver.stopped == [ENGINE, STAGER]
    driver.exit(STAGER)
    assert driver.supervisor.ended
    assert (driver.supervisor.outcome, driver.supervisor.failures) == ("finished", [])


def test_an_engine_that_has_read_everything_may_end_first() -> None:
    driver = make().begin()
    driver.exit(ENGINE)
    driver.exit("walker-0")
    driver.exit("walker-1")
    assert driver.stopped == [STAGER]


def test_members_that_go_on_without_an_engine_are_told_to_stop() -> None:
    driver = make().begin()
    driver.exit(ENGINE)
    driver.wait(10.0)
    assert driver.stopped == list(MEMBERS)


def test_a_member_that_fails_is_started_again_as_often_as_stated() -> None:
    driver = make().begin()
    driver.exit("walker-0", -9)
    driver.wait(0.0)
    assert "walker-0" in driver.running
    assert driver.told == ["walker-0 was ended by SIGKILL; starting it again (restart 1)."]
    driver.exit("walker-0", 1)
    assert driver.supervisor.phase == "draining"
    assert driver.supervisor.outcome == "failed"
    assert driver.supervisor.failures == ["walker-0 ended with exit code 1, after 1 restart."]


def test_what_a_process_ended_with_is_told_as_the_reason() -> None:
    driver = make(restarts=RestartsTable(member=1)).begin()
    driver.exit("walker-0", 1, "The bond broke.")
    said = "walker-0 ended with exit code 1: The bond broke. Starting it again (restart 1)."
    assert driver.told == [said]
    driver.wait(0.0)
    driver.exit("walker-0", 1)
    assert driver.supervisor.reason == "walker-0 ended with exit code 1, after 1 restart."
    driver = make().begin()
    driver.exit(ENGINE, 2, "There is no column 'x'.")
    assert driver.supervisor.reason == "The engine ended with exit code 2: There is no column 'x'."


def test_the_first_failure_is_the_reason_and_is_told_once() -> None:
    driver = make().begin()
    driver.exit("walker-0", 2, "There is no such file.")
    driver.exit("walker-1", 2, "There is none here, either.")
    said = "walker-0 ended with exit code 2: There is no such file."
    assert driver.supervisor.reason == said
    assert driver.told[:2] == [said, "Ending the run in good order."]


def test_others_may_go_on_without_a_member() -> None:
    driver = make(when_member_fails="go_on", restarts=RestartsTable(member=0)).begin()
    driver.exit("walker-0", 1)
    assert driver.supervisor.phase == "running"
    driver.exit("walker-1")
    driver.exit(ENGINE)
    driver.exit(STAGER)
    assert driver.supervisor.outcome == "failed"
    assert driver.reports == 1


def test_a_configuration_to_blame_is_not_tried_again() -> None:
    driver = make(when_member_fails="go_on").begin()
    driver.exit("walker-0", 2)
    assert driver.supervisor.phase == "draining"


def test_an_engine_that_fails_is_started_again_and_then_ends_the_run() -> None:
    driver = make().begin()
    driver.exit(ENGINE, 1)
    driver.wait(0.0)
    assert ENGINE in driver.running
    driver.exit(ENGINE, 1)
    assert driver.stopped == list(MEMBERS)
    driver.exit("walker-0")
    driver.exit("walker-1")
    assert driver.reports == 1


def test_an_engine_that_comes_back_late_is_told_to_finish() -> None:
    driver = make().begin()
    driver.exit(ENGINE, -9)
    driver.exit("walker-0")
    driver.exit("walker-1")
    assert driver.supervisor.phase == "finishing"
    driver.wait(0.0)
    assert ENGINE in driver.running
    assert driver.stopped[-1] == ENGINE


def test_a_stager_with_topics_in_memory_takes_the_run_with_it() -> None:
    driver = make().begin()
    driver.exit(STAGER, -9)
    assert driver.supervisor.ended
    assert set(driver.killed) == {ENGINE, *MEMBERS}
    assert "in memory and are lost" in driver.supervisor.reason


def test_a_durable_stager_is_started_again() -> None:
    driver = make(durable=True).begin()
    driver.exit(STAGER, -9)
    driver.wait(0.0)
    assert STAGER in driver.running
    assert driver.supervisor.phase == "running"
    driver.exit(STAGER, -9)
    assert driver.supervisor.ended


def test_one_interrupt_ends_in_order_and_two_at_once() -> None:
    driver = make().begin()
    driver.do(driver.supervisor.interrupt(0.0))
    assert driver.stopped == list(MEMBERS)
    assert driver.supervisor.phase == "draining"
    driver.do(driver.supervisor.interrupt(0.0))
    assert driver.supervisor.ended
    assert set(driver.killed) == {STAGER, ENGINE, *MEMBERS}
    assert driver.supervisor.outcome == "interrupted"


def test_an_interrupt_while_the_run_ends_says_what_it_waits_for() -> None:
    driver = make().begin()
    driver.exit("walker-0")
    driver.exit("walker-1")
    driver.do(driver.supervisor.interrupt(0.0))
    assert "up to 10 s for the engine to read what is left" in driver.told[-1]


def test_an_interrupt_before_anything_runs_ends_the_run() -> None:
    driver = make()
    driver.do(driver.supervisor.interrupt(0.0))
    assert driver.stopped == [STAGER]
    driver.exit(STAGER)
    assert driver.supervisor.ended


def test_whoever_does_not_end_in_time_is_killed() -> None:
    driver = make().begin()
    driver.do(driver.supervisor.stop("limit_reached", "The limit is reached.", 0.0))
    driver.exit("walker-0")
    driver.wait(10.0)
    assert driver.killed == ["walker-1"]
    assert driver.supervisor.failures == [
        "walker-1 did not end within 10 s of being told to; killed."
    ]


@pytest.mark.parametrize("phase", ["finishing", "draining"])
def test_an_engine_that_is_frozen_while_the_run_closes_is_not_started_again(phase: str) -> None:
    driver = make(restarts=RestartsTable(member=1, engine=3, stager=1)).begin()
    if phase == "draining":
        driver.do(driver.supervisor.stop("limit_reached", "The limit is reached.", 0.0))
    driver.exit("walker-0")
    driver.exit("walker-1")
    assert ENGINE in driver.stopped
    driver.wait(10.0)
    assert driver.killed == [ENGINE]
    driver.exit(ENGINE, -9)
    driver.wait(5.0)
    assert ENGINE not in driver.running
    assert driver.reports == 1
    driver.exit(STAGER)
    assert driver.supervisor.ended
    # One sentence, told once.
    sentence = (
        "The engine did not end within 10 s of being told to; killed; what it had not read is not "
        "analysed."
    )
    assert driver.supervisor.failures == [sentence]
    assert [t for t in driver.told if "engine" in t] == [sentence]
    assert driver.supervisor.restarted[ENGINE] == 0


def test_an_engine_that_fails_again_and_again_does_not_outlast_the_time_limit() -> None:
    driver = make(restarts=RestartsTable(engine=100)).begin()
    driver.exit("walker-0")
    driver.exit("walker-1")
    while ENGINE in driver.running or driver.supervisor.state(ENGINE) == "restarting":
        assert driver.now < 20.0
        if ENGINE in driver.running:
            driver.exit(ENGINE, 1)
        driver.wait(1.0)
    assert driver.now <= 11.0
    assert driver.reports == 1
    assert driver.supervisor.failures == [
        "The engine had failed, and there is no time to start it again; what it had not read is "
        "not analysed."
    ]


def test_whoever_is_killed_has_one_sentence() -> None:
    driver = trained().begin()
    driver.do(driver.supervisor.stop("limit_reached", "The limit is reached.", 0.0))
    driver.exit("walker-0")
    driver.wait(10.0)
    driver.exit("walker-1", -9)
    driver.exit(ENGINE)
    driver.wait(10.0)
    driver.exit("trainer-a", -9)
    assert driver.reports == 1
    assert driver.supervisor.failures == [
        f"{name} did not end within 10 s of being told to; killed."
        for name in ("walker-1", "trainer-a")
    ]


def test_a_target_is_the_outcome_and_members_have_time_to_follow() -> None:
    driver = make().begin()
    driver.do(driver.supervisor.target_reached("Found.", 0.0))
    assert driver.stopped == []
    driver.wait(10.0)
    assert driver.stopped == list(MEMBERS)
    assert driver.supervisor.outcome == "target_reached"


def test_a_stager_that_never_listens_ends_the_run() -> None:
    driver = make(start=5.0)
    driver.wait(5.0)
    assert driver.supervisor.ended
    assert driver.killed == [STAGER]
    assert driver.supervisor.reason == "The stager was not listening after 5 s."


def test_an_engine_that_is_never_heard_of_ends_the_run() -> None:
    driver = make(start=5.0)
    driver.do(driver.supervisor.ready(STAGER, 0.0))
    driver.wait(5.0)
    assert driver.stopped == [ENGINE]
    assert driver.supervisor.outcome == "failed"


EVENTS = st.one_of(
    st.tuples(st.just("exit"), st.sampled_from([STAGER, ENGINE, *MEMBERS]),
              st.sampled_from([0, 0, 1, 2, -9])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 3.0, 11.0]), st.just(0)),
    st.tuples(st.just("ready"), st.sampled_from([STAGER, ENGINE]), st.just(0)),
    st.tuples(st.just("interrupt"), st.just(""), st.just(0)),
    st.tuples(st.just("target"), st.just(""), st.just(0)),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.booleans(), st.sampled_from(["stop", "go_on"]))
def test_every_run_comes_to_an_end_and_leaves_nobody_behind(
    events: list[tuple[str, object, int]], durable: bool, policy: str
) -> None:
    driver = make(durable=durable, when_member_fails=policy)
    supervisor = driver.supervisor
    for kind, what, code in events:
        if supervisor.ended:
            break
        if kind == "exit" and what in driver.running:
            driver.exit(str(what), code)
        elif kind == "wait":
            driver.wait(float(str(what)))
        elif kind == "ready" and what in driver.running:
            driver.do(supervisor.ready(str(what), driver.now))
        elif kind == "interrupt":
            driver.do(supervisor.interrupt(driver.now))
        elif kind == "target":
            driver.do(supervisor.target_reached("Found.", driver.now))
    # From here on nobody ends of his own will: told to, or killed, or when members are done.
    for _ in range(40):
        if supervisor.ended:
            break
        for name in [*MEMBERS, ENGINE, STAGER]:
            gone = name in driver.killed or (name in driver.stopped and name != "walker-1")
            if name in driver.running and gone and not supervisor.ended:
                driver.exit(name, -9 if name in driver.killed else 0)
        if not supervisor.ended and supervisor.phase == "running":
            driver.do(supervisor.stop("limit_reached", "Enough.", driver.now))
        driver.wait(61.0)
    assert supervisor.ended, (supervisor.phase, driver.running)
    assert driver.running <= set(driver.killed)
    assert driver.reports <= 1
    assert (supervisor.outcome == "failed") <= bool(supervisor.failures)


@pytest.mark.parametrize(
    ("phase", "words"),
    [("running", "for the members to finish"), ("ended", "for nothing")],
)
def test_it_says_what_it_waits_for(phase: str, words: str) -> None:
    driver = make().begin()
    driver.supervisor.phase = phase  # type: ignore[assignment]
    assert driver.supervisor.waiting_for == words


def trained(**changes: object) -> Driver:
    return make(
        trainers=("trainer-a",), restarts=RestartsTable(member=1, engine=1, trainer=1), **changes
    )


def test_trainers_begin_before_the_members_and_end_before_the_report() -> None:
    driver = trained()
    driver.do(driver.supervisor.ready(STAGER, 0.0))
    assert {"trainer-a", ENGINE} < driver.running
    driver.do(driver.supervisor.ready(ENGINE, 0.0))
    # What is simulated before it listens would be lost to it.
    assert not driver.running & set(MEMBERS)
    driver.do(driver.supervisor.ready("trainer-a", 0.0))
    assert set(MEMBERS) < driver.running
    for name in MEMBERS:
        driver.exit(name)
    assert driver.stopped == [ENGINE, "trainer-a"]
    driver.exit(ENGINE)
    assert driver.reports == 0
    assert "trainer-a" in driver.supervisor.waiting_for
    driver.exit("trainer-a")
    assert driver.reports == 1
    driver.exit(STAGER)
    assert driver.supervisor.outcome == "finished"
    assert driver.supervisor.failures == []


def test_a_trainer_is_started_again_and_then_gone_on_without() -> None:
    driver = trained().begin()
    driver.exit("trainer-a", -9)
    driver.wait(1.0)
    assert "trainer-a" in driver.running
    driver.exit("trainer-a", 1)
    driver.wait(60.0)
    assert "trainer-a" not in driver.running
    assert driver.supervisor.phase == "running"
    assert "after 1 restart." in driver.supervisor.failures[0]
    for name in MEMBERS:
        driver.exit(name)
    driver.exit(ENGINE)
    assert driver.reports == 1


def test_a_trainer_that_does_not_end_is_killed() -> None:
    driver = trained().begin()
    for name in MEMBERS:
        driver.exit(name)
    driver.exit(ENGINE)
    driver.wait(11.0)
    assert driver.killed == ["trainer-a"]
    driver.exit("trainer-a", -9)
    assert driver.reports == 1


def test_a_trainer_that_waits_to_be_started_again_is_not_waited_for() -> None:
    driver = trained().begin()
    driver.exit("trainer-a", 1)
    for name in MEMBERS:
        driver.exit(name)
    driver.exit(ENGINE)
    assert driver.reports == 1


@pytest.mark.parametrize("how", ["fails", "is late"])
def test_members_begin_without_a_trainer_that_does_not_come(how: str) -> None:
    driver = trained()
    driver.do(driver.supervisor.ready(STAGER, 0.0))
    driver.do(driver.supervisor.ready(ENGINE, 0.0))
    if how == "fails":
        driver.exit("trainer-a", 1)
        driver.wait(1.0)
        driver.exit("trainer-a", 1)
    else:
        driver.wait(61.0)
    assert set(MEMBERS) < driver.running
    assert driver.supervisor.phase == "running"
