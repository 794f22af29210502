"""One table of SAMs times one table of properties: `conformance.py` says which, and every exported part must be in it."""

import copy
import importlib.util
import io
import itertools
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

import sharpmin as sm
from sharpmin.optim._effects.guard import _holders
from sharpmin.optim._state import Phase, Step

_spec = importlib.util.spec_from_file_location("conformance_table", Path(__file__).with_name("conformance.py"))
table = sys.modules["conformance_table"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(table)
Task, STEPS = table.Task, 4
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2e-2}
pytestmark = pytest.mark.filterwarnings("ignore:SAM. only .* of the ascent survives")  # bfloat16, which is reported


def bits(value):
    """A comparable copy, tensors by their bits."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


def everything(task):
    return bits([task.weights, task.opt.state_dict()])


@lru_cache(maxsize=1)
def by_block(case):
    """After each step of a training by block: everything, and the passes that were made."""
    task, path = Task(case), []
    for _ in range(STEPS):
        task.step()
        path.append((everything(task), task.opt.last.passes))
    return path


def it_comes_back_bit_for_bit(case):
    task = Task(case)
    for _ in range(STEPS):
        was, places, inside = bits(task.weights), [p.data_ptr() for p in task.weights], []
        task.opt.zero_grad()
        if task.opt.ascent.needs_clean:
            task.backward()
        task.opt.perturb()
        inside.append(bits(task.weights))
        task.backward()
        task.opt.restore()
        assert bits(task.weights) == was
        assert [p.data_ptr() for p in task.weights] == places
        assert (inside[0] != was) == (task.opt.last.radius > 0)
        task.opt.step()
        assert [p.data_ptr() for p in task.weights] == places
        task.time += 1


def its_step_is_that_of_the_base(case):
    """On the descent gradient, which is taken by hand at the point to which `perturb` moves a copy."""
    task, row = Task(case), table.DESCENTS[case.descent]
    for _ in range(STEPS):
        copied, base = copy.deepcopy((task, task.opt.base))
        g = torch.autograd.grad(copied.loss(), copied.weights)
        if copied.opt.ascent.needs_clean:
            copied.backward()
        copied.opt.perturb()
        big = torch.autograd.grad(copied.loss(), copied.weights)
        copied.opt.restore()
        moved = copied.opt.last.radius > 0
        sides = [table.flat([x.double().numpy() for x in side]) for side in (g, big)]
        d = row.combine(*sides) if moved else sides[0]
        pieces = np.split(d, np.cumsum([x.numel() for x in g])[:-1])
        twin, base = copy.deepcopy((task.weights, task.opt.base))
        for p, piece in zip(twin, pieces, strict=True):
            p.grad = torch.tensor(piece).view_as(p).to(p.dtype)
        base.step()
        task.step()
        exact = row.exact or not moved
        for p, q in zip(task.weights, twin, strict=True):
            assert torch.equal(p, q) or not exact
            assert p.flatten().tolist() == pytest.approx(
                q.flatten().tolist(), rel=TOLERANCE[case.dtype], abs=TOLERANCE[case.dtype]
            )


def rho_zero_is_the_base_bit_for_bit(case):
    task, plain = Task(case, rho=0.0), Task(case)
    base = plain.opt.base
    for _ in range(STEPS):
        task.step()
        base.zero_grad()
        plain.backward()
        base.step()
        plain.time += 1
        assert bits(task.weights) == bits(plain.weights)
    assert bits(task.opt.state_dict()["state"]) == bits(base.state_dict()["state"])
    assert task.opt.last.passes == 1


def momentum_of(task):
    kept = [task.opt.base.state.get(p, {}) for p in task.weights]
    found = [own.get("momentum_buffer", own.get("exp_avg")) for own in kept]
    return None if found[0] is None else [-m.double().numpy() for m in found]


def its_perturbation_is_as_long_as_asked(case):
    """||e|| = rho_t and <a, e> = rho_t ||a||_*, measured on the weights by NumPy; half precision reports what it lost.

    There they are measured on the first two steps; later the report has what was asked for, and says so.
    """
    task, a, before = Task(case), None, None
    geometry, ascent, schedule = (t[name] for t, name in zip(table.TABLES[:3], case[:3], strict=True))
    rel = TOLERANCE["float32" if case.dtype == "bfloat16" else case.dtype] * 100
    for t in range(STEPS):
        task.opt.zero_grad()
        task.backward()
        if schedule.radius(t, 1.0):  # a step of the base leaves what an ascent remembers alone
            a = ascent.vector(task.arrays(lambda p: p.grad), a, momentum_of(task), before)
        w = task.arrays()
        task.opt.perturb()
        e = [x - y for x, y in zip(task.arrays(), w, strict=True)]
        task.backward()
        task.opt.restore()
        n = geometry.dual_norm(w, a) if a else 0.0
        rho = float(schedule.radius(t, n))
        last = task.opt.last
        asked = rho if a else 0.0
        measured = geometry.norm(w, e)
        if rho and a:
            assert last.rho == pytest.approx(rho, rel=rel)
            assert last.dual_norm == pytest.approx(n, rel=rel)
        if asked == 0.0:
            assert measured == last.radius == 0.0
        elif case.dtype == "bfloat16":
            assert last.measured is (t < 2)
            assert last.radius == pytest.approx(measured if last.measured else rho, rel=rel)
            gain = pytest.approx(table.flat(a) @ table.flat(e) / (rho * n), rel=rel)
            assert last.gain == (gain if last.measured else None)
        else:
            assert measured == pytest.approx(rho, rel=rel)
            assert last.radius == pytest.approx(rho, rel=rel)
            assert table.flat(a) @ table.flat(e) == pytest.approx(rho * n, rel=rel)
            assert last.gain == pytest.approx(1.0, rel=rel)
        before = task.arrays(lambda p: p.grad)
        task.opt.step()
        task.time += 1


def zero_gradients_do_no_harm(case):
    """The base's step on zero gradients: with plain SGD nothing moves."""
    task, plain = Task(case), Task(case)
    for each in (task, plain):
        each.loss = lambda each=each: sum((w * 0).sum() for w in each.weights)
    was = bits(task.weights)
    for _ in range(STEPS):
        task.step()
        plain.opt.base.zero_grad()
        plain.backward()
        plain.opt.base.step()
        assert bits(task.weights) == bits(plain.weights)
        assert all(torch.isfinite(w).all() for w in task.weights)
        assert task.opt.last.stepped
        assert task.opt.last.radius == 0.0 or not task.opt.ascent.needs_clean  # weight decay is in the momentum of SGD
    assert case.base != "sgd" or bits(task.weights) == was


