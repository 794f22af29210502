"""Lightning's loop around the second pass: hooks, validation, checkpoints, interrupts, memory, batches that change."""

import gc
import signal
import weakref
from collections import Counter

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from tests.integrations.hf import MODELS
from tests.integrations.lightning_case import Net, Unscheduled, by_hand, difference, loader, sam, trainer
from torch import nn
from torch.utils.data import DataLoader

import sharpmin as sm
from sharpmin.integrations import LightningSAM

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning reads torch's pytree by an old name
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]


class Counting(Callback):
    """How often each hook is called."""

    def __init__(self):
        self.calls = Counter()


for name in (name for name in dir(Callback) if name.startswith("on_")):
    setattr(Counting, name, lambda self, *args, _name=name: self.calls.update([_name]))


def test_hooks_fire_once():
    """As often as with the base optimizer, but for the two around a backward pass, of which there are two."""

    class Bare(Net):
        def configure_optimizers(self):
            return sam(self).base

    counts = []
    for net, callback in ((Bare(), False), (Net(), True)):
        counting = Counting()
        trainer(counting, callback=callback, accumulate_grad_batches=2).fit(net, loader())
        counts.append(counting.calls)
    bare, ours = counts
    both = {"on_before_backward", "on_after_backward"}
    assert {name: ours[name] / bare[name] for name in bare if ours[name] != bare[name]} == dict.fromkeys(both, 2.0)
    assert ours.keys() == bare.keys() >= {"on_before_optimizer_step", "on_before_zero_grad", "on_train_batch_end"}


class Validated(Net):
    """Validation that draws random numbers, in the middle of a window too."""

    def validation_step(self, batch, batch_idx):
        assert not torch.is_grad_enabled()
        self.log("val", self.net(batch[0] + torch.rand(())).mean())


def test_validation_inside_a_window():
    net, run = Validated(), trainer(accumulate_grad_batches=2, val_check_interval=1, num_sanity_val_steps=2)
    with torch.random.fork_rng():
        run.fit(net, loader(), loader(2))
        run.validate(net, loader(2), verbose=False)

    class Drawn(Callback):
        """What the validation draws, without a validation."""

        def on_train_batch_end(self, *_):
            torch.rand(2)

    alike = Net()
    trainer(Drawn(), accumulate_grad_batches=2).fit(alike, loader())
    assert net.forwards == 12
    assert difference(net, alike) == 0.0
    assert difference(net, by_hand()[0]) > 0.0


class Resumable(DataLoader):
    """Goes on in the middle of an epoch, as a StatefulDataLoader does."""

    done = 0

    def __iter__(self):
        begin = self.done
        for k, batch in enumerate(super().__iter__()):
            if k >= begin:
                self.done = (k + 1) % len(self)
                yield batch

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


