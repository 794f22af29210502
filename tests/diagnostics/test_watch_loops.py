"""Watching real loops: gradients overwritten, runs resumed or begun anew, steps skipped, groups of their own, other SAMs."""

import copy
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import Log, Numbers, Window, toggle
from sharpmin.diagnostics._run.log import collect, read
from sharpmin.diagnostics._run.rows import decode

from ..watched_runs import steps_of
from .test_watch import Run


@pytest.mark.parametrize("way", ["zero_grad", "no zero_grad", "data"])
def test_gradients_that_are_overwritten_are_copied(way):
    """The first step shows it, even where torch's version counter does not; no row is wrong, and none is lost."""
    run = Run(own=False, every=1, block=4)
    for _ in range(5):
        x = run.w.detach().clone()
        run.base.zero_grad()
        run.probe.clean(run.backward(torch.zeros(3)))
        g = run.w.grad.clone()
        e = 0.3 * g / g.norm()
        run.w.data.add_(e)
        if way == "data":
            run.w.grad.data.copy_(e)
            run.w.grad = None
        elif way == "zero_grad":
            run.base.zero_grad(set_to_none=False)
        else:
            run.w.grad.mul_(0.0)
        run.backward(torch.zeros(3))
        big = run.w.grad.clone()
        run.w.data.copy_(x)
        run.probe.perturbed()
        run.base.step()
        row = run.probe.log.steps[-1]
        assert [row["gg"], row["dd"]] == pytest.approx([float(g @ g), float((big - g) @ (big - g))], rel=1e-10)
    assert ([row["step"] for row in run.probe.log.steps], run.probe.log.remarks) == (list(range(5)), [])


def test_a_loop_that_begins_to_overwrite_loses_one_step_and_says_so():
    run = Run(own=False, every=1, block=4).steps(2)
    for _ in range(3):
        run.step(set_to_none=False)
    assert [row["step"] for row in run.probe.log.steps] == [0, 1, 2, 3]
    assert "step 2 is left out: its first gradients were overwritten" in run.probe.log.remarks[0]
    for row, (_, g, big) in zip(run.probe.log.steps, run.pairs[:2] + run.pairs[3:], strict=True):
        assert (row["gg"], row["dd"]) == pytest.approx((float(g @ g), float((big - g) @ (big - g))), rel=1e-10)


def test_a_resumed_run_goes_on_where_its_checkpoint_was_made(tmp_path):
    """Numbers go on from the optimizer's, though watched before it was loaded; rows from after the checkpoint are replaced."""
    path, whole = tmp_path / "run.jsonl", Run(every=1, block=5)
    first = Run(every=1, block=5, to=path).steps(12)
    saved = first.opt.state_dict(), first.w.detach().clone()
    first.steps(4)  # lost, and one block with them
    again = Run(every=1, block=5, to=path)
    again.opt.load_state_dict(saved[0])
    again.w.data.copy_(saved[1])
    again.steps(13)
    log, rows = read(path), whole.steps(25).probe.log.steps
    assert [row["step"] for row in log.steps] == list(range(25))
    assert [row["gg"] for row in log.steps] == [row["gg"] for row in rows]
    assert [(row["first"], row["last"]) for row in log.blocks] == [(0, 4), (5, 9), (12, 16), (17, 21)]
    assert log.remarks == ["the run came back to step 12; the steps that it had taken from there are left out"]
    assert again.probe.step == 25


