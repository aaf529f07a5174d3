"""What only the ZeroMQ transport has: sockets that outlive their owner, and other programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing

import pytest
import zmq

from bridge.errors import ConnectionLost
from bridge.transports import open_channel, open_listener
from bridge.transports.zeromq import ZmqChannel, ZmqListener

PATIENCE = 30.0


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


SEND_AND_END = """
import sys
from bridge.transports import open_channel
channel = open_channel(sys.argv[1])
for number in range(200):
    channel.send([b"%d" % number, bytes(100_000)])
if sys.argv[2] == "closed":
    channel.close()
"""


@pytest.mark.parametrize("end", ["closed", "left open"])
def test_what_is_queued_at_the_end_of_a_process_is_sent(end: str) -> None:
    with closing(open_listener("tcp://127.0.0.1:0")) as listener:
        run(SEND_AND_END, listener.address, end)
        for number in range(200):
            message = listener.receive(PATIENCE)
            assert message is not None
            assert bytes(message[1][0]) == b"%d" % number


WAIT_AND_END = """
import sys, threading
from bridge.transports import open_listener
from bridge.errors import ConnectionLost
listener = open_listener("tcp://127.0.0.1:0")
begun = threading.Event()
def wait():
    begun.set()
    try:
        listener.receive(1e9)
    except ConnectionLost:
        pass
threading.Thread(target=wait, daemon=True).start()
begun.wait()
print("end")
"""


def test_a_thread_that_waits_does_not_keep_the_process() -> None:
    assert run(WAIT_AND_END) == "end\n"


def test_a_process_that_has_nobody_to_reach_ends() -> None:
    with closing(open_listener("tcp://127.0.0.1:0")) as listener:
        address = listener.address
    assert run(SEND_AND_END, address, "left open") == ""


def test_an_end_that_was_forgotten_is_closed_with_a_warning() -> None:
    forgotten = open_listener("tcp://127.0.0.1:0")
    address = forgotten.address
    told = (
        rf"ZmqListener\('{address}'\), opened in MainThread at test_zeromq\.py:\d+ "
        r"\(test_an_end_that_was_forgotten.*\), was never closed; use a with statement"
    )
    with pytest.warns(ResourceWarning, match=told):
        del forgotten
    open_listener(address).close()


def test_a_message_without_parts_is_refused() -> None:
    with (
        closing(open_listener("tcp://127.0.0.1:0")) as listener,
        closing(open_channel(listener.address)) as channel,
    ):
        with pytest.raises(ValueError, match="at least one part"):
            channel.send([])
        with pytest.raises(ValueError, match="at least one part"):
            listener.send(b"nobody", [])


def test_a_stranger_who_sends_nothing_is_passed_over() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, closing(open_listener("tcp://127.0.0.1:0")) as listener:
        with context.socket(zmq.PUSH) as stranger, closing(open_channel(listener.address)) as own:
            stranger.linger = 0
            stranger.connect(listener.address)
            own.send([b"hello"])
            message = listener.receive(PATIENCE)
            assert message is not None
            assert bytes(message[1][0]) == b"hello"
        assert listener.statistics().received == 1


class Interrupting(ZmqChannel):
    """A channel whose user presses Ctrl-C before the second part."""

    def interrupt(self) -> None:
        send = self._socket.send
        calls: list[int] = []

        def send_once(*arguments: object) -> object:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return send(*arguments)  # type: ignore[arg-type]

        self._socket.__dict__["send"] = send_once


def parts_of(message: tuple[bytes, Sequence[memoryview]] | None) -> list[bytes]:
    assert message is not None
    return [bytes(part) for part in message[1]]


def test_a_message_that_was_interrupted_is_never_mixed_with_the_next() -> None:
    with (
        closing(ZmqListener("tcp://127.0.0.1:0")) as listener,
        closing(Interrupting(listener.address)) as channel,
        closing(open_channel(listener.address)) as other,
    ):
        channel.send([b"whole"])
        assert parts_of(listener.receive(PATIENCE)) == [b"whole"]
        channel.interrupt()
        with pytest.raises(KeyboardInterrupt):
            channel.send([b"half", b"other half"])
        with pytest.raises(ConnectionLost, match="was interrupted in the middle of a message; "):
            channel.send([b"next"])
        channel.close()
        other.send([b"other"])
        assert parts_of(listener.receive(PATIENCE)) == [b"other"]
