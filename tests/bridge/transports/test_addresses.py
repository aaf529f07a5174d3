from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import AddressInUse, ConfigError, TransportError
from bridge.transports import open_channel, open_listener
from bridge.transports.addresses import parse_tcp
from bridge.transports.curve import ClientKeys, KeyPair


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="headrace-") as directory:
        yield Path(directory)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:5555",
        "udp://127.0.0.1:5555",
        "http://node17",
        "tcp:/127.0.0.1:1",
        "inproc://x",
    ],
)
def test_an_unknown_scheme(address: str) -> None:
    for open_end in (open_channel, open_listener):
        with pytest.raises(ConfigError, match=r"must begin with ipc://, memory:// or tcp://\."):
            open_end(address)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:x",
        "tcp://a b:1",
        "tcp://1:2:3",
        "tcp://127.0.0.1:",
        "tcp://:5555",
        "tcp://[::1:1",
        "tcp://::1:1",
    ],
)
def test_a_malformed_address(address: str) -> None:
    for open_end in (open_channel, open_listener):
        with pytest.raises(ConfigError, match=r"must be of the form tcp://HOST:PORT, such as"):
            open_end(address)


@pytest.mark.parametrize("port", [65536, 99999])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(ConfigError, match=r"ports end at 65535\."):
        open_listener(f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://*:5555", "tcp://0.0.0.0:5555"])
def test_an_address_that_is_only_for_listening(address: str) -> None:
    with pytest.raises(ConfigError, match="is an address to listen at, not one to reach"):
        open_channel(address)


def test_a_host_that_does_not_exist() -> None:
    for open_end in (open_channel, open_listener):
        with pytest.raises(ConfigError, match=r"The host 'nobody\.invalid' of .* is not known"):
            open_end("tcp://nobody.invalid:5555")


@pytest.mark.parametrize(
    "address", ["tcp://*:0", "tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:0", "tcp://*:*"]
)
def test_other_machines_are_let_in_with_keys_only(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_listener(address)
    assert "can be reached from other machines" in str(caught.value)
    assert "make keys with `headrace keys`" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.7.6", "::1", "localhost")),
        *((host, False) for host in ("10.0.0.1", "*", "0.0.0.0", "::", "8.8.8.8")),
    ],
)
def test_which_hosts_stay_on_the_machine(host: str, is_loopback: bool) -> None:
    text = f"tcp://[{host}]:1" if ":" in host else f"tcp://{host}:1"
    parsed = parse_tcp(text, to_bind=True)
    assert str(parsed) == text
    assert parsed.is_loopback() is is_loopback


def test_a_name_of_this_machine_counts_as_what_it_stands_for() -> None:
    assert parse_tcp("tcp://localhost:1", to_bind=True).resolve()[0] == "127.0.0.1"
    with closing(open_listener("tcp://localhost:0")) as listener:
        assert listener.address.startswith("tcp://localhost:")
        with closing(open_channel(listener.address)) as channel:
            channel.send([b"hello"])
            assert listener.receive(30) is not None


def test_an_address_of_another_machine() -> None:
    keys = KeyPair.generate()
    with pytest.raises(ConfigError, match=r"tcp://192\.0\.2\.1:0 is not an address of this mach"):
        open_listener("tcp://192.0.2.1:0", keys=keys, allowed=[])


def test_a_listener_at_all_interfaces_is_reached_by_the_name_of_the_machine() -> None:
    keys = KeyPair.generate()
    with closing(open_listener("tcp://*:0", keys=keys, allowed=[])) as listener:
        assert listener.address.startswith(f"tcp://{socket.gethostname()}:")
        assert not listener.address.endswith(":0")


def test_a_port_in_use_by_any_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(AddressInUse) as caught:
            open_listener(address)
    assert str(caught.value) == (
        f"Another process listens at {address}; stop it, or choose another port "
        f"(port 0 takes any free one)."
    )


def test_a_socket_file_is_for_its_owner_alone(short_path: Path) -> None:
    path = short_path / "stager"
    with closing(open_listener(f"ipc://{path}")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_a_socket_file_that_a_dead_process_left_behind_is_replaced(short_path: Path) -> None:
    path = short_path / "stager"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with (
        closing(open_listener(f"ipc://{path}")) as listener,
        closing(open_channel(listener.address)) as channel,
    ):
        channel.send([b"hello"])
        assert listener.receive(30) is not None


def test_a_file_that_is_no_socket_is_kept(short_path: Path) -> None:
    path = short_path / "results.txt"
    path.write_text("precious")
    with pytest.raises(ConfigError, match=r"results\.txt is a file and no socket; choose another"):
        open_listener(f"ipc://{path}")
    assert path.read_text() == "precious"


def test_a_socket_in_a_folder_that_does_not_exist(short_path: Path) -> None:
    with pytest.raises(TransportError, match=r"Cannot listen at .*/none/stager: No such file"):
        open_listener(f"ipc://{short_path}/none/stager")


@pytest.mark.parametrize("address", ["ipc://", "ipc://@abstract", "ipc://*", "ipc://a\0b"])
def test_a_path_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match="give the path of a file to be"):
        open_listener(address)


def test_a_path_that_is_too_long_for_a_socket() -> None:
    path = "/tmp/" + "x" * 103
    with pytest.raises(ConfigError, match="has 108 bytes, a socket's may have 107; choose"):
        open_listener(f"ipc://{path}")
    assert not os.path.exists(path)


def test_keys_and_allow_list_belong_together() -> None:
    for arguments in ({"keys": KeyPair.generate()}, {"allowed": ["x"]}):
        with pytest.raises(ConfigError, match="give both or neither"):
            open_listener("tcp://127.0.0.1:0", **arguments)  # type: ignore[arg-type]


def test_memory_takes_no_keys() -> None:
    pair = KeyPair.generate()
    with pytest.raises(ConfigError, match="memory://x stays in this process and takes no keys"):
        open_listener("memory://x", keys=pair, allowed=[])
    with pytest.raises(ConfigError, match="memory://x stays in this process and takes no keys"):
        open_channel("memory://x", keys=ClientKeys(pair, pair.public))


def test_a_channel_in_memory_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="'memory://' names nobody"):
        open_channel("memory://")