@pytest.mark.parametrize(
    "base",
    [lambda ps, m: torch.optim.SGD(ps, lr=0.1, momentum=m), lambda ps, m: torch.optim.Adam(ps, betas=(m, 0.999))],
    ids=["momentum", "betas"],
)
def test_a_resumed_run_whose_momentum_follows_a_schedule_keeps_its_rows(base, tmp_path):
    """As under OneCycleLR: the setting that the file begins with is that of its first step."""
    path = tmp_path / "run.jsonl"
    first = Run(every=1, block=5, to=path, base=lambda ps: base(ps, 0.95)).steps(10)
    again = Run(every=1, block=5, to=path, base=lambda ps: base(ps, 0.85))
    again.opt.load_state_dict(first.opt.state_dict())
    again.steps(5)
    log = read(path)
    assert [row["step"] for row in log.steps] == list(range(15))
    assert log.remarks == []


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_a_run_in_the_file_of_another_one_begins_anew(own, tmp_path):
    path = tmp_path / "run.jsonl"
    Run(own, every=1, block=2, to=path).steps(9)
    Run(own, every=1, block=2, to=path, rho=0.3).steps(3)
    log = read(path)
    assert ([row["step"] for row in log.steps], [row["last"] for row in log.blocks]) == ([0, 1, 2], [1])
    Run(own, every=1, block=2, to=path, start=3).steps(4)
    log = read(path)
    assert ([row["step"] for row in log.steps], [row["last"] for row in log.blocks]) == (list(range(7)), [1, 4, 6])


def test_a_skipped_step_has_no_number_of_its_own():
    run = Run(every=1, block=5).steps(3)

    def spoiled():
        run.opt.zero_grad()
        loss = run.backward(torch.zeros(3))
        run.w.grad[0] = torch.nan
        return loss

    for _ in range(2):
        run.opt.step(spoiled)
    run.steps(3)
    assert [row["step"] for row in run.probe.log.steps] == list(range(6))
    assert run.probe.log.remarks == []


