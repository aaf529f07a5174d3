"""Steps are those of torch's optimisers, whose compiler is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from analytics.learning.adam import Adam
from bridge.errors import PipelineError

ROOT = Path(__file__).parents[3]
TRAINS = """
import sys
import numpy as np
from analytics.learning.buffers import FifoReuse
from analytics.learning.trainer import Trainer
from tests.analytics.learning.tiny import TinyAutoencoder

trainer = Trainer(TinyAutoencoder((6,)), FifoReuse(max_samples=64), batch_size=16)
trainer.buffer.put(np.ones((64, 6), np.float32))
assert trainer.update().done
sys.exit("torch._dynamo" in sys.modules)
"""


def parameters(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 3), (3,), (), (5, 4)]
    made = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    # One that does not lie in memory as it is read, and one of another type.
    made[3].data = made[3].data.t()
    return [*made, torch.nn.Parameter(torch.randn(6, generator=generator, dtype=torch.float64))]


def give_gradients(all_of_them: list[torch.nn.Parameter], seed: int, *, but: int = -1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(all_of_them):
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype) if i != but else None


@pytest.mark.parametrize("decoupled", [False, True])
def test_steps_are_those_of_torch(decoupled: bool) -> None:
    mine, theirs = parameters(), parameters()
    optimiser = Adam(mine, weight_decay=0.01, decoupled=decoupled)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    other = kind(theirs, lr=1.0, weight_decay=0.01)
    for step in range(20):
        give_gradients(mine, step, but=1 if step < 3 else -1)
        give_gradients(theirs, step, but=1 if step < 3 else -1)
        other.param_groups[0]["lr"] = rate = 1e-2 / (1 + step)
        other.step()
        optimiser.step(rate)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["saved", "shared"])
def test_another_one_goes_on_to_the_bit(how: str) -> None:
    mine, theirs = parameters(), parameters()
    one, other = Adam(mine), Adam(theirs)
    give_gradients(theirs, 99)
    other.step(0.1)
    for step in range(10):
        give_gradients(mine, step, but=2)
        one.step(1e-2)
    with torch.no_grad():
        for a, b in zip(mine, theirs, strict=True):
            b.copy_(a)
    if how == "saved":
        other.restore(one.save())
    else:
        other.take_shared(one.shared_state())
    for step in range(10, 20):
        for all_of_them, optimiser in ((mine, one), (theirs, other)):
            give_gradients(all_of_them, step)
            optimiser.step(1e-2)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    assert one.save().keys() == other.save().keys()


def test_a_state_of_others_is_refused() -> None:
    one, other = Adam(parameters()), Adam(parameters()[1:])
    give_gradients(one._parameters, 0)
    one.step(0.1)
    with pytest.raises(PipelineError, match="does not fit its parameter 0"):
        other.restore(one.save())


def test_training_does_not_load_torchs_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], cwd=ROOT, check=False, timeout=100)
    assert done.returncode == 0
