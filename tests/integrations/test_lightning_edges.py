"""Lightning: float16 and its overflows, skipped batches, manual optimization, and what is refused."""

import copy
import inspect
import pickle
import subprocess
import sys

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from tests.integrations.lightning_case import Net, Unscheduled, difference, loader, sam, trainer
from torch import nn

import sharpmin as sm
from sharpmin.integrations import LightningSAM

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning reads torch's pytree by an old name
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`dataloader_iter`"),
]


def half(scale=2.0**4):
    """float16 with a loss scaler; `precision="16-mixed"` alone becomes bfloat16 on a CPU."""
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))]}


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize("plugins", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize(("skipped", "forwards"), [([0, 1], 10), ([0], 11), ([1], 11)])
def test_skipped_batches(skipped, forwards, plugins):
    """A batch whose `training_step` returns None is in neither pass; under a scaler Lightning drops the whole step.

    A step of which all batches are left out is no step of SAM's either, so schedules of rho stand still.
    """

    class Skipping(Unscheduled):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx in skipped else loss

    net, run = Skipping(), trainer(accumulate_grad_batches=2, **half() if plugins else {})
    run.fit(net, loader())
    assert net.forwards == (10 if plugins and skipped == [1] else forwards)
    assert run.optimizers[0].param_groups[0]["sharpmin_step"] == (2 if skipped == [0, 1] or (plugins and 1 in skipped) else 3)
    assert run.global_step == 3


@pytest.mark.parametrize("call", [None, 2, 3], ids=["none", "first pass", "second pass"])
def test_float16_overflows(call):
    """An infinite gradient in either pass of the second step skips that step, halves the scale once, and no more."""

    class Spiked(Unscheduled):
        def training_step(self, batch, batch_idx):
            spike = float("inf") if self.forwards == call else 1.0
            return super().training_step(batch, batch_idx) * spike

    class Spy(Callback):
        def __init__(self):
            self.weights, self.stepped = [], []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.weights.append(pl_module.net[0].weight.detach().clone())
            self.stepped.append(trainer.optimizers[0].last.stepped)

    net, spy = Spiked(), Spy()
    run = trainer(spy, gradient_clip_val=0.5, **half())
    run.fit(net, loader(3))
    assert spy.stepped == [True, call is None, True]
    assert torch.equal(spy.weights[0], spy.weights[1]) is (call is not None)
    assert not torch.equal(spy.weights[1], spy.weights[2])
    assert run.precision_plugin.scaler.get_scale() == (16.0 if call is None else 8.0)
    assert net.forwards == (5 if call == 2 else 6)


def test_float16_is_the_loop_by_hand():
    net = Unscheduled()
    trainer(gradient_clip_val=0.1, **half()).fit(net, loader())
    hand = Net()
    opt, scaler = sam(hand, model=hand), torch.amp.GradScaler("cpu", init_scale=2.0**4)
    torch.manual_seed(100)
    for x, y in loader():
        x.add_(torch.rand(()))

        def backward(x=x, y=y):
            with torch.autocast("cpu", torch.float16, cache_enabled=False):
                loss = nn.functional.mse_loss(hand.net(x), y)
            scaler.scale(loss).backward()

        opt.zero_grad()
        with opt.clean():
            backward()
        with opt.perturbed(scaler):
            backward()
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(hand.parameters(), 0.1)
        scaler.step(opt)
        scaler.update()
    assert difference(net, hand) == 0.0


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, half()], ids=["plain", "accumulate", "float16"])
def test_without_the_callback_it_says_so(options):
    net = Net()
    before = copy.deepcopy(net.net.state_dict())
    with pytest.raises(sm.PhaseError, match="LightningSAM" if "plugins" not in options else "perturbed"):
        trainer(callback=False, **options).fit(net, loader())
    assert all(torch.equal(p, before[name]) for name, p in net.net.named_parameters())


SCRIPT = """
import sys
import sharpmin as sm, torch
import lightning.pytorch as pl

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return sm.SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=0.2)

quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
net = Net()
before = net.net.weight.detach().clone()
try:
    pl.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(net, torch.utils.data.DataLoader(torch.randn(8, 2), 4))
except sm.PhaseError as error:
    assert not [name for name in sys.modules if name.startswith("sharpmin.integrations")]
    assert torch.equal(before, net.net.weight)
    print(error)
"""


def test_without_the_callback_it_says_so_although_nobody_has_imported_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith("SAM under Lightning's automatic optimization needs its callback")
    assert done.stdout.strip().endswith("Trainer(..., callbacks=[sharpmin.integrations.LightningSAM()])")


