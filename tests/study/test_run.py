"""One run: exactly its budget of gradient evaluations, whatever the method; the same numbers again; what it measures."""

import math

import pytest
import torch

from sharpmin.diagnostics import OnHold
from sharpmin.study import METHODS, Cell, Setting, run
from sharpmin.study._run import LR, OFF, SHORT, Run
from sharpmin.study._sharpness import eigenvalue

BUDGET = 80
STEPS = {"base": 80, "tail": 72 + 4, "until": 36 + 8}  # of the last tenth, 8 evaluations, SAM makes 4 steps


@pytest.fixture
def losses(monkeypatch):
    """Counts evaluations of the training loss."""
    seen, loss = [], Setting.loss

    def counted(self, model, x, y):
        seen.append(len(x))
        return loss(self, model, x, y)

    monkeypatch.setattr(Setting, "loss", counted)
    return seen


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("data", ["digits", "breast-cancer"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_same_gradient_evaluations(method, data, noise, losses):
    found, steps = Run(Cell(data, method, noise, 0, BUDGET)), []
    found.opt.base.register_step_post_hook(lambda *_: steps.append(found.budget.used))
    found.train()
    assert len(losses) == found.budget.used == BUDGET
    assert set(losses) == {found.setting.batch}
    assert len(steps) == STEPS.get(method, BUDGET // 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_methods_is_complete(method):
    entry, others = METHODS[method], [m for name, m in METHODS.items() if name != method]
    assert entry.look not in [other.look for other in others]
    assert entry.title not in [other.title for other in others]
    assert len(entry.title) <= 18


def test_what_the_issue_asks_for_is_in_it():
    assert list(METHODS) == ["base", "sam", "sam-large", "clipped", "clipped-large", "decayed", "on-hold", "tail", "until"]
    built = {name: Run(Cell("digits", name, 0.3, 0, 100)).opt for name in METHODS}
    said = {name: f"{opt.param_groups[0]['rho']} {opt.descent}" for name, opt in built.items()}
    tuned, large = Cell("digits", "sam", 0.3, 0).rho
    assert said == {
        "base": "0.0 Perturbed()",
        "sam": f"{tuned} Perturbed()",
        "sam-large": f"{large} Perturbed()",
        "clipped": f"{tuned} ClippedDifference(theta=0.5)",
        "clipped-large": f"{large} ClippedDifference(theta=0.5)",
        "decayed": f"ProportionalToLR(rho={tuned}, lr=0.05, power=0.5) Perturbed()",
        "on-hold": f"{tuned} Perturbed()",
        "tail": f"Tail(rho={tuned}, start=90) Perturbed()",
        "until": f"Until(rho={tuned}, stop=45) Perturbed()",
    }


def test_runs_repeat_and_seeds_differ(tiny):
    first, again, other = (run(Cell("digits", "clipped", 0.3, seed)) for seed in (0, 0, 1))
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    assert first["loss"] != other["loss"]
    assert first["used"] == 2 * 2 * 13


def test_methods_share_labels_weights_and_batches():
    one, two = (Run(Cell("digits", method, 0.3, 3, 40)) for method in ("base", "tail"))
    assert all(torch.equal(p, q) for p, q in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert torch.equal(one.split[1], two.split[1])
    for (x, y), (x2, y2), _ in zip(one.batches(), two.batches(), range(30), strict=False):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_an_epoch_visits_no_sample_twice():
    found = Run(Cell("digits", "base", 0.0, 0, 40))
    rows = torch.cat([x for (x, _), _ in zip(found.batches(), range(13), strict=False)])
    assert len(torch.unique(rows, dim=0)) == len(torch.unique(found.split[0], dim=0)) - (len(found.split[0]) - 1300)


def test_the_learning_rate_falls_by_shares_of_the_budget():
    found, rates = Run(Cell("digits", "sam", 0.0, 0, 100)), []
    found.opt.base.register_step_post_hook(lambda opt, *_: rates.append(opt.param_groups[0]["lr"]))
    found.train()
    expected = [[factor for begin, factor in LR if step / 50 >= begin][-1] * 0.05 for step in range(50)]
    assert rates == expected


def test_on_hold_looks_only_where_the_learning_rate_is_steady(monkeypatch):
    looked, step = [], OnHold.step

    def seen(self):
        looked.append(found.budget.share)
        return step(self)

    monkeypatch.setattr(OnHold, "step", seen)
    found = Run(Cell("digits", "on-hold", 0.3, 0, 2 * 13 * 40))
    hold = found.hold
    found.train()
    assert looked == [at / 40 for at in [*range(10, 21), *range(30, 33)]]  # epochs; lr falls after 20 and 32, verdicts from 36
    assert found.opt.param_groups[0]["rho"] == found.cell.rho[0] * 0.5**hold.changes


def test_verdicts():
    said = {}
    for method in ("base", "until", "sam"):
        found = Run(Cell("digits", method, 0.0, 0, 100))
        found.train()
        said[method] = found.verdict()
    assert said == {"base": OFF, "until": OFF, "sam": SHORT}
    found = Run(Cell("digits", "sam-large", 0.0, 0, 2 * 13 * 50))
    found.train()
    assert found.verdict() not in (OFF, SHORT)


def test_accuracy_and_loss_are_those_of_the_trained_model(tiny, monkeypatch):
    found = Run(Cell("digits", "sam", 0.3, 1))
    found.train()
    row = run(Cell("digits", "sam", 0.3, 1))
    x, y, x_test, y_test = found.split
    logp = found.model(x).double().log_softmax(1)
    assert row["loss"] == pytest.approx(-float(logp[range(len(y)), y].mean().detach()), rel=1e-6)
    assert row["gap"] == row["loss"]
    assert row["accuracy"] == sum(int(a) == int(b) for a, b in zip(found.model(x_test).argmax(1), y_test, strict=True)) / 450


def test_a_run_that_is_lost_has_no_numbers(tiny, monkeypatch):
    objective = Setting.objective
    monkeypatch.setattr(Setting, "objective", lambda *given: objective(*given) * math.nan)
    row = run(Cell("digits", "sam", 0.0, 0, 20))
    assert (row["loss"], row["gap"], row["eigenvalue"]) == (None, None, None)
    assert 0 <= row["accuracy"] <= 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_eigenvalue_is_the_largest_not_the_largest_in_size(sign):
    model = torch.nn.Linear(3, 2).double()
    x, a = torch.randn(20, 3, dtype=torch.float64), torch.tensor([[3.0, -1.0]], dtype=torch.float64)

    class Saddle:
        def objective(self, model, outputs, y):
            return sign * (a * torch.tanh(outputs) ** 2).sum(1).mean()

    weights = [p.detach().clone() for p in model.parameters()]
    shapes = [p.shape for p in weights]

    def flat(v):
        w, b = (part.view(shape) for part, shape in zip(v.split([6, 2]), shapes, strict=True))
        return sign * (a * torch.tanh(torch.nn.functional.linear(x, w, b)) ** 2).sum(1).mean()

    whole = torch.autograd.functional.hessian(flat, torch.cat([w.reshape(-1) for w in weights]))
    exact = torch.linalg.eigvalsh(whole)
    assert exact[0] < 0 < exact[-1]
    assert eigenvalue(Saddle(), model, x, torch.zeros(20)) == pytest.approx(float(exact[-1]), rel=1e-5)