def test_steps_without_sam_between_are_counted():
    """SAM on every fifth step: a fifth of its force and of its noise, and a horizon in steps of the run."""
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    opt = sm.SAM(torch.optim.SGD([w], lr=1e-4), rho=sm.rho.Every(0.3, 5))
    probe = sm.watch(opt, every=1, block=4)
    steps_of(opt, lambda: 1.0 * (w**2).sum(), 200)
    assert [row["step"] for row in probe.log.steps] == list(range(0, 200, 5))
    assert all("lag" not in row for row in probe.log.steps)
    window = Window.of(probe.log, blocks=10)
    assert (window.duty, window.steps) == (pytest.approx(0.2), 196)
    alone = Log()
    for row in (probe.log.run, *probe.log.blocks):  # the same steps of SAM, with none between
        alone.add({**row, **{key: row[key] // 5 for key in ("first", "last") if key in row}})
    other = Window.of(alone, blocks=10)
    assert other.duty == 1.0
    one, five = (Numbers.of(found) for found in (other, window))
    assert five.upper / five.horizon == pytest.approx(0.2 * one.upper / one.horizon)
    assert five.amplified == pytest.approx(0.2 * one.amplified)


@pytest.mark.parametrize("copied", [lambda opt: pickle.loads(pickle.dumps(opt)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_is_not_watched(copied):
    run = Run(every=1, block=4).steps(2)
    other = copied(run.opt)
    w = other.param_groups[0]["params"][0]
    steps_of(other, lambda: 1.0 * (w**2).sum(), 3)
    assert (len(run.probe.log.steps), other.watchers) == (2, [])


def test_a_closed_probe_watches_no_more(tmp_path):
    run = Run(every=1, block=4, to=tmp_path / "run.jsonl").steps(2)
    run.probe.close()
    run.probe.close()
    run.steps(2)
    assert len(read(tmp_path / "run.jsonl").steps) == len(run.probe.log.steps) == 2


def test_a_full_disk_ends_the_log_and_not_the_run():
    def full(row):
        if row.get("step") == 1:
            raise OSError(28, "No space left on device")
        written.append(row)

    written = []
    run = Run(every=1, block=4, to=full)
    with pytest.warns(UserWarning, match="could not be written to .*No space left.*tries again") as told:
        run.steps(5)
    assert len(told) == 1
    assert [row.get("step") for row in written] == [None, 0, 2, 3, None, 4]
    assert len(run.probe.log.steps) == 5


@pytest.mark.parametrize("moved", [False, True])
def test_weights_are_taken_where_they_are_w(moved):
    """The second line of a loop may come before the weights are back."""
    options = {"every": 1, "block": 3, "mu": 0.5, "base": lambda ps: torch.optim.SGD(ps, lr=0.1, weight_decay=0.3)}
    own, other = Run(**options).steps(3), Run(own=False, **options)
    for _ in range(3):
        x = other.w.detach().clone()
        other.base.zero_grad()
        other.probe.clean(other.backward(torch.zeros(3)))
        other.w.data.add_(0.3 * other.w.grad / other.w.grad.norm())
        other.base.zero_grad()
        other.backward(torch.zeros(3))
        if moved:
            other.probe.perturbed()
        other.w.data.copy_(x)
        if not moved:
            other.probe.perturbed()
        other.base.step()
    for key in ("g", "d", "x"):
        np.testing.assert_allclose(decode(own.probe.log.blocks[0][key]), decode(other.probe.log.blocks[0][key]), rtol=1e-6)
    assert own.probe.log.blocks[0]["gx"] == pytest.approx(other.probe.log.blocks[0]["gx"], rel=1e-12)


def test_the_base_inside_another_sam_is_found():
    class Theirs(torch.optim.Optimizer):
        def __init__(self, base):
            self.base_optimizer = base
            super().__init__(base.param_groups, {})

    base = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=0.1)
    probe = sm.watch(nn.Linear(1, 1), rho=0.1, optimizer=Theirs(base))
    assert (probe.log.run["base"], probe.log.run["adaptive"]) == ("Adam", True)


def test_a_closure_may_return_more_than_the_loss():
    w = nn.Parameter(torch.tensor([3.0, 1.0]))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.1)
    probe = sm.watch(opt)

    def closure():
        opt.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss, {"logits": w}

    opt.step(closure)
    assert "loss" not in probe.log.steps[0]


@pytest.mark.parametrize("key", ["loss", "curvature", "lag"])
@pytest.mark.parametrize("value", ['"x"', "[1.0]", "{}", "null"])
def test_a_line_whose_number_is_none_is_left_out(tmp_path, key, value):
    run = Run(every=1, block=2, to=tmp_path / "run.jsonl").steps(12)
    run.probe.close()
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    bad = next(line for line in lines if '"kind": "block"' in line)[:-1] + f', "{key}": {value}}}'
    huge = '{"kind": "step", "step": 1' + "0" * 400 + ', "gg": 1.0, "dg": 1.0, "dd": 1.0}'
    log = collect([*lines, bad, huge], "run.jsonl")
    assert (len(log.blocks), len(log.steps)) == (6, 12)
    assert log.remarks == [f"2 lines could not be read and are left out (number {len(lines) + 1}, {len(lines) + 2})"]


@pytest.mark.parametrize("blocks", [0, -3, 2.5])
def test_blocks_is_a_positive_integer(blocks):
    with pytest.raises((TypeError, ValueError), match=r"blocks=.*must be an integer >= 1"):
        sm.diagnose(Run(every=1, block=2).steps(20).probe, blocks=blocks)


def test_a_toggle_leaves_every_generator_where_it_was():
    model = nn.Linear(2, 1)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.01), rho=0.1)

    def step(net, sam, batch):
        shift = float(np.random.standard_normal()) + random.random() + float(torch.rand(()))

        def closure():
            sam.zero_grad()
            loss = (net(batch) - shift).square().mean()
            loss.backward()
            return loss

        return sam.step(closure)

    def states():
        return np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()

    before = states()
    answer = toggle(model, opt, step, [torch.ones(3, 2)] * 20, branches=("rho = 0", "rho"))
    assert states() == before
    assert answer.losses["rho"][0] == answer.losses["rho = 0"][0]  # the same numbers were drawn


@pytest.mark.parametrize(("noted", "mu"), [(False, None), (True, None), (False, 0.1)])
def test_a_loop_that_gives_no_loss_is_told_once(noted, mu):
    w = torch.nn.Parameter(torch.linspace(1, 2, 3))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.01), rho=0.1)
    probe = sm.watch(opt, block=8, mu=mu)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(24):
            opt.zero_grad()
            loss = w.square().sum()
            loss.backward()
            with opt.perturbed():
                w.square().sum().backward()
            if noted:
                probe.note(loss)
            opt.step()
    told = [str(each.message) for each in seen if "the first block has no loss" in str(each.message)]
    assert len(told) == (0 if noted or mu else 1)
