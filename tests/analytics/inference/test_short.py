"""Layers called directly give what torch's own calls give, to the bit."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from analytics.inference.short import shorten


def test_short_chains_give_the_same_bits() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(8, 8), nn.SiLU())
    model = nn.ModuleDict(
        {"chain": nn.Sequential(nn.Linear(6, 8), nn.ELU(), inner, nn.Linear(8, 3, bias=False))}
    )
    whole = copy.deepcopy(model)
    seen: list[Tensor] = []
    model["chain"][1].register_forward_hook(lambda layer, given, out: seen.append(out))
    shorten(model.requires_grad_(False))
    x = torch.randn(40, 6)
    assert torch.equal(model["chain"](x), whole["chain"](x))
    # Who has hooked into a layer is called as ever.
    assert len(seen) == 1
    assert model.state_dict().keys() == whole.state_dict().keys()
