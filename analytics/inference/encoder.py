"""A version of a model, ready to answer: rows in, coordinates out."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from analytics.inference.short import shorten
from analytics.inference.ways import Way
from analytics.learning.alignment import Alignment
from analytics.learning.model import StreamModel
from analytics.learning.resting import rest
from bridge.errors import ConfigError, CorruptData, SchemaError

__all__ = ["Encoder", "find_device"]

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Program = Callable[[Tensor], tuple[Tensor, ...]]

_SAFE = 0.05  # of the spread of the answers, by which a low precision may change them


def find_device(wanted: str) -> torch.device:
    """Return the device of a `Way`.

    Raises
    ------
    ConfigError
        If a GPU is asked for, and torch finds none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "The device 'cuda' is asked for, but torch finds no GPU that it can use in this "
            "process; take 'auto' or 'cpu', or install a torch that is built for it."
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _laying(alignment: Alignment | None) -> tuple[Tensor, Tensor] | None:
    """Return an alignment as shift and matrix, float32: one product, for what is done so often."""
    if alignment is None:
        return None
    return alignment.shift.float(), (alignment.scale * alignment.rotation).float()


class _Answers(nn.Module):
    """What is asked of a model, as a module of its own, to be compiled as one."""

    def __init__(self, model: StreamModel, errors: bool) -> None:
        super().__init__()
        self.model = model
        self.with_errors = errors

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the coordinates and, if wanted, the errors."""
        z = self.model.encode(x)
        if not self.with_errors:
            return (z,)
        errors = self.model.errors(x)
        assert errors is not None
        return z, errors


class Encoder:
    """Runs one version of a model; any thread may call it.

    Parameters
    ----------
    loaded
        What the registry returned: ``model``, ``alignment`` (or None) and ``card``.
    version
        Content id of the version.
    way
        How to run it.
    errors
        Whether errors of reconstruction are wanted, too.

    Attributes
    ----------
    version, way
        As given.
    latent, input_shape
        Of the model.
    fallbacks
        Sentences that say what of `way` could not be had.

    Raises
    ------
    ConfigError
        If there is no such device, or errors are wanted of a model without a decoder.
    CorruptData
        If a weight is not finite.
    """

    def __init__(self, loaded: Any, version: str, way: Way, *, errors: bool = False) -> None:
        self.version = version
        self.way = way
        self.fallbacks: list[str] = []
        self.device = find_device(way.device)
        self._is_cpu = self.device.type == "cpu"
        if not all(torch.isfinite(value).all() for value in loaded.model.parameters()):
            raise CorruptData(
                f"Weights of version {version[:12]} are not finite, and nothing it says would be; "
                "promote another version, or go back to one."
            )
        model: StreamModel = loaded.model.to(self.device).eval()
        model.requires_grad_(False)
        self.model = model
        self.card = loaded.card
        self.alignment = loaded.alignment
        self._laying = _laying(loaded.alignment)
        self.latent = int(model.latent)
        self.input_shape = model.input_shape
        self.errors = errors
        if way.compile == "off":
            shorten(model)
        self._size = math.prod(self.input_shape)
        self._most = -(-way.batch_size // way.least) * way.least
        self._local = threading.local()
        with torch.inference_mode():
            example = torch.zeros((max(2, way.least), *self.input_shape), device=self.device)
            if errors and model.errors(example) is None:
                raise ConfigError(
                    f"Errors of reconstruction are wanted of version {version[:12]}, whose kind "
                    f"{getattr(model, 'kind', '?')!r} has no decoder; set errors = false."
                )
        self._program: Program = self._eager
        self._dtype = self._choose_precision()
        if way.compile != "off":
            self._compile()
        self._warm_up()

    def __call__(self, rows: Array) -> tuple[Floats, Floats | None]:
        """Answer rows.

        Parameters
        ----------
        rows
            Real numbers, shape (n, ...), as many in each row as `input_shape` has.

        Returns
        -------
        coordinates
            Shape (n, latent).
        errors
            Shape (n,); None unless they were wanted.

        Raises
        ------
        SchemaError
            If the rows have another size.
        """
        n = len(rows)
        if n and rows.size != n * self._size:
            raise SchemaError(
                f"The model of version {self.version[:12]} takes {self._size} numbers a frame "
                f"(shape {list(self.input_shape)}); it was given {rows.size // n} (shape "
                f"{list(rows.shape[1:])})."
            )
        if rows.shape[1:] != self.input_shape:
            rows = rows.reshape(n, *self.input_shape)
        step = self.way.batch_size
        if 0 < n <= step:
            with torch.inference_mode():
                answers = self._run(rows)
            return answers[0], answers[1] if self.errors else None
        coordinates = np.empty((n, self.latent), np.float32)
        errors = np.empty(n, np.float32) if self.errors else None
        with torch.inference_mode():
            for start in range(0, n, step):
                part = rows[start : start + step]
                answers = self._run(part)
                stop = start + len(part)
                coordinates[start:stop] = answers[0]
                if errors is not None:
                    errors[start:stop] = answers[1]
        return coordinates, errors

    # ------------------------------------------------------------------ inside

    def _run(self, part: Array) -> list[Floats]:
        n = len(part)
        buffer, tensor = self._buffer()
        if part.dtype == np.float32:
            buffer[:n] = part
        else:
            with np.errstate(over="ignore"):
                np.copyto(buffer[:n], part, casting="unsafe")
        filled = self._fill(n)
        if filled > n:
            buffer[n:filled] = buffer[n - 1]
        x = tensor if filled == self._most else tensor[:filled]
        answers = self._answer(x if self._is_cpu else x.to(self.device))
        if not self._is_cpu or self._dtype is not None:
            answers = tuple(answer.float().cpu() for answer in answers)
        if self._laying is not None:
            answers = (torch.addmm(self._laying[0], answers[0], self._laying[1]), *answers[1:])
        elif answers[0].untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
            # A model that hands on what it was given must not hand out the buffer.
            answers = (answers[0].clone(), *answers[1:])
        if filled == n:
            return [answer.numpy() for answer in answers]
        return [answer[:n].numpy() for answer in answers]

    def _eager(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.model.encode(x)
        if not self.errors:
            return (z,)
        errors = self.model.errors(x)
        assert errors is not None
        return z, errors

    def _fill(self, n: int) -> int:
        """Return how many rows to compute, so that shapes stay few where each costs a compiler."""
        least, most = self.way.least, self._most
        if self.way.compile == "compile":
            return least if n <= least else most
        return -(-n // least) * least

    def _buffer(self) -> tuple[Floats, Tensor]:
        """Return this thread's rows; engines' arrays are read-only, which torch does not take."""
        made: tuple[Floats, Tensor] | None = getattr(self._local, "buffer", None)
        if made is None:
            tensor = torch.zeros((self._most, *self.input_shape))
            made = self._local.buffer = (tensor.numpy(), tensor)
        return made

    def _answer(self, x: Tensor) -> tuple[Tensor, ...]:
        if self._dtype is None:
            return self._program(x)
        with torch.autocast(self.device.type, self._dtype):
            return self._program(x)

    # ------------------------------------------------------------- preparation

    def _choose_precision(self) -> torch.dtype | None:
        """Return the type for autocast; None for float32, also where another is not safe."""
        if self.way.precision == "float32":
            return None
        dtype: torch.dtype = getattr(torch, self.way.precision)
        if self.device.type == "cpu" and dtype is torch.float16:
            self._fall_back("float16 is for GPUs, and there is none", "float32")
            return None
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((64, *self.input_shape), generator=generator).to(self.device)
        with torch.inference_mode():
            exact = [a.float() for a in self._program(x)]
            try:
                with torch.autocast(self.device.type, dtype):
                    rough = [a.float() for a in self._program(x)]
            except RuntimeError as error:
                # Not all that torch can do is there in low precision.
                said = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
                self._fall_back(f"{self.way.precision} failed ({said})", "float32")
                return None
        for a, b in zip(exact, rough, strict=True):
            off = float((a - b).abs().max())
            if not off <= _SAFE * float(a.std()) + 1e-6:
                self._fall_back(
                    f"{self.way.precision} changes answers by {off:.2g}, more than "
                    f"{_SAFE:.0%} of their spread",
                    "float32",
                )
                return None
        return dtype

    def _compile(self) -> None:
        eager = self._program
        try:
            if self.way.compile == "compile":
                self._program = torch.compile(_Answers(self.model, self.errors), dynamic=False)
            else:
                self._program = self._exported()
            self._warm_up()
        except Exception as error:
            # Compilers fail in many ways of their own; the module itself runs everywhere.
            said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            self._fall_back(f"{self.way.compile} failed ({type(error).__name__}: {said})", "eager")
            self._program = eager

    def _exported(self) -> Program:
        x = torch.zeros((max(2, self.way.least), *self.input_shape), device=self.device)
        dynamic = {"x": {0: torch.export.Dim.AUTO}}
        exported = torch.export.export(
            _Answers(self.model, self.errors), (x,), dynamic_shapes=dynamic
        )
        program: Program = exported.module()
        return program

    def _warm_up(self) -> None:
        """Run the sizes that will come, so that the first frames do not wait for what is lazy."""
        for n in {1, self.way.batch_size}:
            rest()
            with torch.inference_mode():
                self._run(np.zeros((n, *self.input_shape), np.float32))

    def _fall_back(self, why: str, instead: str) -> None:
        sentence = f"Version {self.version[:12]} runs in {instead}: {why}."
        self.fallbacks.append(sentence)
        log.warning("%s", sentence)
