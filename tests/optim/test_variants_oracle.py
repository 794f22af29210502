"""Every variant, and compositions of every part, against `variants_by_hand.py`, through every door, on both numeric paths."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm

from .conftest import PATHS
from .variant_rules import START, STEPS, always, only_x
from .variants_by_hand import (
    CASES,
    EVERY,
    PAIRS,
    by_asking_block,
    by_block,
    by_closure,
    by_guarded_block,
    by_raw_phases,
    one_group,
    oracle,
    run,
    trace,
    y_at_rest,
)

IN_VAIN = pytest.mark.filterwarnings("ignore:SAM. rho came to 0 at this step")  # a block that ran against the gate
NEEDS = {"capped_sam": {"c": 0.1}, "ae_sam": {"total": 10}}

TURNS = [
    (path, (by_block, by_closure)[(i + j) % 2], name, base)
    for (i, path), (j, (name, base)) in itertools.product(enumerate(PATHS), enumerate(PAIRS))
]
"""The doors take turns: any three of path, door, case and base meet."""


def built(build, name):
    return build(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9), **NEEDS.get(name, {}))


@IN_VAIN
@pytest.mark.parametrize(("path", "door", "name", "base"), TURNS, indirect=["path"])
def test_twenty_steps(*, path, door, name, base):
    expected, passes, _ = trace(CASES[name], base, EVERY)
    weights, _, f = run(CASES[name], base, door, one_group)
    assert np.abs(weights - expected).max() < 1e-10
    block_in_vain = door is by_block and not CASES[name].one_pass
    assert f.calls == (2 * STEPS if block_in_vain else sum(passes))


@IN_VAIN
@pytest.mark.parametrize("door", [by_guarded_block, by_asking_block, by_raw_phases])
@pytest.mark.parametrize("name", CASES)
def test_other_doors(door, name):
    expected, passes, _ = trace(CASES[name], "momentum", EVERY)
    weights, opt, f = run(CASES[name], "momentum", door, one_group)
    assert np.abs(weights - expected).max() < 1e-10
    if door is by_asking_block or (door is by_guarded_block and CASES[name].opens is always):
        assert f.calls == sum(passes)
        assert opt.last.passes == passes[-1]


@IN_VAIN
@pytest.mark.parametrize("name", CASES)
def test_a_group_at_rest(path, name):
    """It stays at w in the ascent and is no part of the norm, but of the descent."""
    expected = oracle(CASES[name], "momentum", only_x(START))
    weights, _, _ = run(CASES[name], "momentum", by_block, y_at_rest)
    assert np.abs(weights - expected).max() < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_the_cases_tell_themselves_apart_from_sam(name):
    """An oracle that would not notice the difference proves nothing: 1e-10 is far below what each part changes."""
    sam = oracle(CASES["sam"], "momentum", EVERY)
    own = oracle(CASES[name], "momentum", EVERY)
    assert bool(np.abs(own - sam).max() > 1e-4) == (name != "sam")


def test_any_three_of_path_door_case_and_base_meet():
    every = [(path, door, *pair) for path in PATHS for door in (by_block, by_closure) for pair in PAIRS]
    for three in itertools.combinations(range(4), 3):
        assert {tuple(row[k] for k in three) for row in every} == {tuple(row[k] for k in three) for row in TURNS}


def test_every_variant_is_in_the_table():
    assert {name.replace("_", "-") for name in sm.variants()} <= set(CASES)


@pytest.mark.parametrize("name", sorted(sm.variants()))
def test_create_builds_what_the_function_builds(name):
    one, other = built(getattr(sm, name), name), built(lambda base, **options: sm.create(name, base, **options), name)
    assert repr(one) == repr(other)
    assert (one.geometry, one.ascent, one.descent) == (other.geometry, other.ascent, other.descent)


@pytest.mark.parametrize("name", sorted(sm.variants()))
def test_its_defaults_are_those_of_its_parts_and_of_sam(name):
    """The radius of ASAM is in units of the weights: about ten times that of SAM, as its docstring says."""
    opt = built(getattr(sm, name), name)
    for part in (opt.geometry, opt.ascent, opt.descent):
        assert part == type(part)()
    own, sam = (inspect.signature(make).parameters["rho"].default for make in (getattr(sm, name), sm.SAM))
    assert own == sam * (10 if name == "asam" else 1)
