"""Real runs whose answer is known: a floor of rho, a floor of noise, a two-cycle, a trap, and runs that the toggle decides."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import OnHold, State, toggle
from sharpmin.diagnostics import hold as hold_module


class Quadratic:
    """0.5 w'Hw + noise, gradients by hand."""

    def __init__(self, h, rho, lr=0.1, noise=0.0, start=1.0, base=torch.optim.SGD, shift=0.0, **options):
        self.h = torch.tensor(h, dtype=torch.float64)
        self.w = nn.Parameter(torch.full_like(self.h, start))
        self.net = nn.ParameterList([self.w])
        self.noise, self.shift, self.rng = noise, shift, torch.Generator().manual_seed(0)
        self.opt = sm.SAM(base([self.w], lr=lr), rho=rho)
        self.probe = sm.watch(self.opt, **options) if options else None

    def batch(self):
        return self.noise * torch.randn(len(self.h), generator=self.rng, dtype=torch.float64)

    def step(self, net, opt, xi):
        w = net[0]

        def closure():
            x = w.detach()
            w.grad = self.h * x + xi
            return 0.5 * (self.h * x * x).sum() + xi @ x + self.shift

        return opt.step(closure)

    def steps(self, count):
        for _ in range(count):
            self.step(self.net, self.opt, self.batch())
        return self


def watched(run, warm, window, **options):
    run.steps(warm)
    run.probe = sm.watch(run.opt, every=1, block=window // 20, **options)
    return sm.diagnose(run.steps(window).probe)


def test_the_two_cycle_of_the_golden_case():
    """0.5 x^2 from 1, lr .1, rho .1: |x| ends at lr rho / (2 - lr), and lr h (1 + ...) is 2 there."""
    found = watched(Quadratic([1.0], rho=0.1), 600, 400)
    assert found.state is State.TWO_CYCLE
    assert found.numbers.bounce == pytest.approx(2.0, rel=1e-6)
    assert found.numbers.lag == pytest.approx(-1.0)
    assert found.exit_code == 10


@pytest.mark.parametrize("rho", [sm.rho.InverseSqrt(0.1), sm.rho.Unnormalized(0.1)])
def test_what_goes_all_the_way_is_no_two_cycle(rho):
    run = Quadratic([1.0], rho=rho, start=1.0).steps(50)
    run.probe = sm.watch(run.opt, every=1, block=20)
    assert sm.diagnose(run.steps(400).probe).state is State.UNDECIDED  # while the loss falls by orders, few steps are alike


def test_symmetric_noise_is_no_rho_verdict():
    found = watched(Quadratic([0.1, 0.5, 1.0], rho=1e-4, noise=0.5), 500, 2000)
    assert found.state is State.FREE


def test_a_floor_of_noise_and_one_of_rho():
    """With noise sigma and curvature h: rho = 1e-3 leaves the floor of SGD; rho = 2 multiplies it by 1 + a."""
    small = watched(Quadratic([0.5, 1.0], rho=1e-3, noise=0.5), 500, 2500, mu=0.5, reshuffled=False)
    large = watched(Quadratic([0.5, 1.0], rho=3.0, noise=0.5), 500, 2000, mu=0.5, reshuffled=False)
    assert (small.state, large.state) == (State.NOISE_FLOOR, State.RHO_FLOOR)
    exact = sum(0.1 * 0.25 * h / (2 * h * (2 - 0.1 * h)) for h in (0.5, 1.0))  # E of h x^2 / 2 under SGD
    assert small.floor.noise == pytest.approx(exact, rel=0.2)


def test_the_toggle_measures_what_rho_does_and_leaves_the_run_alone():
    run = Quadratic([0.5, 1.0], rho=3.0, noise=0.5).steps(500)
    batches = [run.batch() for _ in range(400)]
    before = (run.w.detach().clone(), run.opt.state_dict(), torch.get_rng_state(), list(run.opt.watchers))
    found = toggle(run.net, run.opt, run.step, batches, branches=["rho = 0", "rho / 2", "lr / 2"], evaluate=loss_of(run))
    assert found.differences["rho = 0"].interval[0] > 0
    assert found.differences["rho = 0"].mean > found.differences["rho / 2"].mean
    assert torch.equal(run.w, before[0])
    assert run.opt.state_dict() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    ends = {}
    for name, rho in (("rho", 3.0), ("rho = 0", 0.0)):  # what the branches did, by hand
        other = Quadratic([0.5, 1.0], rho=rho, noise=0.5)
        with torch.no_grad():
            other.w.copy_(run.w)
        losses = [float(other.step(other.net, other.opt, xi)) for xi in batches]
        assert losses == found.losses[name]
        ends[name] = loss_of(run)(other.net)
    assert found.differences["rho = 0"].final == pytest.approx(ends["rho"] - ends["rho = 0"], rel=1e-12)


def loss_of(run):
    return lambda net: float(0.5 * (run.h * net[0].detach() ** 2).sum())


def test_the_toggle_of_nothing_shows_no_difference():
    run = Quadratic([1.0], rho=0.0, noise=0.5)
    found = toggle(run.net, run.opt, run.step, [run.batch() for _ in range(40)])
    assert found.differences["rho = 0"].mean == 0.0
    assert not found.differences["rho = 0"].clear
    assert "no clear difference" in str(found)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"branches": ["rho = 1"]}, ValueError, "rho = 1"),
        ({"batches": [1] * 19}, ValueError, "19 batches"),
        ({"opt": None}, TypeError, "NoneType"),
        ({"step": lambda *_: None}, TypeError, "must return the loss"),
    ],
)
def test_bad_toggles(change, error, words):
    run = Quadratic([1.0], rho=0.1)
    given = {"model": run.net, "opt": run.opt, "step": run.step, "batches": [run.batch()] * 20, **change}
    with pytest.raises(error, match=words):
        toggle(**given)


