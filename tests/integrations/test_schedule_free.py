"""A20: a schedule-free base, whose `train()` and `eval()` move the weights, in every loop, against one without SAM."""

import copy

import lightning.pytorch as pl
import pytest
import schedulefree
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tests.integrations.accelerate_case import forget
from tests.integrations.hf import Net, data, distance
from tests.integrations.lightning_case import trainer as lightning_trainer
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer

import sharpmin as sm
from sharpmin.integrations import SAMBackward

RHO = 0.2


@pytest.fixture(autouse=True)
def fresh():
    forget()


def dry():
    """Without dropout: evaluation draws random numbers."""
    torch.manual_seed(0)
    model = Net()
    model.body[3].p = 0.0
    return model


def free(parameters, **options):
    return schedulefree.AdamWScheduleFree(parameters, **{"lr": 0.05, "warmup_steps": 2, "weight_decay": 0.1, **options})


ROWS = data("net", 24)
BATCHES = [{k: torch.stack([r[k] for r in ROWS[i : i + 4]]) for k in ROWS[0]} for i in range(0, 24, 4)]


def backward(model, window):
    for batch in window:
        (model(**batch)["loss"] / len(window)).backward()


def reference(make=free, rho=RHO):
    """Three steps of the base with the gradient at w + e, without sharpmin; the weights to evaluate with, after each."""
    model = dry().train()
    parameters = list(model.parameters())
    base, seen = make(parameters), []
    for k in range(0, 6, 2):
        base.train()
        window, w = BATCHES[k : k + 2], [p.detach().clone() for p in parameters]
        backward(model, window)
        buffers = copy.deepcopy(dict(model.named_buffers()))
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in parameters]).norm()
            for p in parameters:
                p.add_(rho / norm * p.grad)
        base.zero_grad()
        backward(model, window)
        with torch.no_grad():
            for p, was in zip(parameters, w, strict=True):
                p.copy_(was)
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        base.step()
        base.zero_grad()
        base.eval()
        seen.append(copy.deepcopy(model))
    return seen


ARGUMENTS = {
    "optim": "schedule_free_adamw",
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "lr_scheduler_type": "constant",
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_steps": 1,
}


def as_the_trainer_makes_it(trainer):
    """Two groups, with and without decay."""
    names = trainer.get_decay_parameter_names(dry())

    def make(parameters):
        groups = [[], []]
        for (name, _), p in zip(dry().named_parameters(), parameters, strict=True):
            groups[name not in names].append(p)
        decays = [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (0.1, 0.0), strict=True)]
        return free(decays)

    return make


def saved(folder, step):
    model = dry()
    model.load_state_dict(load_file(folder / f"checkpoint-{step}" / "model.safetensors"))
    return model


def eval_losses(trainer):
    return [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]


