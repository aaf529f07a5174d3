"""Updates: they learn, are told of when they cannot, and go on to the bit."""

import math

import numpy as np
import pytest
import torch

from analytics.learning.buffers import FifoReuse, Reservoir
from analytics.learning.schedule import Schedule
from analytics.learning.tensors import choose_device, save_model
from analytics.learning.trainer import Trainer
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError
from tests.analytics.learning.tiny import Fragile, TinyAutoencoder, TinyLagged


def data(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6))).astype(np.float32)


def make(kind=TinyAutoencoder, *, seed=0, **options):
    torch.manual_seed(seed)
    model = kind((6,))
    options.setdefault("schedule", Schedule(1e-2, warmup=5, decay="exponential", period=100))
    return Trainer(
        model, Reservoir(max_samples=128, seed=seed), batch_size=16, seed=seed, **options
    )


def same(a, b):
    one, other = a.save(), b.save()
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_the_loss_falls(optimiser):
    trainer = make(optimiser=optimiser, weight_decay=1e-3)
    trainer.buffer.put(data())
    trainer.model.prepare(torch.from_numpy(data()))
    first = trainer.update().loss
    for _ in range(300):
        update = trainer.update()
    assert update.loss < 0.2 * first
    assert trainer.updates == 301


@pytest.mark.parametrize("cut", [0, 1, 37, 60])
def test_a_restored_trainer_goes_on_to_the_bit(cut):
    trainer, frames = make(), data()
    other = make(seed=9)
    for i in range(60):
        if i == cut:
            other.restore(decode_state(encode_state(trainer.save())))
            same(trainer, other)
        for each in (trainer, other)[: 2 if i >= cut else 1]:
            each.buffer.put(frames[5 * i : 5 * i + 5])
            if each.ready:
                each.update()
    if cut < 60:
        same(trainer, other)


def test_a_lagged_model_learns_from_pairs():
    torch.manual_seed(0)
    trainer = Trainer(TinyLagged((6,)), FifoReuse(), schedule=Schedule(1e-2), batch_size=32)
    x = data()
    trainer.buffer.put(x[:-3], x[3:])
    losses = [trainer.update().loss for _ in range(50)]
    assert losses[-1] < losses[0]


def test_an_update_that_is_not_finite_is_skipped_and_counted():
    trainer = make(Fragile)
    trainer.buffer.put(data())
    before = save_model(trainer.model)
    bad = trainer.learn(torch.full((4, 6), 1e3))
    assert not bad.done
    assert not math.isfinite(bad.loss)
    assert (trainer.updates, trainer.skipped) == (0, 1)
    for name, value in save_model(trainer.model).items():
        np.testing.assert_array_equal(value, before[name])
    assert trainer.update().done


def test_gradients_are_clipped_and_gradients_of_others_taken():
    seen = []

    def reduce(parameters, loss, weight):
        seen.append(len(parameters))
        for parameter in parameters:
            parameter.grad.mul_(1e6)
        return loss + 1.0

    trainer = make(reduce=reduce, clip=0.5)
    trainer.buffer.put(data())
    update = trainer.update()
    assert update.norm > 0.5
    assert seen == [4]
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in trainer.model.parameters()))
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_the_schedule_is_a_function_of_the_update():
    cosine = Schedule(1.0, warmup=4, decay="cosine", period=10, floor=0.2)
    assert [cosine(i) for i in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert cosine(4) == pytest.approx(1.0)
    assert cosine(9) == pytest.approx(0.6)
    assert cosine(14) == pytest.approx(1.0)
    assert Schedule(1.0, decay="exponential", period=10, floor=0.3)(10) == 0.5
    assert Schedule(1.0, decay="exponential", period=10, floor=0.3)(50) == 0.3
    assert Schedule(1.0, decay="inverse_sqrt", period=10)(40) == 0.5
    assert Schedule(1.0)(10**6) == 1.0
    trainer = make(schedule=Schedule(1.0, warmup=2))
    trainer.buffer.put(data())
    rates = [trainer.update().rate for _ in range(3)]
    trainer.restart_schedule()
    assert [*rates, trainer.update().rate] == [0.5, 1.0, 1.0, 0.5]


def test_wrong_parameters_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'adam'"):
        make(optimiser="adamv")
    with pytest.raises(ConfigError, match="must not be negative"):
        make(clip=-1.0)
    with pytest.raises(ConfigError, match="must not be negative"):
        make(clip=float("nan"))
    with pytest.raises(ConfigError, match="greater than 0"):
        Schedule(0.0)
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        Schedule(1.0, decay="cosin")
    with pytest.raises(ConfigError, match="be from 0 to 1"):
        Schedule(1.0, floor=2.0)
    with pytest.raises(ConfigError, match="must be 'auto'"):
        choose_device("gpu")
    assert choose_device("cpu").type == "cpu"
    saved = make().save()
    other = Trainer(TinyAutoencoder((7,)), Reservoir())
    with pytest.raises(PipelineError, match="do not fit this model"):
        other.restore(saved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_gpu_learns_and_goes_on_too():
    trainer = make(device="cuda")
    trainer.model.noise = 0.0
    trainer.buffer.put(data())
    for _ in range(5):
        trainer.update()
    other = make(device="cuda", seed=4)
    other.restore(decode_state(encode_state(trainer.save())))
    same(trainer, other)
