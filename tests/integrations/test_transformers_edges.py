"""The Hugging Face Trainer when things go wrong: interrupted runs, repeated runs, and what is refused."""

import pytest
import torch
from tests.integrations.hf import Net, SAMTrainer
from transformers import Trainer, TrainerCallback

import sharpmin as sm
from sharpmin.integrations import SAMTrainerMixin


class Failing(SAMTrainer):
    """Runs out of memory in the second pass, once."""

    armed = True

    def compute_loss(self, *args, **kwargs):
        if self.second_pass and self.armed:
            self.armed = False
            raise RuntimeError("out of memory")
        return super().compute_loss(*args, **kwargs)


def test_a_failed_second_pass_leaves_no_trace(build):
    trainer = build(trainer=Failing)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    assert all(map(torch.equal, before, trainer.model.parameters()))
    build.forwards = 0
    trainer.train()
    assert (trainer.state.global_step, build.forwards) == (3, 12)


def test_watching(build):
    trainer = build()
    trainer.create_optimizer()
    probe = sm.watch(trainer.sam)
    trainer.train()
    assert [row["rho"] for row in probe.log.steps] == [0.2] * 3


def test_two_runs_in_a_row(build):
    """The second `train()` keeps the SAM; it is not wrapped again."""
    trainer = build()
    trainer.train()
    opt = trainer.sam
    trainer.train()
    assert trainer.sam is opt
    assert build.forwards == 24


class Quitter(TrainerCallback):
    """Ends the run in the middle of a window, once."""

    armed = True

    def on_substep_end(self, args, state, control, **kwargs):
        control.should_training_stop, self.armed = self.armed, False


def test_a_window_cut_short_is_void(build):
    trainer = build(callbacks=[Quitter()])
    trainer.train()
    assert build.forwards == 1
    trainer.train()
    assert build.forwards == 1 + 12


def test_without_the_mixin_the_first_step_says_so(build):
    torch.manual_seed(0)
    model = Net()
    before = [p.detach().clone() for p in model.parameters()]
    trainer = build(trainer=Trainer, model=model, optimizers=(sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1)), None))
    with pytest.raises(sm.PhaseError, match=r"(?s)needs the gradient at the perturbed weights.*SAMTrainerMixin \(Hugging Face"):
        trainer.train()
    assert build.forwards == 2
    assert all(map(torch.equal, before, model.parameters()))


def test_refusals(build):
    with pytest.raises(TypeError, match=r"write class Wrong\(SAMTrainerMixin, Trainer\)"):
        type("Wrong", (Trainer, SAMTrainerMixin), {})
    with pytest.raises(TypeError, match="give the keywords of sharpmin"):
        build(sam=0.05)
    with pytest.raises(TypeError, match="unexpected keyword argument 'radius'"):
        build(sam={"radius": 1}).train()
    with pytest.raises(ValueError, match="DistributedDataParallel model, which the Trainer makes after"):
        build(sam={"scope": "rank"})
    with pytest.raises(sm.PhaseError, match=r"trainer\.create_optimizer\(\)"):
        build().sam  # noqa: B018
    model = Net()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="give one of the two"):
        build(model=model, optimizers=(opt, None), sam={"rho": 0.1})


def test_subclasses_may_come_first(build):
    class Other(Trainer):
        steps = 0

        def training_step(self, *args, **kwargs):
            self.steps += 1
            return super().training_step(*args, **kwargs)

    class Both(Other, SAMTrainer):
        pass

    trainer = build(trainer=Both)
    trainer.train()
    assert (trainer.steps, build.forwards) == (6, 12)


class Drawer(TrainerCallback):
    """Draws random numbers between the micro-batches, as augmentation does."""

    def on_substep_end(self, *args, **kwargs):
        torch.rand(7)


def test_each_micro_batch_has_its_own_mask_twice(build):
    trainer = build(callbacks=[Drawer()], args={"max_steps": 1})
    masks = []
    trainer.model.body[3].register_forward_hook(lambda module, args, out: masks.append(out == 0))
    trainer.train()
    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[1], masks[3])
    assert not torch.equal(masks[0], masks[1])
