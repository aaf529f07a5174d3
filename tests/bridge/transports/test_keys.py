from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bridge.errors import AuthenticationFailed, ConfigError, HeadraceError, TransportError
from bridge.transports import Channel, Listener, open_channel, open_listener
from bridge.transports.curve import AllowList, ClientKeys, KeyPair, read_public, write_keys
from bridge.transports.protocol import MAX_QUEUED

PATIENCE = 30.0


@pytest.fixture
def stager() -> KeyPair:
    return KeyPair.generate()


@pytest.fixture
def client() -> KeyPair:
    return KeyPair.generate()


def problem_of(channel: Channel) -> HeadraceError:
    """Wait as a client does: receive returns early when there is a problem."""
    began = time.monotonic()
    assert channel.receive(PATIENCE) is None
    assert time.monotonic() - began < PATIENCE, "Nobody was woken by the problem."
    problem = channel.problem()
    assert problem is not None
    return problem


def send_until_refused(channel: Channel) -> None:
    for _ in range(3 * MAX_QUEUED):
        channel.send([b"x"])


def reaches(listener: Listener, channel: Channel) -> bool:
    channel.send([b"hello"])
    return listener.receive(PATIENCE) is not None


def test_a_key_that_is_not_on_the_list_is_refused(stager: KeyPair, client: KeyPair) -> None:
    keys = ClientKeys(client, stager.public)
    with (
        closing(open_listener("tcp://127.0.0.1:0", keys=stager, allowed=[])) as listener,
        closing(open_channel(listener.address, keys=keys)) as channel,
    ):
        problem = problem_of(channel)
        assert isinstance(problem, AuthenticationFailed)
        assert str(problem) == (
            f"The stager at {listener.address} does not let in the public key {client.public}; "
            f"put this client's .pub file into the stager's allow-list folder and connect again."
        )
        assert listener.receive(0) is None
        with pytest.raises(AuthenticationFailed, match="does not let in"):
            send_until_refused(channel)


def test_another_stager_than_the_one_expected(stager: KeyPair, client: KeyPair) -> None:
    keys = ClientKeys(client, KeyPair.generate().public)
    with (
        closing(
            open_listener("tcp://127.0.0.1:0", keys=stager, allowed=[client.public])
        ) as listener,
        closing(open_channel(listener.address, keys=keys)) as channel,
    ):
        problem = problem_of(channel)
        assert isinstance(problem, AuthenticationFailed)
        assert f"its public key is probably not {keys.stager}; get" in str(problem)


def test_a_client_without_keys(stager: KeyPair) -> None:
    with (
        closing(open_listener("tcp://127.0.0.1:0", keys=stager, allowed=[])) as listener,
        closing(open_channel(listener.address)) as channel,
    ):
        problem = problem_of(channel)
        assert isinstance(problem, AuthenticationFailed)
        assert "wants keys and this client has none; give it" in str(problem)


def test_a_stager_without_keys(stager: KeyPair, client: KeyPair) -> None:
    with (
        closing(open_listener("tcp://127.0.0.1:0")) as listener,
        closing(open_channel(listener.address, keys=ClientKeys(client, stager.public))) as channel,
    ):
        problem = problem_of(channel)
        assert isinstance(problem, AuthenticationFailed)
        assert "has no keys, but this client does; start" in str(problem)


def test_a_client_that_is_refused_does_not_disturb_the_others(
    stager: KeyPair, client: KeyPair
) -> None:
    with (
        closing(
            open_listener("tcp://127.0.0.1:0", keys=stager, allowed=[client.public])
        ) as listener,
        closing(open_channel(listener.address)) as plain,
        closing(open_channel(listener.address, keys=ClientKeys(client, stager.public))) as good,
    ):
        problem_of(plain)
        assert reaches(listener, good)
        assert good.problem() is None


@contextmanager
def stranger(answer: bytes) -> Iterator[str]:
    """Something else than a stager: it says one thing to whoever comes, and hangs up."""

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                if stop.is_set():
                    return
                # The other side may hang up first.
                with contextlib.suppress(OSError):
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{port}"
        stop.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
