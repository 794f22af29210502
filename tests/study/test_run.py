"""One run: the passes that its method promises, the same numbers again, those of a loop by hand, and what is judged."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from sharpmin.study import METHODS, NOISY, SETTINGS, Cell, Setting, run, setting
from sharpmin.study._memory import MemoryMeter
from sharpmin.study._run import StudyRun

EPOCHS = 3


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, s in SETTINGS.items():
        monkeypatch.setitem(SETTINGS, name, replace(s, epochs=EPOCHS if name in ("digits", "breast-cancer") else 1))


@pytest.fixture
def losses(monkeypatch):
    """Counts evaluations of the training loss."""
    seen, loss = [], Setting.loss

    def counted(self, model, x, y):
        seen.append(len(x))
        return loss(self, model, x, y)

    monkeypatch.setattr(Setting, "loss", counted)
    return seen


def cell(method="sam", data="digits", noise=0.0, seed=0):
    s = setting(data)
    return Cell(data, method, noise, seed, s.lr, s.rho)


@pytest.mark.parametrize("data", ["digits", "breast-cancer"])
@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if not m.norms])
def test_passes_are_counted_and_are_those_that_were_promised(method, data, losses):
    found = StudyRun(cell(method, data))
    found.train()
    steps, promised = found.cell.steps, METHODS[method].promised
    assert steps == round(METHODS[method].length * EPOCHS * (len(found.samples.x) // found.setting.batch))
    assert set(losses) == {found.setting.batch}
    assert len(losses) == found.passes == found.opt.last.total_passes
    if promised is None:
        assert steps < found.passes <= 2 * steps
        assert data == "digits" or found.passes < 2 * steps  # on digits, the gradient grows over so few steps
    else:
        assert abs(found.passes - promised * steps) < 1
    skipped = {"momentum": 1, "previous": 1}.get(method, 0)  # their first step has nothing to climb along
    one_pass = promised is not None and promised == 1
    expected = 0 if not METHODS[method].scale else steps - skipped if one_pass else found.passes - steps
    assert found.opt.last.climbed == expected


@pytest.mark.parametrize("data", ["mnist-5k", "pydoc"])
def test_on_norm_layers_only_they_are_perturbed(data, losses):
    found = StudyRun(cell("norms", data))
    seen, before = [], {}
    kinds = {
        p
        for m in found.model.modules()
        if isinstance(m, torch.nn.BatchNorm2d | torch.nn.LayerNorm)
        for p in m.parameters(False)
    }

    def look(done, batch):
        now = {p: p.detach().clone() for p in found.model.parameters()}
        seen.append([not torch.equal(p, before[p]) for p in now] if done else before.update(now))

    found.memory.look = look
    found._step(*next(found.batches()))
    assert seen[-1] == [p in kinds for p in found.model.parameters()]
    assert len(losses) == 2


def test_norm_layers_are_where_they_are():
    have = {name: METHODS["norms"].available(s) for name, s in SETTINGS.items()}
    assert have == {"digits": False, "mnist1d": False, "mnist-5k": True, "pydoc": True, "breast-cancer": False}


CLIMBS = {
    "base": lambda t, n: False,
    "sam": lambda t, n: True,
    "every-3": lambda t, n: t % 3 == 0,
    "last-third": lambda t, n: t >= round(2 * n / 3),
}


@pytest.mark.parametrize("noise", [0.0, NOISY])
@pytest.mark.parametrize("method", CLIMBS)
def test_the_trajectory_of_a_loop_by_hand(method, noise):
    """Same first weights, batches, cosine and SAM, in plain torch."""
    found = StudyRun(cell(method, noise=noise))
    found.train()
    s, steps = setting("digits"), found.cell.steps
    samples = s.load().noisy(noise, 0)
    torch.manual_seed(0)
    model = s.model()
    weights, rng = list(model.parameters()), torch.Generator().manual_seed(0)
    base = torch.optim.SGD(weights, lr=s.lr, momentum=0.9)
    for t in range(steps):
        if t % s.epoch == 0:
            order = torch.randperm(len(samples.x), generator=rng)
        rows = order[t % s.epoch * s.batch :][: s.batch]
        x, y = samples.x[rows], samples.y[rows]
        base.param_groups[0]["lr"] = s.lr * (1 + math.cos(math.pi * t / steps)) / 2
        grads = torch.autograd.grad(cross_entropy(model(x), y), weights)
        if CLIMBS[method](t, steps):
            norm = torch.sqrt(sum((g.double() ** 2).sum() for g in grads))
            kept = [w.detach().clone() for w in weights]
            with torch.no_grad():
                torch._foreach_add_(weights, torch._foreach_mul(grads, (s.rho / norm).float()))
            grads = torch.autograd.grad(cross_entropy(model(x), y), weights)
            with torch.no_grad():
                for w, k in zip(weights, kept, strict=True):
                    w.copy_(k)
        for w, g in zip(weights, grads, strict=True):
            w.grad = g
        base.step()
    for mine, theirs in zip(found.model.parameters(), weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_cell_gives_the_same_row(method):
    data = "mnist-5k" if METHODS[method].norms else "digits"
    one, two = run(cell(method, data, 0.0)), run(cell(method, data, 0.0))
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in two.items() if k != "seconds"}


def test_methods_of_a_seed_share_labels_first_weights_and_batches():
    one, two = (StudyRun(cell(method, noise=NOISY)) for method in ("base", "sam"))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert torch.equal(one.samples.y, two.samples.y)
    for (x, y), (x2, y2), _ in zip(one.batches(), two.batches(), range(30), strict=False):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_an_epoch_visits_no_sample_twice():
    found = StudyRun(cell())
    rows = torch.cat([x for (x, _), _ in zip(found.batches(), range(found.setting.epoch), strict=False)])
    whole = found.setting.epoch * found.setting.batch
    assert len(torch.unique(rows, dim=0)) >= whole - (len(found.samples.x) - len(torch.unique(found.samples.x, dim=0)))


@pytest.mark.parametrize("data", ["digits", "pydoc", "mnist-5k"])
def test_accuracies_and_loss_are_those_of_the_trained_model_in_eval_mode(data):
    found = StudyRun(cell("base", data))
    found.train()
    row, s = run(cell("base", data)), found.samples
    found.model.eval()
    with torch.no_grad():
        logp = found.model(s.x).double().log_softmax(-1)
        assert row["loss"] == pytest.approx(-float(logp.gather(-1, s.y[..., None]).mean()), rel=1e-5)
        for name, x, y in (("validation", s.x_validation, s.y_validation), ("accuracy", s.x_test, s.y_test)):
            assert row[name] == float((found.model(x).argmax(-1) == y).double().mean())
    assert row["gap"] == row["loss"]


def test_a_run_that_is_lost_has_no_loss(monkeypatch):
    loss = Setting.loss
    monkeypatch.setattr(Setting, "loss", lambda *given: loss(*given) * math.nan)
    row = run(cell())
    assert (row["loss"], row["gap"]) == (None, None)
    assert 0 <= row["accuracy"] <= 1


def test_memory_counts_what_is_kept_beside_weights_and_gradients():
    """Momentum is a copy; SAM keeps the weights as they were at the second pass; LookSAM and S²-SAM keep a vector more."""
    copies = {name: run(cell(name))["copies"] for name in ("base", "sam", "looksam", "momentum", "previous")}
    assert copies["base"] == copies["momentum"] == 1.0
    assert copies["previous"] == 2.0
    assert 2.0 <= copies["sam"] <= 2.5  # of small nets a tensor in use counts
    assert copies["looksam"] == copies["sam"] + 1


def test_what_another_thread_holds_for_a_moment_is_not_counted(monkeypatch):
    """A profiler, as in a worker of Dask, may hold the frame of an earlier pass with its tensors."""
    look, alone = MemoryMeter.look, run(cell("sam"))["copies"]

    def disturbed(self, done, batch):
        held = torch.ones(10**6) if len(self._found[done]) == 1 else None
        look(self, done, batch)
        del held

    monkeypatch.setattr(MemoryMeter, "look", disturbed)
    assert run(cell("sam"))["copies"] == alone


def test_the_table_of_methods_is_complete():
    looks = [m.look for name, m in METHODS.items() if not name.startswith("base")]
    assert len(set(looks)) == len(looks)
    assert len({m.title for m in METHODS.values()}) == len(METHODS)
    assert all(len(m.title.format(base="AdamW")) <= 24 for m in METHODS.values())
