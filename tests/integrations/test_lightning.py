"""Lightning's automatic optimization with `LightningSAM`: the golden case A11, and what a second pass must not disturb."""

import copy

import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tests.integrations.lightning_case import Net, by_hand, difference, loader, sam, trainer
from torch.utils.data import DataLoader

import sharpmin as sm
from sharpmin.integrations import LightningSAM

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),  # Lightning reads torch's pytree by an old name
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`dataloader_iter`"),
]


def test_the_golden_run(tmp_path):
    """A11: 6 batches, accumulate 2, a checkpoint every 2 steps."""
    saved = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    run = trainer(saved, accumulate_grad_batches=2, enable_checkpointing=True)
    net = Net()
    run.fit(net, loader())
    hand, opt = by_hand()
    assert (run.global_step, net.forwards, net.logs) == (3, 12, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["step=2.ckpt"]
    assert run.optimizers[0].param_groups[0]["lr"] == opt.param_groups[0]["lr"] == 0.1 / 2**3
    assert difference(net, hand) == 0.0
    assert run.callback_metrics["loss_epoch"].item() == pytest.approx(torch.stack(hand.losses).mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "by"),
    [
        ({"accumulate_grad_batches": 1}, {"accumulate": 1}),
        ({"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}, {"clip": 0.1}),
        ({"accumulate_grad_batches": 2, "precision": "bf16-mixed"}, {"autocast": True}),
        (
            {"accumulate_grad_batches": 3, "gradient_clip_val": 0.1, "precision": "bf16-mixed"},
            {"accumulate": 3, "clip": 0.1, "autocast": True},
        ),
    ],
    ids=["plain", "clip", "bf16", "all"],
)
def test_it_is_the_loop_by_hand(options, by):
    net = Net()
    trainer(**options).fit(net, loader())
    assert difference(net, by_hand(**by)[0]) == 0.0


@pytest.mark.parametrize("batches", [5, 7])
def test_an_epoch_that_ends_inside_a_window(batches):
    net, run = Net(), trainer(accumulate_grad_batches=2, max_epochs=2)
    run.fit(net, loader(batches))
    assert (run.global_step, net.forwards) == (batches + 1, 4 * batches)
    assert difference(net, by_hand(batches=batches, epochs=2)[0]) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"rho": sm.rho.Every(0.2, 2)},
        {"descent": sm.Mix(0.7)},
        {"geometry": sm.Elementwise()},
        {"ascent": sm.Ema()},
        {"telemetry": True},
    ],
    ids=str,
)
def test_every_part_of_sam(options):
    net, run = Net(**options), trainer(accumulate_grad_batches=2)
    run.fit(net, loader())
    assert net.forwards == (10 if "rho" in options else 12)  # the middle step of three has rho = 0
    assert difference(net, by_hand(**options)[0]) == 0.0


def test_a_rho_of_zero_is_the_base(tmp_path):
    class Bare(Net):
        def configure_optimizers(self):
            return sam(self).base

    bare, net = Bare(), Net(rho=0.0)
    net.configure_optimizers = lambda: sam(net, rho=0.0)
    trainer(accumulate_grad_batches=2, callback=False).fit(bare, loader())
    trainer(accumulate_grad_batches=2).fit(net, loader())
    assert (net.forwards, difference(net, bare)) == (6, 0.0)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("options", [{}, {"ascent": sm.Ema()}], ids=["sam", "ema"])
def test_a_run_goes_on_where_it_stopped(options, tmp_path):
    saved = ModelCheckpoint(tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1)
    whole, half = Net(**options), Net(**options)
    trainer(accumulate_grad_batches=2, max_epochs=3).fit(whole, loader())
    trainer(saved, accumulate_grad_batches=2, max_epochs=2, enable_checkpointing=True).fit(half, loader())
    resumed, run = Net(**options), trainer(saved, accumulate_grad_batches=2, max_epochs=3, enable_checkpointing=True)
    run.fit(resumed, loader(), ckpt_path=tmp_path / "epoch=1.ckpt")
    assert difference(resumed, whole) == 0.0
    assert (run.global_step, run.optimizers[0].param_groups[0]["sharpmin_step"]) == (9, 9)


def test_a_sam_that_never_fires_is_told():
    net = Net(rho=sm.rho.Tail(0.1, start=100))
    with pytest.warns(UserWarning, match="LightningSAM: none of the 3 steps climbed"):
        trainer(accumulate_grad_batches=2).fit(net, loader())


def test_early_stopping():
    net, run = Net(), trainer(EarlyStopping("loss_epoch", stopping_threshold=1e9), max_epochs=4, accumulate_grad_batches=2)
    run.fit(net, loader())
    assert run.global_step == 3
    assert difference(net, by_hand()[0]) == 0.0