class TwoPlayers(Net):
    """Two networks, each with a SAM of its own, in manual optimization; a step is made as `by` says."""

    def __init__(self, by):
        super().__init__()
        self.automatic_optimization, self.by = False, by
        self.players = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(2))

    def configure_optimizers(self):
        return [sam(player) for player in self.players]

    def training_step(self, batch, batch_idx):
        for opt, player in zip(self.optimizers(use_pl_optimizer=self.by != "raw"), self.players, strict=True):

            def closure(opt=opt, player=player):
                opt.zero_grad()
                self.manual_backward(nn.functional.mse_loss(player(batch[0]), batch[1]))

            if self.by == "closure":
                opt.step(closure)
                continue
            closure()
            with opt.perturbed(getattr(self.trainer.precision_plugin, "scaler", None)):
                closure()
            opt.step()


MANUAL = {"block": ("block", {}, 12), "closure": ("closure", {}, 12), "raw": ("raw", {}, 0), "float16": ("block", half(), 12)}


@pytest.mark.parametrize("case", MANUAL)
def test_manual_optimization_with_two_of_them(case):
    """`self.optimizers()` gives wrappers, whose step counts, and brings a closure that does nothing; raw ones do neither."""
    by, options, steps = MANUAL[case]
    net, run = TwoPlayers(by), trainer(callback=False, **options)
    run.fit(net, loader())
    hand, scale = TwoPlayers(by), 16 if options else 1
    torch.manual_seed(100)
    opts = hand.configure_optimizers()
    for x, y in loader():
        x.add_(torch.rand(()))
        for opt, player in zip(opts, hand.players, strict=True):

            def closure(opt=opt, player=player, x=x, y=y):
                opt.zero_grad()
                with torch.autocast("cpu", torch.float16, enabled=bool(options)):
                    loss = nn.functional.mse_loss(player(x), y)
                (loss * scale).backward()
                for p in player.parameters():
                    p.grad /= scale
                return loss

            opt.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), hand.parameters(), strict=True))
    assert run.global_step == steps


def test_manual_optimization_without_the_second_pass():
    class Forgetful(TwoPlayers):
        def training_step(self, batch, batch_idx):
            opt, _ = self.optimizers()
            self.manual_backward(self.players[0](batch[0]).square().mean())
            opt.step()

    with pytest.raises(sm.PhaseError, match="gradient at the perturbed weights"):
        trainer(callback=False).fit(Forgetful("block"), loader())


class Manual(Net):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class Bare(Net):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Iterating(Net):
    def training_step(self, dataloader_iter):
        return super().training_step(next(dataloader_iter)[0], 0)


REFUSED = {
    "manual": (Manual, {}, ValueError, "leave the callback out"),
    "no SAM": (Bare, {}, TypeError, "returned Adam; return sharpmin.SAM"),
    "iterator": (Iterating, {}, TypeError, "cannot be read a second time"),
    "scope": (lambda: Net(scope="microbatch"), {}, ValueError, 'use scope="global"'),
    "one pass": (lambda: Net(ascent=sm.Momentum()), {"accumulate_grad_batches": 2}, ValueError, "accumulate_grad_batches=1"),
    "one pass, scaled": (lambda: Net(ascent=sm.Momentum()), half(), ValueError, "without 16-mixed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(case):
    make, options, error, message = REFUSED[case]
    with pytest.raises(error, match=message) as caught:
        trainer(**options).fit(make(), loader())
    assert str(caught.value).startswith("LightningSAM: ")


def test_an_ascent_of_one_pass():
    net = Net(ascent=sm.Momentum())
    trainer().fit(net, loader())
    assert (net.forwards, net.logs) == (6, 6)


def test_it_can_be_pickled_for_a_spawn():
    assert pickle.loads(pickle.dumps(LightningSAM())).second_pass is False
    assert inspect.signature(LightningSAM).parameters == {}


def test_the_watch_sees_unscaled_gradients():
    """Scales are powers of two, so nothing but the scale may differ."""

    class Watched(Unscheduled):
        def configure_optimizers(self):
            self.probe = sm.watch(opt := sam(self), every=1)
            return opt

    rows = []
    for scale in (2.0**0, 2.0**4):
        net = Watched()
        trainer(accumulate_grad_batches=2, **half(scale)).fit(net, loader())
        rows.append([{**row, "loss": None, "id": None} for row in net.probe.log.steps])
        assert len(rows[-1]) == 3
        assert all(row["gg"] > 0 for row in rows[-1])
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == other[key] or one[key] == pytest.approx(other[key], rel=1e-6) for key in one)


@pytest.mark.parametrize("options", [{}, half()], ids=["float32", "float16"])
def test_the_run_draws_what_the_base_draws(options):
    """Random states after every batch, with a hook that draws between the forward and the step."""

    class Drawing(Unscheduled):
        def on_before_zero_grad(self, optimizer):
            torch.rand(3)

        def on_train_batch_end(self, *_):
            self.states.append(torch.get_rng_state())

    class Bare(Drawing):
        def configure_optimizers(self):
            return sam(self).base

    ours, bare = Drawing(), Bare()
    for net, callback in ((ours, True), (bare, False)):
        net.states = []
        trainer(callback=callback, **copy.deepcopy(options)).fit(net, loader())
    assert len(ours.states) == 6
    assert all(map(torch.equal, ours.states, bare.states))
