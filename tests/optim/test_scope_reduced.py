"""Scopes with a model whose gradients are reduced where they accumulate, as DistributedDataParallel's are; here on one rank."""

import itertools
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import _scope

from .test_scope import GEOMETRIES, Batches, oracle, skips_an_overflow, step


class Reduced(nn.Module):
    """The weights of `Batches`, and what DDP shows of itself: whether the last forward was synced, and `no_sync()`."""

    def __init__(self, f):
        super().__init__()
        self.p, self.q, self._loss, self._sync = f.p, f.q, f.loss, True
        self.require_forward_param_sync = True

    @contextmanager
    def no_sync(self):
        self._sync = False
        try:
            yield
        finally:
            self._sync = True

    def forward(self, i):
        self.require_forward_param_sync = self._sync
        return self._loss(i)


def made(m, scope, dtype=torch.float64, **options):
    f = Batches(m, dtype)
    f.loss = Reduced(f)
    return f, f.sam(scope=scope, model=f.loss, **options)


@pytest.mark.parametrize(("scope", "m"), [("microbatch", 1), ("microbatch", 2), ("microbatch", 3), ("rank", 1)])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_ten_steps_against_numpy(path, scope, m, geometry):
    f, opt = made(m, scope, geometry=GEOMETRIES[geometry][0])
    for expected in oracle(f, 10, GEOMETRIES[geometry][1], lambda g, big: big):
        step(opt, f)
        assert f.w == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert opt.last.stepped


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("scope", "spoil"), [("rank", (1, 1)), ("rank", (1, 2)), *(("microbatch", s) for s in itertools.product([1, 2], [1, 2]))]
)
def test_an_overflow_skips_the_step(*, path, bits, scope, spoil, scaled, monkeypatch):
    """On an accelerator a first gradient that is not finite shows in the sum alone: as nan, put where that accumulates."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: None)  # of one rank
    f, opt = made(1 if scope == "rank" else 2, scope, torch.float32, skip_nonfinite=True)
    skips_an_overflow(opt, f, bits, spoil, scaled)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("reduces", [False, True])
def test_a_model_that_reduces_unknown_to_sam_is_refused(reduces, own, world, monkeypatch):
    """In the first pass of a micro-batch, if it has parameters of this optimizer and there are other ranks."""
    monkeypatch.setattr(_scope, "rank_and_world", lambda: (0, world))
    f, other = Batches(1), Batches(1)
    opt, model = f.sam(), Reduced(f if own else other)
    if not reduces:
        del model.require_forward_param_sync
        model.forward = model._loss
    refused = reduces and own and world > 1
    with opt.clean():
        if refused:
            with pytest.raises(ValueError, match="that SAM was not given"):
                model(0)
        else:
            model(0).backward()
    assert _scope.reduces(model) is reduces
    model(0)  # the refusal ends with the block


@pytest.mark.parametrize("scope", ["microbatch", "rank"])
def test_a_first_pass_that_was_reduced_is_refused(scope):
    f, opt = made(1, scope)
    f.loss(0).backward()
    with pytest.raises(sm.PhaseError, match=r"clean\(\)"):
        opt.perturb()


@pytest.mark.parametrize("scope", ["microbatch", "rank"])
def test_a_last_second_pass_that_was_not_reduced_is_refused(scope, bits):
    """Scope "rank" knows at the end of the block, "microbatch" in `step()`: there it may not have been the last."""
    f, opt = made(1, scope)
    was = bits([f.p, f.q])

    def passes():
        with opt.clean():
            f.loss(0).backward()
        with opt.perturbed(), f.loss.no_sync():
            f.loss(0).backward()
        if scope == "microbatch":
            opt.step()

    with pytest.raises(sm.PhaseError, match="ran under no_sync"):
        passes()
    assert bits([f.p, f.q]) == was


def test_a_last_micro_batch_at_rest_needs_its_second_pass_all_the_same(bits):
    """Which reduces what the ones before have left."""
    f, opt = made(2, "microbatch")
    was = bits([f.p, f.q])
    for i in range(2):
        with opt.clean():
            (f.loss(i) * (i == 0)).backward()
        if i == 0:
            with opt.perturbed():
                f.loss(i).backward()
    with pytest.raises(sm.PhaseError, match="that pass reduces what has accumulated"):
        opt.step()
    assert bits([f.p, f.q]) == was