class Seeded(Net):
    """A dropout mask that depends on the batch alone, since Lightning's checkpoints hold no random state."""

    def on_train_batch_start(self, batch, batch_idx):
        torch.manual_seed(100 + batch_idx)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path):
    """A checkpoint after a step holds w, and a run from it ends where the whole one does, bit for bit."""
    kept = {}

    class Spy(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            kept.setdefault(trainer.global_step, {name: v.clone() for name, v in pl_module.state_dict().items()})

    def data():
        return Resumable(loader().dataset, 4, generator=torch.Generator())

    options = {"accumulate_grad_batches": 2, "enable_checkpointing": True, "max_epochs": 2}
    saved = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    whole, resumed = Seeded(), Seeded()
    trainer(saved, Spy(), **options).fit(whole, data())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=2.ckpt", "step=4.ckpt", "step=6.ckpt"]
    inside = torch.load(tmp_path / "step=2.ckpt", weights_only=False)
    assert all(torch.equal(v, kept[2][name]) for name, v in inside["state_dict"].items())
    run = trainer(saved, **options)
    run.fit(resumed, data(), ckpt_path=tmp_path / "step=2.ckpt")
    assert (run.global_step, resumed.forwards) == (6, 16)
    assert difference(resumed, whole) == 0.0


@pytest.mark.parametrize("where", ["first pass", "second pass"])
def test_an_interrupt_leaves_nothing_behind(where):
    """Ctrl-C in the second step: Lightning ends the process, with the weights of the first; the same callback trains again."""

    class Interrupted(Net):
        def training_step(self, batch, batch_idx):
            if batch_idx == 3 and callback.second_pass is (where == "second pass") and self.armed:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    callback, net, before = LightningSAM(), Interrupted(), signal.getsignal(signal.SIGINT)
    net.armed = True
    run = trainer(callback=callback, accumulate_grad_batches=2)
    try:
        with pytest.raises(SystemExit):
            run.fit(net, loader())
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores it from now on
    hand, _ = by_hand(batches=2)
    assert all(torch.equal(a, b) for a, b in zip(net.net.parameters(), hand.net.parameters(), strict=True))
    assert {"log", "log_dict"}.isdisjoint(vars(net))
    assert "training_step" not in vars(run.strategy)
    assert (callback.second_pass, callback._window) == (False, [])
    net.armed, net.net = False, Net().net
    trainer(callback=callback, accumulate_grad_batches=2).fit(net, loader())
    assert difference(net, by_hand()[0]) == 0.0


def test_batches_are_let_go_after_the_step():
    class Held(Net):
        def on_train_batch_start(self, batch, batch_idx):
            gc.collect()
            self.alive.append(sum(ref() is not None for ref in self.refs))
            self.refs.append(weakref.ref(batch[0]))

    net = Held()
    net.alive, net.refs = [], []
    trainer(accumulate_grad_batches=3).fit(net, loader())
    assert max(net.alive[:3]) == 2
    assert net.alive[3] <= 1  # the last one, which Lightning has not replaced yet
    gc.collect()
    assert all(ref() is None for ref in net.refs)


def test_a_batch_that_changes_in_place_is_refused():
    class Scaling(Net):
        def training_step(self, batch, batch_idx):
            batch["inner"][0].mul_(0.5)
            return super().training_step((batch["inner"][0], batch["y"]), batch_idx)

        def on_train_batch_start(self, batch, batch_idx):
            pass

    net = Scaling()
    before = [p.detach().clone() for p in net.parameters()]
    batches = [{"inner": (x,), "y": y} for x, y in loader()]
    with pytest.raises(ValueError, match=r"^LightningSAM: batch\[0\]\['inner'\]\[0\] of shape \(4, 4\) was changed in place"):
        trainer(accumulate_grad_batches=2).fit(net, DataLoader(batches, None, generator=torch.Generator()))
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize("known", ["nothing", "its part", "all"])
def test_what_sam_does_not_train_keeps_its_first_gradient(known):
    """Whatever model SAM was given; without one it gets the module."""

    class Partly(Net):
        def configure_optimizers(self):
            self.opt = sam(self.net[4], model={"nothing": None, "its part": self.net[4], "all": self}[known])
            return self.opt

        def on_train_batch_end(self, *_):
            self.seen = [p.grad.clone() for p in self.net[:4].parameters()]

    net, hand = Partly(), Net()
    trainer().fit(net, loader(1))
    opt = sam(hand.net[4], model=hand)
    torch.manual_seed(100)
    x, y = next(iter(loader(1)))
    x.add_(torch.rand(()))
    with opt.clean():
        nn.functional.mse_loss(hand.net(x), y).backward()
    first = [p.grad.clone() for p in hand.net[:4].parameters()]
    with opt.perturbed():
        nn.functional.mse_loss(hand.net(x), y).backward()
    opt.step()
    assert len(first) == 4
    assert all(map(torch.equal, net.seen, first))
    assert all(map(torch.equal, net.parameters(), hand.parameters()))
    assert net.opt.model is (net.net[4] if known == "its part" else net)
    assert difference(net, hand) == 0.0 or known == "its part"  # whose buffers are not those of the module


def test_several_optimizers_are_refused():
    class Two(Net):
        def configure_optimizers(self):
            return [sam(self.net[0]), sam(self.net[4])]

    with pytest.raises(RuntimeError, match="multiple optimizers is only supported with manual optimization"):
        trainer().fit(Two(), loader())


def test_adapters_and_tied_embeddings():
    """A transformer from a configuration: adapters with B = 0 at first, and embeddings that are the last layer too."""

    class Tuned(Net):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = MODELS["lora"]()

        def on_train_batch_start(self, batch, batch_idx):
            pass

        def training_step(self, batch, batch_idx):
            return self.net(input_ids=batch, labels=batch).loss

        def configure_optimizers(self):
            trained = [p for p in self.net.parameters() if p.requires_grad]
            return sm.SAM(torch.optim.AdamW(trained, lr=0.05), rho=0.2, model=self.net)

    tokens = torch.randint(1, 20, (8, 4, 5), generator=torch.Generator().manual_seed(0))
    net, hand = Tuned(), Tuned()
    hand.train()
    run = trainer(accumulate_grad_batches=2)
    run.fit(net, DataLoader(list(tokens), None, generator=torch.Generator()))
    opt = hand.configure_optimizers()
    torch.manual_seed(100)
    for k in range(0, 8, 2):
        for block in (opt.clean, opt.perturbed):
            with block():
                for batch in tokens[k : k + 2]:
                    (hand.training_step(batch, 0) / 2).backward()
        opt.step()
        opt.zero_grad()
    assert net.net.get_output_embeddings().weight is net.net.get_input_embeddings().weight
    assert run.optimizers[0].last.radius == pytest.approx(0.2, rel=1e-6)
    assert difference(net, hand) == 0.0


def test_an_optimizer_step_of_ones_own():
    """Every other batch makes no step, and its gradient is cleared: the second pass leaves it out too."""

    class Choosy(Unscheduled):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            if batch_idx % 2:
                super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            else:
                optimizer_closure()

    net, run = Choosy(), trainer()
    run.fit(net, loader())
    assert net.forwards == 6 + 3
    assert run.optimizers[0].param_groups[0]["sharpmin_step"] == 3
