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


class Own(torch.optim.Adam):
    """Not torch's Adam, though it has its state."""


@pytest.mark.parametrize("place", ["state", "group step", "group k", "nowhere"])
def test_the_count_of_steps_of_other_bases(place):
    """In the state as torch has it, in the group as pytorch_optimizer or schedulefree; or nowhere, and nothing is corrected."""
    base, ps, vectors = stepped("adam")
    wanted = [v / root(base, p, base.param_groups[0]) for p, v in zip(ps[:2], vectors, strict=False)]
    if place == "nowhere":
        wanted = [v / (base.state[p]["exp_avg_sq"].sqrt() + 1e-8) for p, v in zip(ps[:2], vectors, strict=False)]
    if place != "state":
        for p in ps[:3]:
            steps = base.state[p].pop("step")
        for group in base.param_groups if place != "nowhere" else []:
            group[place.split()[1]] = int(steps)
    found = BaseView(base.param_groups, base.state).preconditioned(ps, vectors)
    for a, b in zip(found, wanted, strict=False):
        assert torch.allclose(a, b, rtol=1e-13, atol=0)


class Coded(torch.Tensor):
    """Two averages in one number, say: no operation but to be copied out."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    def __init__(self, values):
        self.values = values

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        if func is torch.ops.aten.copy_.default and not isinstance(args[0], Coded):
            return args[0].copy_(args[1].values)
        raise NotImplementedError(str(func))


class Mute(Coded):
    """Not even that."""

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        raise NotImplementedError(str(func))


@pytest.mark.parametrize("kind", [Coded, Mute, torch.Tensor.sum, lambda t: None])
def test_averages_that_are_no_plain_tensor(kind):
    """Read if they can be; of another shape, or unreadable, they are left out."""
    base, ps, vectors = stepped("adam")
    wanted = vectors[0] / root(base, ps[0], base.param_groups[0]) if kind is Coded else vectors[0]
    base.state[ps[0]]["exp_avg_sq"] = kind(base.state[ps[0]]["exp_avg_sq"])
    assert torch.allclose(BaseView(base.param_groups, base.state).preconditioned(ps, vectors)[0], wanted, rtol=1e-13, atol=0)


def test_a_group_that_no_formula_knows():
    """Without betas, with several eps, without a learning rate."""
    base, ps, vectors = stepped("adam")
    base.param_groups[0].pop("betas")
    base.param_groups[1]["eps"] = (1e-30, 1e-3)
    seen = BaseView(base.param_groups, base.state)
    assert torch.equal(seen.preconditioned(ps, vectors)[0], vectors[0])
    assert torch.equal(seen.preconditioned(ps, vectors)[2], vectors[2] * RATES[1] / RATES[0])
    assert BaseView([{"params": ps}], {}).lr() == 0.0


def test_a_namesake_of_torch_is_another_base():
    p = torch.nn.Parameter(torch.ones(2))
    namesake = type("AdamW", (torch.optim.SGD,), {"__module__": "bitsandbytes.optim.adamw"})
    kinds = {torch.optim.AdamW: "AdamW", namesake: "bitsandbytes.AdamW", Own: "Own"}
    assert {kind: base_view.name_of(kind([p], lr=0.1)) for kind in kinds} == kinds
