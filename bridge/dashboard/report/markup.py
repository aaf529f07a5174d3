"""HTML and SVG from plain data: whatever a run brought along is escaped, without exception."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Markup", "data_block", "element", "table"]

_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")
"""Signs that turn the order of all that follows in a line; the page shows the same instead."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, attributes: Mapping[str, Any] | None = None, *children: object) -> Markup:
    """Return an element.

    Parameters
    ----------
    tag
        Its name.
    attributes
        None and False are left out, True stands alone. Numbers are rounded to hundredths, which is
        what a screen shows of them.
    children
        `Markup` as it is; anything else as escaped text; None is left out.
    """
    inside = "".join(_escape(child) for child in children if child is not None)
    words = "".join(_attribute(k, v) for k, v in (attributes or {}).items())
    return Markup(f"<{tag}{words}>{inside}</{tag}>")


def _escape(child: object) -> str:
    return child if isinstance(child, Markup) else html.escape(str(child).translate(_TURNING))


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{html.escape(str(value), quote=True)}"'


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, name: str, numbers: Iterable[int] = ()
) -> Markup:
    """Return a table; `numbers` are the columns that hold numbers. `name` is its test id."""
    right = set(numbers)
    top = [element("th", {"scope": "col", "class": _side(i, right)}, h) for i, h in enumerate(head)]
    body = [
        element("tr", {}, *(element("td", {"class": _side(i, right)}, c) for i, c in enumerate(r)))
        for r in rows
    ]
    inside = element("thead", {}, element("tr", {}, *top)) + element("tbody", {}, *body)
    whole = element("table", {"data-testid": name}, Markup(inside))
    return element("div", {"class": "scroll", "tabindex": "0"}, whole)


def _side(column: int, right: set[int]) -> str | None:
    return "number" if column in right else None


def data_block(name: str, value: Any) -> Markup:
    """Return JSON that a script in the page can read; nothing in it can end the block."""
    text = msgspec.json.encode(value).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')