@pytest.mark.parametrize("with_keys", [False, True])
def test_what_is_no_stager_is_recognised(
    answer: bytes, with_keys: bool, stager: KeyPair, client: KeyPair
) -> None:
    keys = ClientKeys(client, stager.public) if with_keys else None
    with stranger(answer) as address, closing(open_channel(address, keys=keys)) as channel:
        problem = problem_of(channel)
        assert isinstance(problem, TransportError)
        assert channel.problem() is problem
        assert f"What listens at {address} breaks off every" in str(problem)
        assert str(problem).endswith("check the address.")


def test_key_files_let_a_client_in(tmp_path: Path) -> None:
    stager_key, stager_pub = write_keys(tmp_path / "stager", "stager")
    client_key, client_pub = write_keys(tmp_path / "client", "walker")
    assert [path.name for path in (client_key, client_pub)] == ["walker.key", "walker.pub"]
    assert client_key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "client").stat().st_mode & 0o777 == 0o700
    keys = ClientKeys.load(client_key, stager_pub)
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    with closing(
        open_listener("tcp://127.0.0.1:0", keys=KeyPair.load(stager_key), allowed=allowed)
    ) as listener:
        with closing(open_channel(listener.address, keys=keys)) as channel:
            assert isinstance(problem_of(channel), AuthenticationFailed)
        # The folder is read anew: no restart.
        (allowed / "walker.pub").write_bytes(client_pub.read_bytes())
        with closing(open_channel(listener.address, keys=keys)) as channel:
            assert reaches(listener, channel)
        (allowed / "walker.pub").unlink()
        with closing(open_channel(listener.address, keys=keys)) as channel:
            assert isinstance(problem_of(channel), AuthenticationFailed)


def test_other_tools_read_the_key_files(tmp_path: Path) -> None:
    from zmq.auth import load_certificate

    for path in write_keys(tmp_path, "walker"):
        public, secret = load_certificate(path)
        assert public.decode() == read_public(path)
        assert (secret is not None) == (path.suffix == ".key")


def test_key_files_are_never_overwritten(tmp_path: Path) -> None:
    write_keys(tmp_path, "walker")
    (tmp_path / "walker.key").unlink()
    with pytest.raises(ConfigError, match=r"walker\.pub exists already and is not overwritten; "):
        write_keys(tmp_path, "walker")
    assert not (tmp_path / "walker.key").exists()


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path, _ = write_keys(tmp_path, "walker")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"can be read by others than its owner; run: chmod 600"):
        KeyPair.load(path)


def test_the_public_file_holds_no_secret(tmp_path: Path) -> None:
    _, path = write_keys(tmp_path, "walker")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"holds no secret key; name the \.key file"):
        KeyPair.load(path)


@pytest.mark.parametrize("text", ["", 'curve\n    public-key = "short"\n', "\udcff"])
def test_a_file_that_is_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "walker.pub"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"walker\.pub"):
        read_public(path)


def test_a_key_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the key file .*: No such file"):
        KeyPair.load(tmp_path / "walker.key")


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Cannot write .*: "):
        write_keys(tmp_path / "file", "walker")


def test_a_secret_is_not_shown() -> None:
    pair = KeyPair.generate()
    assert pair.secret not in repr(ClientKeys(pair, pair.public))


def test_a_broken_file_on_the_list_shuts_out_its_owner_alone(
    tmp_path: Path, client: KeyPair
) -> None:
    _, good = write_keys(tmp_path, "b-good")
    (tmp_path / "a-broken.pub").write_text("half a k")
    (tmp_path / "c-broken.pub").write_text("half a k")
    allowed = AllowList(tmp_path)
    assert allowed.allows(read_public(good))
    assert not allowed.allows(client.public)


def test_a_file_that_changed_is_read_anew(tmp_path: Path, client: KeyPair) -> None:
    _, path = write_keys(tmp_path, "walker")
    allowed = AllowList(tmp_path)
    before = read_public(path)
    assert allowed.allows(before)
    path.write_text(path.read_text().replace(before, client.public))
    os.utime(path, ns=(1, 1))
    assert allowed.allows(client.public)
    assert not allowed.allows(before)


def test_a_list_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"folder .*/none does not exist; make it"):
        AllowList(tmp_path / "none")


def test_a_malformed_key_on_the_list() -> None:
    with pytest.raises(ConfigError, match="'abc' is no public key"):
        AllowList(["abc"])
