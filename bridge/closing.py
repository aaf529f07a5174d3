"""What is closed at the end of a ``with`` statement."""

from __future__ import annotations

from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing:
    """Mixin of whatever has a `close`: a ``with`` statement gives it, and closes it at its end."""

    __slots__ = ()

    def close(self) -> None:
        """Close it; more than once does no harm."""
        raise TypeError(f"{type(self).__name__} does not say how it is closed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
