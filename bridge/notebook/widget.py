"""The widget: hands messages to the browser, where ``view.js`` draws them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget

from bridge.notebook.pump import Pump

__all__ = ["LiveView"]

_FOLDER = files("bridge.notebook")


class LiveView(anywidget.AnyWidget):
    """A run, as `bridge.notebook.watch` shows it; Jupyter shows it where it ends a cell.

    Parameters
    ----------
    pump
        Not started yet.
    """

    _esm = _FOLDER.joinpath("view.js").read_text(encoding="utf-8")
    _css = _FOLDER.joinpath("view.css").read_text(encoding="utf-8")

    def __init__(self, pump: Pump) -> None:
        super().__init__()
        self._pump = pump
        self.on_msg(self._hear)
        pump.start(self.send)

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<LiveView {state}, {self._pump.sent} messages>"

    @property
    def running(self) -> bool:
        """Whether the run is still followed."""
        return self._pump.running

    @property
    def why_ended(self) -> str:
        """Why the run is followed no more, as a sentence; empty while it is."""
        return self._pump.why_ended

    def stop(self) -> None:
        """Follow the run no more; the last picture stays. Waits for the thread."""
        self._pump.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run is followed no more, `timeout` seconds at most; say if that is so."""
        return self._pump.wait(timeout)

    def close(self) -> None:
        """Stop, and take the picture away."""
        pump = getattr(self, "_pump", None)
        if pump is not None:
            pump.stop()
        super().close()

    def _hear(self, widget: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict):
            self._pump.hear(content)
