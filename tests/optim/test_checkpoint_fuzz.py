"""A checkpoint with anything anywhere: it is refused and nothing has changed, or it is loaded and a good one mends all."""

import copy
import math
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import sharpmin as sm

BASES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "two": lambda p: [torch.optim.SGD(p[:1], lr=0.1, momentum=0.9), torch.optim.Adam(p[1:], lr=0.01)],
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 99),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 5)), st.integers(), max_size=2),
    st.sampled_from([torch.zeros(()), torch.tensor(math.nan), torch.ones(7), torch.eye(3), torch.ones(2, 3).to_sparse()]),
)


def made(kind, **options):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    opt = sm.SAM(BASES[kind](list(net.parameters())), rho=0.1, ascent=sm.Ema(0.5), **options)
    x = torch.linspace(-1, 1, 12).reshape(4, 3)

    def closure():
        opt.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    return net, opt, closure


def places(value, here=()):
    """Every place in nested mappings and lists, as a path of keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*here, key)
        yield from places(inner, (*here, key))


def put(state, path, value):
    *above, last = path
    for key in above:
        state = state[key]
    state[last] = value


def trained(kind):
    """After three steps."""
    net, opt, closure = made(kind)
    for _ in range(3):
        opt.step(closure)
    return net, opt, closure


@cache
def good_and_next(kind):
    """A checkpoint after three steps, and the weights and the state of a fresh optimizer that went on from it by one."""
    net, opt, _ = trained(kind)
    good, weights = copy.deepcopy(opt.state_dict()), copy.deepcopy(net.state_dict())
    other, fresh, same = made(kind)
    other.load_state_dict(weights)
    fresh.load_state_dict(copy.deepcopy(good))
    fresh.step(same)
    return good, copy.deepcopy([other.state_dict(), fresh.state_dict()])


@pytest.mark.parametrize("kind", BASES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_anywhere(kind, bits, data):
    (net, opt, closure), (good, (weights, state)) = trained(kind), good_and_next(kind)
    bad, was = copy.deepcopy(good), bits(opt.state_dict())
    for _ in range(data.draw(st.integers(1, 3))):
        put(bad, data.draw(st.sampled_from(sorted(places(bad), key=repr))), data.draw(VALUES))
    try:
        opt.load_state_dict(bad)
    except Exception:
        assert bits(opt.state_dict()) == was
    opt.load_state_dict(copy.deepcopy(good))  # an optimizer of torch goes on with the tensors that it is given
    assert bits(opt.state_dict()) == was
    opt.step(closure)
    assert bits(net.state_dict()) == bits(weights)
    assert bits(opt.state_dict()) == bits(state)


def test_a_base_that_fails_half_way_leaves_what_was(bits):
    """The first of two bases has taken its part over when the second one fails."""
    _, opt, closure = made("two")
    opt.step(closure)
    was, bad = bits(opt.state_dict()), copy.deepcopy(opt.state_dict())
    bad["state"][0]["momentum_buffer"] *= 2
    bad["state"][1]["step"] = "three"
    with pytest.raises(ValueError, match="could not convert"):
        opt.load_state_dict(bad)
    assert bits(opt.state_dict()) == was
