"""Messages of the WebSocket, as they are read on the other side."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bridge.dashboard.wire import ALIGNMENT, decode_table, encode_message, pack

ANY = st.one_of(
    *(
        arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
        for kind in ("<f4", "<f8", ">f4", "<u2", "<i8", "<u1")
    )
)


@given(st.dictionaries(st.text(max_size=8), ANY, max_size=4), st.text(max_size=30))
def test_a_table_comes_back_and_every_array_is_aligned(
    given_arrays: dict[str, np.ndarray], text: str
) -> None:
    body = pack(({"text": text}, given_arrays))
    message = encode_message(body, subscription=7, seq=3, stamp=1.5, channel="points", skipped=2)
    assert isinstance(message, bytes)
    header, found = decode_table(message)
    assert (header["id"], header["seq"], header["stamp"], header["channel"]) == (
        7,
        3,
        1.5,
        "points",
    )
    assert header["meta"] == {"text": text}
    assert header["skipped"] == 2
    assert list(found) == list(given_arrays)
    for name, array in given_arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert all(place["offset"] % ALIGNMENT == 0 for place in header["arrays"])
    length = int.from_bytes(message[:4], "little")
    assert (len(message) - len(body.payload or b"")) == -(-(4 + length) // ALIGNMENT) * ALIGNMENT


def test_what_is_not_a_table_is_text_and_what_is_not_finite_is_null() -> None:
    body = pack({"lag": math.nan, "names": ["</script>"]})
    message = encode_message(body, subscription=1, seq=1, stamp=2.0, channel="overview")
    assert isinstance(message, str)
    assert json.loads(message)["data"] == {"lag": None, "names": ["</script>"]}


@pytest.mark.parametrize("array", [np.arange(6)[::2], np.asfortranarray(np.ones((2, 3)))])
def test_arrays_that_are_not_contiguous_are_sent_as_they_look(array: np.ndarray) -> None:
    message = encode_message(pack(({}, {"x": array})), subscription=1, seq=1, stamp=0, channel="c")
    assert isinstance(message, bytes)
    np.testing.assert_array_equal(decode_table(message)[1]["x"], array)
