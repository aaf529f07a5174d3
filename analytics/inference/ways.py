"""How a version of a model is run: device, precision, compilation, sizes of micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from bridge.errors import ConfigError, MissingExtra

__all__ = ["Compile", "Device", "Precision", "Way", "need_torch"]

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16", "float16"]
Compile = Literal["off", "compile", "export"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "device": ("auto", "cpu", "cuda"),
    "precision": ("float32", "bfloat16", "float16"),
    "compile": ("off", "compile", "export"),
}


def need_torch(purpose: str) -> None:
    """Raise `MissingExtra` where torch is not installed."""
    if find_spec("torch") is None:
        raise MissingExtra("torch", "learning", purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to run a model; a version is loaded once a process for each way.

    Parameters
    ----------
    device
        ``auto`` takes a GPU where there is one.
    precision
        Of the products inside the network: ``bfloat16``, or ``float16`` on a GPU, are taken by
        autocast; results are float32. Where a version gives something else that way, float32 is
        taken for it.
    compile
        ``compile`` (torch.compile) or ``export`` (an exported program) instead of running the
        module as it is. Where that fails, the module is run as it is.
    batch_size
        Rows given to the network at once, at most.
    least
        Batches are filled up to a multiple of so many rows. Libraries add up in another order for
        a few rows, or for those left over: so filled up, wide networks gave rows the same bits
        however the stream was cut (x86 processors); those of very few inputs, where the place in
        the batch matters, still differed by about 1e-7 of their size.
    threads
        Of torch in this process; 0 for what the engine set, or torch's own choice. More than one
        wait for each other, which costs small networks more than they gain wherever simulations
        have the cores.

    Raises
    ------
    ConfigError
        If a value is none of these.
    """

    device: Device = "auto"
    precision: Precision = "float32"
    compile: Compile = "off"
    batch_size: int = 256
    least: int = 16
    threads: int = 1

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(
                    f"The parameter {name!r} must be one of {', '.join(choices)}; it is {value!r}."
                )
        for name, smallest in {"batch_size": 1, "least": 1, "threads": 0}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise ConfigError(
                    f"The parameter {name!r} is {value!r}; it must be a whole number of at least "
                    f"{smallest}."
                )
        if self.device == "cpu" and self.precision == "float16":
            raise ConfigError(
                "The precision float16 is for GPUs; take bfloat16 or float32 on the device 'cpu'."
            )
