"""A small Lightning module with all that a second pass could disturb, a Trainer that is quiet, and the same run by hand."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm
from sharpmin.integrations import LightningSAM


def network():
    """BatchNorm, dropout, and the same weights every time."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))


def loader(batches=6, size=4):
    """The same batches in every epoch; a generator of its own, so the global one is left to the model."""
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(64, 5, generator=g)[: batches * size]
    return DataLoader(TensorDataset(rows[:, :4], rows[:, 4:]), size, generator=torch.Generator())


def sam(net, **options):
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return sm.SAM(base, **{"rho": 0.2, **options})


class Net(pl.LightningModule):
    """Counts its forwards and its logs; draws a random number in a hook, as mixup does."""

    def __init__(self, **options):
        super().__init__()
        self.net, self.options = network(), options
        self.forwards = self.logs = 0

    def on_train_epoch_start(self):
        torch.manual_seed(100 + self.current_epoch)

    def on_train_batch_start(self, batch, batch_idx):
        batch[0].add_(torch.rand(()))

    def training_step(self, batch, batch_idx):
        self.forwards += 1
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def log(self, *args, **kwargs):
        self.logs += 1
        super().log(*args, **kwargs)

    def configure_optimizers(self):
        opt = sam(self, **self.options)
        return [opt], [{"scheduler": torch.optim.lr_scheduler.StepLR(opt, 1, 0.5), "interval": "step"}]


class Unscheduled(Net):
    """Without the scheduler, which warns if its first step comes after a skipped one."""

    def configure_optimizers(self):
        return sam(self, **self.options)


def trainer(*callbacks, callback=True, **options):
    """On one CPU, without logs, bars and files; `callback=False` leaves `LightningSAM` out."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    own = [LightningSAM()] if callback is True else [callback] if callback else []
    return pl.Trainer(**{"max_epochs": 1, "accelerator": "cpu", "devices": 1, **quiet, **options}, callbacks=[*own, *callbacks])


def by_hand(
    accumulate=2,
    epochs=1,
    batches=6,
    clip=None,
    autocast=False,
    each_step=lambda model, opt: None,
    watch=None,
    gamma=0.5,
    **options,
):
    """The same run, written with `perturbed()`; returns the module and the SAM. `watch` are keywords for a watch over it."""
    model = Net()
    opt = sam(model, model=model, **options)
    model.probe = None if watch is None else sm.watch(opt, **watch)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1, gamma)

    def backward(x, y):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
            loss = nn.functional.mse_loss(model.net(x), y)
        (loss / accumulate).backward()
        return loss.detach()

    model.losses = []
    for epoch in range(epochs):
        torch.manual_seed(100 + epoch)
        window = []
        for k, (x, y) in enumerate(loader(batches)):
            x.add_(torch.rand(()))
            window.append((torch.get_rng_state(), x, y))
            if len(window) == 1:
                opt.zero_grad()
            model.losses.append(backward(x, y))
            if len(window) < accumulate and k < batches - 1:
                continue
            after = torch.get_rng_state()
            if model.probe is not None:
                model.probe.note(torch.stack(model.losses[-len(window) :]).mean())
            with opt.perturbed():
                for state, *batch in window:
                    torch.set_rng_state(state)
                    backward(*batch)
            torch.set_rng_state(after)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            scheduler.step()
            window = []
            each_step(model, opt)
    return model, opt


def difference(one, other):
    """The largest difference in weights and buffers."""
    pairs = zip(one.net.state_dict().values(), other.net.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)