def test_on_hold_halves_rho_while_it_holds_the_run_up_and_goes_on_after_a_checkpoint():
    run = Quadratic([0.5, 1.0], rho=3.0, noise=0.5).steps(300)
    run.probe = sm.watch(run.opt, every=1, block=150, mu=0.5, reshuffled=False)
    hold, radii = OnHold(run.opt, run.probe, blocks=10), []
    for _ in range(21):
        run.steps(150)
        hold.step()
        radii.append(run.opt.param_groups[0]["rho"])
    assert radii[:9] == [3.0] * 9
    assert radii[9:19] == [1.5] * 10  # a window at the new rho comes first
    assert radii == sorted(radii, reverse=True)
    assert hold.state_dict() == {"changes": hold.changes}
    again = OnHold(run.opt, run.probe, blocks=10)
    again.load_state_dict(hold.state_dict())
    assert again.changes == hold.changes
    assert again.step() is None


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(("factor", "blocks"), [(0.5, 5), (0.25, 7)])
def test_on_hold_multiplies_rho_once_a_window_of_new_blocks(factor, blocks, state, monkeypatch):
    """A change is followed by a window of its own: where every one holds, n blocks make n // blocks changes."""
    monkeypatch.setattr(hold_module, "diagnose", lambda *_, **__: SimpleNamespace(state=state))
    holds = state in (State.HOLDS, State.RHO_FLOOR, State.TWO_CYCLE, State.TRAP)
    run = Quadratic([1.0], rho=0.8, noise=0.1, every=1, block=2).steps(6)
    hold = OnHold(run.opt, run.probe, factor=factor, blocks=blocks)
    for n in range(1, 4 * blocks):
        found = run.steps(2) and hold.step()
        changes = n // blocks if holds else 0
        assert run.opt.param_groups[0]["rho"] == 0.8 * factor**changes
        assert (found is not None) is (n % blocks == 0 if holds else n >= blocks)
        assert hold.state_dict() == {"changes": changes}


@pytest.mark.parametrize(
    ("rho", "options", "words"),
    [(sm.rho.Cosine(0.1, steps=5), {}, "schedule"), (0.1, {"factor": 1.0}, "factor=1.0"), (0.1, {"blocks": 4}, "blocks=4")],
)
def test_bad_holds(rho, options, words):
    run = Quadratic([1.0], rho=rho, every=1)
    with pytest.raises(ValueError, match=words):
        OnHold(run.opt, run.probe, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"factor": "x"}, "factor='x' is a str"), ({"blocks": 7.5}, "blocks=7.5 is a float"), ({"opt": None}, "opt is a SGD")],
)
def test_what_on_hold_needs(options, words):
    run = Quadratic([1.0], rho=0.1)
    opt = run.opt.base if "opt" in options else run.opt
    with pytest.raises(TypeError, match=words):
        OnHold(opt, run.probe, **{k: v for k, v in options.items() if k != "opt"})


def test_words_say_numbers_horizon_and_interval():
    found = watched(Quadratic([0.1, 0.5, 1.0], rho=1e-4, noise=0.5), 200, 500)
    assert str(found.numbers.horizon) in " ".join(found.sentences)
    assert all(sentence.endswith(".") for sentence in found.sentences)


def test_on_hold_acts_while_the_learning_rate_moves():
    run = Quadratic([0.5, 1.0], rho=3.0, noise=0.5, every=1, block=20)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(run.opt, 1000)
    hold = OnHold(run.opt, run.probe, blocks=10)
    for _ in range(300):
        run.steps(1)
        scheduler.step()
    assert hold.step().state is State.HOLDS
    assert run.opt.param_groups[0]["rho"] == 1.5