@pytest.mark.parametrize("by", ["the arguments", "hand"])
def test_the_trainer_trains_evaluates_and_saves(build, tmp_path, by):
    model = dry()
    options = {} if by == "the arguments" else {"optimizers": (sm.SAM(free(model.parameters()), rho=RHO), None)}
    trainer = build(model=model, args=ARGUMENTS, eval_dataset=data("net", 8), **options)
    trainer.train()
    seen = reference(free if options else as_the_trainer_makes_it(trainer))
    assert isinstance(trainer.sam.base, schedulefree.AdamWScheduleFree)
    assert build.forwards == 12
    for step, hand in enumerate(seen, 1):
        assert distance(saved(tmp_path / "out", step), hand) <= 1e-6
    evaluated = [sum(hand.eval()(**row)["loss"].item() for row in batched(data("net", 8))) for hand in seen]
    assert eval_losses(trainer) == pytest.approx(evaluated, rel=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(evaluated[-1], rel=1e-5)
    assert distance(trainer.model, seen[-1]) <= 1e-6
    assert distance(seen[0], seen[-1]) > 1e-2


def batched(rows):
    return [{k: torch.stack([row[k] for row in rows]) for k in rows[0]}]


@pytest.mark.parametrize("evaluation", ["steps", "no"])
def test_a_radius_of_zero_is_the_bare_base(build, tmp_path, evaluation):
    """Also where nobody evaluates before a checkpoint, which then holds the weights of training."""
    args = {**ARGUMENTS, "eval_strategy": evaluation}
    bare = build(model=dry(), trainer=Trainer, folder="bare", args=args, eval_dataset=data("net", 8))
    ours = build(model=dry(), sam={"rho": 0.0}, folder="ours", args=args, eval_dataset=data("net", 8))
    bare.train()
    ours.train()
    assert eval_losses(bare) == eval_losses(ours)
    assert distance(bare.model, ours.model) == 0.0
    for step in (1, 2, 3):
        assert distance(saved(tmp_path / "bare", step), saved(tmp_path / "ours", step)) == 0.0
        files = (tmp_path / kind / f"checkpoint-{step}" / "optimizer.pt" for kind in ("bare", "ours"))
        theirs, own = (torch.load(file, weights_only=True)["param_groups"][0] for file in files)
        assert theirs["train_mode"] is own["train_mode"] is (evaluation == "no")
        assert own.items() >= theirs.items()


def test_resume_is_exact(build, tmp_path):
    whole = build(model=dry(), folder="whole", args=ARGUMENTS, eval_dataset=data("net", 8))
    whole.train()
    resumed = build(model=dry(), folder="resumed", args=ARGUMENTS, eval_dataset=data("net", 8))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert eval_losses(resumed) == eval_losses(whole)
    assert distance(whole.model, resumed.model) == 0.0


def test_accelerate():
    accelerator, model = Accelerator(cpu=True, gradient_accumulation_steps=2), dry()
    model, opt = accelerator.prepare(model, sm.SAM(free(model.parameters()), rho=RHO, model=model))
    step = SAMBackward(accelerator, opt, model, lambda model, batch: model(**batch)["loss"])
    opt.train()
    for batch in BATCHES:
        with accelerator.accumulate(model):
            step(batch)
            opt.step()
            opt.zero_grad()
    opt.eval()
    assert distance(model, reference()[-1]) <= 1e-6


class Module(pl.LightningModule):
    """What users write: the base is in training mode while it trains."""

    def __init__(self, rho):
        super().__init__()
        self.net, self.rho = dry(), rho

    def training_step(self, batch, batch_idx):
        return self.net(**batch)["loss"]

    def configure_optimizers(self):
        base = free(self.net.parameters())
        return base if self.rho is None else sm.SAM(base, rho=self.rho)

    def on_train_epoch_start(self):
        self.optimizers().train()

    def on_train_epoch_end(self):
        self.optimizers().eval()

    def validation_step(self, batch, batch_idx):
        self.log("val", self.net(**batch)["loss"], on_epoch=True)

    on_validation_start, on_validation_end = on_train_epoch_end, on_train_epoch_start


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_lightning():
    nets, losses, rows = {rho: Module(rho) for rho in (None, 0.0, RHO)}, {}, data("net", 8)
    for rho, net in nets.items():
        run = lightning_trainer(callback=rho is not None, accumulate_grad_batches=2)
        run.fit(net, DataLoader(ROWS, 4, generator=torch.Generator()), DataLoader(rows, 8))
        losses[rho] = run.callback_metrics["val"].item()
    assert distance(nets[None].net, nets[0.0].net) == 0.0
    assert distance(nets[RHO].net, reference()[-1]) <= 1e-6
    assert distance(nets[RHO].net, nets[None].net) > 1e-3
    evaluated = sum(reference()[-1].eval()(**row)["loss"].item() for row in batched(rows))
    assert losses == {None: losses[0.0], 0.0: losses[None], RHO: pytest.approx(evaluated, rel=1e-5)}


def test_only_a_base_that_has_them():
    layer = nn.Linear(2, 1)
    plain, ours = sm.SAM(torch.optim.SGD(layer.parameters(), lr=0.1)), sm.SAM(free(layer.parameters()))
    assert not hasattr(plain, "train")
    assert not hasattr(plain, "eval")
    ours.train()
    assert ours.base.param_groups[0]["train_mode"]
    ours.eval()
    assert not ours.base.param_groups[0]["train_mode"]


def test_several_bases():
    """One of them schedule-free: the method of those that have it."""
    a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    opt = sm.SAM([free(a.parameters()), torch.optim.SGD(b.parameters(), lr=0.1)], rho=0.1)
    Accelerator(cpu=True).prepare(opt).train()
    assert opt.param_groups[0]["train_mode"]
