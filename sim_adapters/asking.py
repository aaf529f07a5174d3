"""What a linked simulation, or one of its ranks, asks of models that are served beside it."""

from __future__ import annotations

from typing import Any

from bridge.staging.client_like import ClientLike
from bridge.staging.inference import InferenceClient, Pending
from bridge.staging.spread import connect
from bridge.surrogate import Inferred

__all__ = ["Asks"]


class Asks:
    """A base of links; connects when the first question is asked."""

    simulation: str
    _address: str
    _keys: Any
    _timeout: float
    _asker: tuple[ClientLike, InferenceClient] | None = None

    def infer(self, service: str, /, *, timeout: float | None = None, **inputs: Any) -> Inferred:
        """Ask a model, and wait for its answer; see `ask`."""
        return self.ask(service, timeout=timeout, **inputs).result()

    def ask(self, service: str, /, *, timeout: float | None = None, **inputs: Any) -> Pending:
        """Send a request to a model that is served beside, and go on; `Pending.result` waits.

        Nothing fails where nobody serves: then no row of the answer is valid, as where the model
        does not know the inputs, and the simulation computes for itself. Ranks ask each for
        itself; what waits is answered together.

        Parameters
        ----------
        service
            Name of the service, see ``headrace serve-model``.
        timeout
            Seconds to wait for the answer; 2 by default.
        **inputs
            Arrays whose first axis has the same n rows.

        Raises
        ------
        SchemaError
            If the arrays do not go together.
        ConnectionLost
            If the stager is away.
        """
        if self._asker is None:
            name = self._asks_as()
            client = connect(
                self._address, name=f"{name}-asks", keys=self._keys, timeout=self._timeout
            )
            self._asker = (client, InferenceClient(client, name))
        return self._asker[1].submit(service, inputs, timeout=timeout)

    def _asks_as(self) -> str:
        return self.simulation

    def _ask_no_more(self) -> None:
        """Let go of the connection."""
        asker, self._asker = self._asker, None
        if asker is not None:
            asker[0].close()
