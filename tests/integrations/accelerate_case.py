"""What the tests of Accelerate share: two small models, a prepared loop, and the same loop written out."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn

import sharpmin as sm
from sharpmin.integrations import SAMBackward


def forget():
    """Accelerate keeps its state in shared objects."""
    for shared in (AcceleratorState, GradientState, PartialState):
        shared._reset_state()


class Parabola(nn.Module):
    """curvature / 2 (x - center)^2 as a function of a batch (curvature, center)."""

    def __init__(self, start=0.5):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, batch):
        return 0.5 * batch[0] * (self.x - batch[1]) ** 2


BATCHES = [(3.0, 1.0), (1.0, -3.0)]


def call(model, batch):
    return model(batch)


class Net(nn.Module):
    """BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, x):
        return self.body(x)


def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch.pop("y"))


def loader(count=6):
    rng = torch.Generator().manual_seed(2)
    x, y = torch.randn(4 * count, 4, generator=rng), torch.randint(3, (4 * count,), generator=rng)
    return torch.utils.data.DataLoader(
        [{"x": a, "y": b} for a, b in zip(x, y, strict=True)], batch_size=4, generator=torch.Generator()
    )


def made(*, batches=6, precision=None, gamma=0.5, **options):
    """A prepared loop; torch's SGD with momentum, a schedule, two micro-batches a step."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision=precision)
    model = Net()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model=model, **{"rho": 0.2, **options})
    schedule = torch.optim.lr_scheduler.StepLR(opt, 1, gamma)
    model, opt, schedule, batches = accelerator.prepare(model, opt, schedule, loader(batches))
    return accelerator, model, opt, schedule, batches, SAMBackward(accelerator, opt, model, loss_fn)


def run(accelerator, model, opt, schedule, batches, backward, *, clip=None, each_step=lambda model: None):
    for batch in batches:
        with accelerator.accumulate(model):
            backward(batch)
            if accelerator.sync_gradients and clip is not None:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            schedule.step()
            opt.zero_grad()
        if accelerator.sync_gradients:
            each_step(model)


def by_hand(
    batches=6, steps=None, *, watch=None, clip=None, autocast=False, each_step=lambda model: None, gamma=0.5, **options
):
    """The same loop; `watch` are keywords for a watch over it."""
    torch.manual_seed(0)
    model = Net()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model=model, **{"rho": 0.2, **options})
    model.probe = None if watch is None else sm.watch(opt, **watch)
    rows = list(loader(batches))

    def backward(window):
        losses = []
        for batch in window:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = model(batch["x"]).float()
            losses.append(nn.functional.cross_entropy(logits, batch["y"]))
            (losses[-1] / 2).backward()
        return torch.stack(losses).mean()

    for k in range(0, batches, 2)[:steps]:
        with opt.clean():
            loss = backward(rows[k : k + 2])
        if model.probe is not None:
            model.probe.note(loss)
        with opt.perturbed():
            backward(rows[k : k + 2])
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        opt.step()
        opt.param_groups[0]["lr"] *= gamma
        opt.zero_grad()
        if each_step is not None:
            each_step(model)
    return model, opt


def weights(model):
    return [v.clone() for v in model.state_dict().values()]
