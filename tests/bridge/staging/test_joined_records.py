"""Small records come in one buffer, to those who take them so."""

from __future__ import annotations

import numpy as np
import pytest

from bridge import StreamSchema
from bridge.errors import ProtocolError
from bridge.staging import Stager, StagerClient
from bridge.staging import messages as m
from bridge.staging.joined import SMALL, split_records
from bridge.staging.producer import Producer
from bridge.staging.session import Session

SIZES = (0, 1, 7, 8, 9, SMALL, SMALL + 1, 100, 200_000, 3)
RECORDS = [bytes([i + 1]) * size for i, size in enumerate(SIZES)]


@pytest.fixture
def address():
    with Stager().start() as stager, StagerClient(stager.address) as client:
        client.append("events", RECORDS[:4])
        client.append("others", RECORDS[4:])
        yield stager.address


def test_records_are_what_they_were(address):
    with StagerClient(address) as client, client.fetch({"events": 0, "others": 0}) as got:
        assert [bytes(r.data) for r in got.records if r.topic == "events"] == RECORDS[:4]
        assert [bytes(r.data) for r in got.records if r.topic == "others"] == RECORDS[4:]
        assert [r.offset for r in got.records if r.topic == "others"] == list(range(6))


@pytest.mark.parametrize(("joins", "buffers"), [(True, 1 + 2), (False, len(RECORDS))])
def test_only_who_asked_for_it_gets_them_together(address, joins, buffers):
    session = Session(address, joins=joins)
    request = m.Fetch(session.number(), {"events": 0, "others": 0})
    reply, arrived = session.ask(request, m.Fetched)
    session.close()
    assert len(arrived) == buffers
    assert isinstance(reply, m.FetchedJoined) is joins
    if joins:
        assert sorted(s for s in reply.joined if s >= 0) == sorted(s for s in SIZES if s <= SMALL)
        assert reply.joined.count(-1) == 2


def test_frames_that_travel_come_behind_them(address):
    x = np.arange(3.0)
    schema = StreamSchema.from_arrays({"x": x})
    with Producer("sim", schema, address=address, mapped=False) as producer:
        for step in range(5):
            producer.put(step, step * 1.0, {"x": x + step})
    positions = {"events": 0, "frames/sim": 0, "others": 0}
    with StagerClient(address, mapped=False) as client, client.fetch(positions) as got:
        rows = np.concatenate([batch["x"] for batch in got.batches])
        assert np.array_equal(rows, x + np.arange(5)[:, None])
        assert sorted(bytes(r.data) for r in got.records) == sorted(RECORDS)


def test_an_answer_that_does_not_add_up_is_refused():
    with pytest.raises(ProtocolError, match="16 bytes together; 15 came"):
        split_records([3, 8], iter([memoryview(bytes(15))]))
    with pytest.raises(ProtocolError, match="8 bytes together; 0 came"):
        split_records([3], iter([]))