def an_exception_half_way_leaves_no_trace(case):
    task = Task(case)

    def fail():
        raise MemoryError

    for undisturbed, _ in by_block(case):
        was = everything(task)
        with pytest.raises(MemoryError):
            task.step(fail)
        assert everything(task) == was
        assert all(w.grad is None for w in task.weights)
        assert task.opt.last.stepped is False
        task.step()
        assert everything(task) == undisturbed


def a_copy_goes_on_alike(case):
    task = Task(case)
    for _ in range(STEPS // 2):
        task.step()
    task.opt.zero_grad()
    twin = copy.deepcopy(task)
    for each in (task, twin):
        for _ in range(STEPS // 2):
            each.step()
    assert everything(task) == everything(twin)
    assert task.opt.last == twin.opt.last
    assert not {w.data_ptr() for w in task.weights} & {w.data_ptr() for w in twin.weights}


def a_checkpoint_goes_on_alike(case):
    task, twin, file = Task(case), Task(case), io.BytesIO()
    for _ in range(STEPS // 2):
        task.step()
    torch.save({"weights": [w.detach() for w in task.weights], "opt": task.opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    for w, own in zip(saved["weights"], twin.weights, strict=True):
        own.data.copy_(w)
    twin.opt.load_state_dict(saved["opt"])
    twin.time = task.time
    for each in (task, twin):
        for _ in range(STEPS // 2):
            each.step()
    assert everything(task) == everything(twin)


def its_passes_are_as_promised(case):
    task, row, schedule = Task(case), table.ASCENTS[case.ascent], table.SCHEDULES[case.schedule]
    for t, (block, passes) in enumerate(by_block(case)):
        promised = row.passes if schedule.radius(t, 1.0) else 1
        assert task.opt.needs_second_pass == (row.passes == 1 or promised == 2)
        before = task.calls
        task.by_closure()
        assert task.calls - before == task.opt.last.passes == passes == promised
        assert everything(task) == block


def telemetry_changes_nothing(case):
    task = Task(case, telemetry=True)
    for without, passes in by_block(case):
        task.step()
        assert everything(task) == without
        assert (task.opt.last.curvature is not None) == (passes == 2)


def nothing_is_held_afterwards(case):
    task = Task(case)

    def inside():
        assert [holder() for _, holder in _holders.values()] == [task.opt.base]
        assert task.opt._passes.state.phase is Phase.PERTURBED

    task.step(inside)
    task.by_closure()
    state = task.opt._passes.state
    assert state.phase is Phase.CLEAN
    assert _holders == {}
    assert state.trip is None
    assert state.first.random is state.first.before is state.first.end_no_sync is None
    assert state.step == Step()


PROPERTIES = [
    it_comes_back_bit_for_bit,
    its_step_is_that_of_the_base,
    rho_zero_is_the_base_bit_for_bit,
    its_perturbation_is_as_long_as_asked,
    zero_gradients_do_no_harm,
    an_exception_half_way_leaves_no_trace,
    a_copy_goes_on_alike,
    a_checkpoint_goes_on_alike,
    its_passes_are_as_promised,
    telemetry_changes_nothing,
    nothing_is_held_afterwards,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("case", table.CASES, ids=str)
def test_conformance(case, holds):
    holds(case)


KINDS = [
    (sm.optim, sm.optim.Geometry, table.GEOMETRIES),
    (sm.optim, sm.optim.Ascent, table.ASCENTS),
    (sm.optim, sm.optim.Descent, table.DESCENTS),
    (sm.rho, sm.rho.RhoSchedule, table.SCHEDULES),
]


@pytest.mark.parametrize(("module", "kind", "rows"), KINDS, ids=["geometry", "ascent", "descent", "schedule"])
def test_every_exported_part_has_a_row_and_every_row_cases(module, kind, rows):
    assert table.missing(module, kind, rows) == set()
    assert table.missing(module, kind, dict(list(rows.items())[:1])) != set()  # the line above can fail
    assert all(sum(name in case for case in table.CASES) >= 5 for name in rows)


def test_every_rule_skips_something():
    product = list(itertools.starmap(table.Case, itertools.product(*table.TABLES)))
    assert all(any(skip(case) for case in product) for skip in table.SKIPPED.values())
    assert len(table.CASES) > 150
