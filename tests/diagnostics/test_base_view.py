"""What the base makes of a gradient, against the formulas written out entry by entry."""

import pytest
import torch

from sharpmin.diagnostics._run import base_view
from sharpmin.diagnostics._run.base_view import BaseView

BASES = {
    "sgd": (torch.optim.SGD, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "amsgrad": (torch.optim.AdamW, {"amsgrad": True}),
}
RATES, DECAYS = (0.1, 0.02), (0.3, 0.0)


def stepped(name, steps=3, device="cpu"):
    """A base with two groups after some steps, its parameters and some vectors; one parameter has never had a gradient."""
    torch.manual_seed(0)
    kind, options = BASES[name]
    ps = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64, device=device)) for s in ((3, 2), (4,), (2,), (5,))]
    groups = [{"params": ps[:2], "lr": RATES[0], "weight_decay": DECAYS[0]}, {"params": ps[2:], "lr": RATES[1]}]
    base = kind(groups, weight_decay=DECAYS[1], **options)
    for _ in range(steps):
        for p in ps[:3]:
            p.grad = torch.randn_like(p)
        base.step()
    return base, ps, [torch.randn_like(p) for p in ps]


def root(base, p, group):
    """P, from the textbook."""
    if "exp_avg_sq" not in base.state.get(p, {}):
        return torch.ones_like(p)
    own, beta = base.state[p], group["betas"][1]
    second = own["max_exp_avg_sq"] if group.get("amsgrad") else own["exp_avg_sq"]
    return (second / (1 - beta ** float(own["step"]))).sqrt() + group["eps"]


@pytest.mark.parametrize("place", ["host", "accelerator"])
@pytest.mark.parametrize("name", BASES)
def test_decay_and_preconditioner(name, place, monkeypatch):
    """Both ways to know the step count: from the host, and from a device that nobody asks."""
    if place == "accelerator":
        monkeypatch.setattr(base_view, "on_host", lambda _: False)
    base, ps, vectors = stepped(name)
    seen = BaseView(base.param_groups, base.state)
    decayed, scaled = seen.decayed(ps), seen.preconditioned(ps, vectors)
    for i, (p, v) in enumerate(zip(ps, vectors, strict=True)):
        group = base.param_groups[i // 2]
        p_root = root(base, p, group)
        term = DECAYS[i // 2] * p.detach() * (p_root if name in ("adamw", "amsgrad") else 1.0)
        assert torch.allclose(decayed[i], term, rtol=1e-13, atol=0)
        assert torch.allclose(scaled[i], v / p_root * RATES[i // 2] / RATES[0], rtol=1e-13, atol=0)
    assert seen.lr() == RATES[0]
    assert seen.scales()


def test_parameters_of_nobody_are_left_alone():
    base, _, _ = stepped("adamw")
    seen, other = BaseView(base.param_groups[:1], base.state), [torch.ones(2, dtype=torch.float64)]
    assert torch.equal(seen.preconditioned(other, other)[0], other[0])
    assert not seen.decayed(other)[0].any()


def test_nothing_is_read_from_a_device():
    """On device "meta" a read raises: learning rates and step counts stay there."""
    base, ps, vectors = stepped("adamw", device="meta")
    for group, lr in zip(base.param_groups, RATES, strict=True):
        group["lr"] = torch.tensor(lr, device="meta")
    for own in base.state.values():
        own["step"] = own["step"].to("meta")  # as `capturable=True` has it on a card
    seen = BaseView(base.param_groups, base.state)
    assert [t.shape for t in seen.preconditioned(ps, vectors)] == [p.shape for p in ps]
    assert [t.shape for t in seen.decayed(ps)] == [p.shape for p in ps]
    assert seen.lr().is_meta
    assert seen.scales()


@pytest.mark.parametrize("name", BASES)
def test_where_every_learning_rate_is_0_none_has_a_share(name):
    """As before the first step of a warmup: 0 / 0 of the largest would be none."""
    base, ps, vectors = stepped(name)
    for group in base.param_groups:
        group["lr"] = 0.0
    scaled = BaseView(base.param_groups, base.state).preconditioned(ps, vectors)
    for i, (p, v) in enumerate(zip(ps, vectors, strict=True)):
        assert torch.allclose(scaled[i], v / root(base, p, base.param_groups[i // 2]), rtol=1e-13, atol=0)


def test_counts_of_steps_on_several_devices_stay_where_they_are():
    here, there = base_view._unbias(0.9, [torch.tensor(3.0), torch.tensor(3.0, device="meta")])
    assert float(here) == pytest.approx(1 / (1 - 0.9**3), rel=1e-12)
    assert there.is_meta
