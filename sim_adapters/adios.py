"""A link that writes ADIOS2: SST or BP5, particles by openPMD's convention, with units.

Any reader of ADIOS2 or openPMD reads what it sends, and so does ``headrace ingest``. ADIOS2 has no
way back: commands are not carried. Whoever is to be steered names a stager as well, and both get
the same frames.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from bridge.commands import Capability
from bridge.errors import HeadraceError, SteeringError
from bridge.schema import StreamSchema
from bridge.staging.adios import Output
from bridge.staging.messages import StreamOptions
from bridge.staging.producer import Producer
from sim_adapters.link import Link

__all__ = ["AdiosLink"]

_log = logging.getLogger(__name__)


class AdiosLink(Link):
    """As `sim_adapters.link.Link`, but frames go to ADIOS2; made by `sim_adapters.link.link`.

    A step that an SST reader has no room for waits, or is left out, by the link's policy; while
    nobody reads, steps are thrown away. A file that exists is gone on with, in a new epoch.

    Parameters
    ----------
    contact
        Contact of the SST stream, or a file that ends in ``.bp``.
    address
        Of a stager that gets the frames as well; empty for none.

    Raises
    ------
    SteeringError
        If there are capabilities, and no stager whose commands could use them.
    """

    def __init__(
        self,
        simulation: str,
        *,
        contact: str,
        address: str = "",
        options: StreamOptions | None = None,
        capabilities: Sequence[Capability] = (),
        patience: float = 600.0,
        **more: Any,
    ) -> None:
        if capabilities and not address:
            names = ", ".join(f"{c.kind} {c.parameter}".strip() for c in capabilities)
            raise SteeringError(
                f"Commands are not carried over ADIOS2, so nobody could use the capabilities of "
                f"{simulation!r} ({names}). Name a stager as well, or leave them out."
            )
        self._contact = contact
        self._output: Output | None = None
        self._staged = bool(address)
        super().__init__(
            simulation, address=address, options=options, capabilities=capabilities,
            patience=patience, **more,
        )  # fmt: skip

    @property
    def output(self) -> Output:
        """What writes; there is none before the first frame where no schema was given."""
        if self._output is None:
            raise self._lack_schema()
        return self._output

    def put(self, step: int, time: float, **arrays: Any) -> bool:
        """Send a frame if one is due; returns whether it was. See `Link.put`.

        Raises
        ------
        StreamFull
            If a reader made no room within the link's patience.
        HeadraceError
            If ADIOS2 failed; the sentence says why.
        """
        if step < self.next_frame:
            return False
        values = self._pick(arrays)
        if self._output is None:
            self._open(self._describe(values))
            if step < self.next_frame:
                return False
        self._send(step, time, values)
        return True

    def put_many(self, steps: Any, times: Any, **columns: Any) -> None:
        """Send stacked frames, each of which is due; the first axis counts them."""
        for row, (step, time) in enumerate(zip(steps, times, strict=True)):
            self._send(int(step), float(time), {k: v[row] for k, v in columns.items()})

    def _send(self, step: int, time: float, values: dict[str, Any]) -> None:
        output = self.output
        number = output.before.offset + 1 + output.statistics().frames
        output.put(step, time, values, epoch=self.epoch, offset=number, timeout=self._patience)
        if self._producer is not None:
            self._producer.put(
                step, time, values, epoch=self.epoch, timeout=self._patience,
                give_up=partial(self.hears_stop, step),
            )  # fmt: skip
        self.step, self.time, self._last_put = step, time, step

    def wait(self, seconds: float) -> None:
        """Stand still for a while, or until a command arrives from the stager, if there is one."""
        if self._producer is not None:
            super().wait(seconds)
        elif seconds > 0:
            clock.sleep(seconds)

    def event(
        self,
        kind: str,
        message: str,
        *,
        level: Literal["info", "warning", "error"] = "info",
        **data: Any,
    ) -> None:
        """Tell people something; without a stager it goes to the log alone."""
        if self._producer is not None:
            super().event(kind, message, level=level, **data)
        else:
            numbers = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
            _log.log(numbers[level], "%s: %s", kind, message, extra={"data": data})

    def close(self, *, finished: bool = True) -> None:
        """Write what is left and close the stream or file; may be called again.

        ADIOS2's readers see the end of the stream; `finished` is for the stager's.
        """
        if self._closed:
            return
        try:
            if self._output is not None:
                self._output.close()
        finally:
            super().close(finished=finished)

    def _open(self, schema: StreamSchema) -> Producer:
        options = self._options
        self._output = Output(
            self._contact, schema, layout="openpmd", when_full=options.when_full,
            capacity=options.capacity, topic=f"frames/{self.simulation}", resume=True,
            patience=self._patience, open_timeout=max(self._timeout, 60.0),
        )  # fmt: skip
        before = self._output.before
        if before.steps:
            self.epoch = before.epoch + 1
            self._last_put = self.step = before.step
            self.time = before.time
        self._schema = schema
        if not self._staged:
            # There is nobody who could hand on commands.
            return None  # type: ignore[return-value]
        try:
            epoch = self.epoch
            producer = super()._open(schema)
            self.epoch = max(self.epoch, epoch)
            self._last_put = max(self._last_put, before.step)
        except HeadraceError:
            self._output.close()
            raise
        return producer