def test_averages_and_other_callbacks_see_the_weights():
    class Spy(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.seen.append(copy.deepcopy(pl_module.net.state_dict()))

    average, spy, mean = EMAWeightAveraging(decay=0.5, use_buffers=False), Spy(), {}

    def each_step(model, opt):
        for name, p in model.net.named_parameters():
            mean[name] = p.detach().clone() if name not in mean else mean[name].lerp(p.detach(), 0.5)

    net = Net()
    trainer(average, spy, accumulate_grad_batches=2).fit(net, loader())
    hand, _ = by_hand(each_step=each_step)
    assert all(torch.equal(value, spy.seen[-1][name]) for name, value in hand.net.state_dict().items())
    for name, p in net.net.named_parameters():  # averaged, at the end of training
        torch.testing.assert_close(p.detach(), mean[name], rtol=1e-6, atol=1e-7)


def test_metrics_count_once(tmp_path):
    class Metered(Net):
        def __init__(self):
            super().__init__()
            both = {"squared": torchmetrics.MeanSquaredError(), "absolute": torchmetrics.MeanAbsoluteError()}
            self.several, self.all = torchmetrics.MetricCollection(both), torchmetrics.CatMetric()

        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = super().training_step(batch, batch_idx)
            with torch.no_grad():
                self.several(self.net.eval()(x), y)  # the metric's forward keeps a state of its own
                self.net.train()
            self.all.update(loss.detach())
            self.log_dict(dict(self.several), on_epoch=True)
            return loss

        def on_train_epoch_end(self):
            self.kept = (self.all.compute(), self.all.update_count, self.several["squared"].total.item())

    net, log = Metered(), CSVLogger(tmp_path)
    trainer(accumulate_grad_batches=2, logger=log, log_every_n_steps=1).fit(net, loader())
    hand, _ = by_hand()
    losses, updates, samples = net.kept
    assert (updates, samples) == (6, 24)
    torch.testing.assert_close(losses, torch.stack(hand.losses), rtol=0, atol=0)
    assert difference(net, hand) == 0.0
    assert len((tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()) == 1 + 3 + 1  # steps, the epoch


def test_what_training_step_does_besides_can_ask():
    class Listed(Net):
        def training_step(self, batch, batch_idx):
            self.passes = [*getattr(self, "passes", []), callback.second_pass]
            return super().training_step(batch, batch_idx)

    callback, net = LightningSAM(), Listed()
    trainer(callback=callback, accumulate_grad_batches=2).fit(net, loader())
    assert net.passes == [False, False, True, True] * 3


def test_batches_that_are_used_up_and_losses_in_dicts():
    class Popping(Net):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step((batch.pop("x"), batch.pop("y")), batch_idx), "more": 1}

        def log(self, *args, **kwargs):  # Lightning's own looks into the batch, which is empty by now
            super().log(*args, **kwargs, batch_size=4)

        def on_train_batch_start(self, batch, batch_idx):
            batch["x"] = batch["x"] + torch.rand(())

    net, batches = Popping(), [{"x": x, "y": y} for x, y in loader()]
    trainer(accumulate_grad_batches=2).fit(net, DataLoader(batches, None, generator=torch.Generator()))
    assert difference(net, by_hand()[0]) == 0.0


def test_a_failing_second_pass_leaves_nothing_behind():
    class Failing(Net):
        def training_step(self, batch, batch_idx):
            if callback.second_pass and batch_idx == 3:
                raise RuntimeError("out of memory")
            return super().training_step(batch, batch_idx)

    callback, net = LightningSAM(), Failing()
    run = trainer(callback=callback, accumulate_grad_batches=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        run.fit(net, loader())
    hand, _ = by_hand(batches=2)
    assert all(torch.equal(a, b) for a, b in zip(net.net.parameters(), hand.net.parameters(), strict=True))
    assert "log" not in vars(net)
    assert "training_step" not in vars(run.strategy)
    assert not callback.second_pass


def test_the_watch_sees_every_step():
    class Watched(Net):
        def configure_optimizers(self):
            self.probe = sm.watch(opt := sam(self))
            return opt

    net = Watched()
    trainer(accumulate_grad_batches=2).fit(net, loader())
    rows = net.probe.log.steps
    first = torch.stack(by_hand(batches=2)[0].losses).mean()
    assert len(rows) == 3
    assert {"gg", "dg", "dd", "rho"} <= rows[0].keys()
    assert rows[0]["loss"] == pytest.approx(first.item(), rel=1e-6)
