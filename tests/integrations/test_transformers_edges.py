"""The Hugging Face Trainer when things go wrong: interrupted runs, repeated runs, and what is refused."""

import gc
import weakref

import pytest
import torch
from tests.integrations.hf import Net, SAMTrainer, by_hand, data, distance
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
    with pytest.raises(sm.PhaseError, match=r"(?s)needs the gradient at the perturbed weights.*SAMTrainerMixin, Trainer"):
        trainer.train()
    assert build.forwards == 2
    assert all(map(torch.equal, before, model.parameters()))


def test_refusals(build):
    with pytest.raises(TypeError, match=r"write class Wrong\(SAMTrainerMixin, Trainer\)"):
        type("Wrong", (Trainer, SAMTrainerMixin), {})
    with pytest.raises(TypeError, match="give the keywords of sharpmin"):
        build(sam=0.05)
    with pytest.raises(TypeError, match="SAM: unknown keyword 'radius'"):
        build(sam={"radius": 1}).train()
    with pytest.raises(ValueError, match="DistributedDataParallel model, which the Trainer makes after"):
        build(sam={"scope": "rank"})
    with pytest.raises(sm.PhaseError, match=r"trainer\.create_optimizer\(\)"):
        build().sam  # noqa: B018
    model = Net()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="give one of them"):
        build(model=model, optimizers=(opt, None), sam={"rho": 0.1})


def test_an_optimizer_that_steps_inside_backward_is_refused(build):
    from transformers.trainer_pt_utils import LayerWiseDummyOptimizer

    trainer = build(optimizers=(LayerWiseDummyOptimizer(), None), args={"optim": "galore_adamw_layerwise"})
    with pytest.raises(ValueError, match=r"optim='galore_adamw_layerwise' steps inside backward\(\)"):
        trainer.train()


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


class Gradients(TrainerCallback):
    """Those that clipping and other optimizers would see."""

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.seen = [p.grad.clone() for p in kwargs["model"].body[:4].parameters()]


@pytest.mark.parametrize("known", ["nothing", "its part", "all"])
def test_what_sam_does_not_train_keeps_its_first_gradient(build, known):
    """Whatever model SAM was given; without one it gets the Trainer's, so buffers move once, too."""
    seen, nets = [], []
    for rho in (0.0, 0.2):
        torch.manual_seed(0)
        net, gradients = Net(), Gradients()
        own = {"nothing": None, "its part": net.body[4], "all": net}[known]
        opt = sm.SAM(torch.optim.SGD(net.body[4].parameters(), lr=0.1), rho=rho, model=own)
        trainer = build(model=net, optimizers=(opt, None), args={"max_steps": 1}, callbacks=[gradients], folder=str(rho))
        trainer.train()
        assert trainer.sam.last.passes == (2 if rho else 1)
        assert trainer.sam.model is (net.body[4] if known == "its part" else net)
        seen.append(gradients.seen)
        nets.append(net)
    assert all(map(torch.equal, *seen))
    assert not torch.equal(*(net.body[4].weight for net in nets))
    assert torch.equal(*(net.body[1].running_mean for net in nets)) is (known != "its part")


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


class Scaling(SAMTrainer):
    """Changes its batch in place."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        inputs["x"].mul_(0.5)
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_a_batch_that_changes_in_place_is_refused(build):
    with pytest.raises(ValueError, match=r"^SAMTrainerMixin: batch\['x'\] of shape \(4, 6\) was changed in place"):
        build(trainer=Scaling).train()


class Popping(SAMTrainer):
    """Uses its batch up."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = model(inputs.pop("x"), inputs.pop("labels"))["loss"]
        assert not inputs
        return loss


def test_a_batch_may_be_used_up(build):
    trainer = build(trainer=Popping)
    trainer.train()
    assert distance(trainer.model, by_hand("net", trainer)[0]) <= 3e-8


class Interrupted(SAMTrainer):
    """Ctrl-C in the second step, once."""

    when, armed = False, True

    def compute_loss(self, *args, **kwargs):
        if self.state.global_step == 1 and self.second_pass is self.when and self.armed:
            self.armed = False
            raise KeyboardInterrupt
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize("when", [False, True], ids=["first pass", "second pass"])
def test_an_interrupt_leaves_nothing_behind(build, when):
    trainer = build(trainer=Interrupted)
    trainer.when = when
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    after = [weights for at, weights in trainer.recorder.seen if at == "end"]
    assert len(after) == 1
    assert all(map(torch.equal, trainer.model.parameters(), after[0]))
    assert not trainer.second_pass
    build.forwards = 0
    trainer.train()
    assert build.forwards == 12


class Holder(TrainerCallback):
    """How many batches are alive when a step begins, and whether those of the last one are."""

    def __init__(self):
        self.refs, self.alive = [], []

    def on_step_begin(self, *args, **kwargs):
        gc.collect()
        self.alive.append([ref() is not None for ref in self.refs[-2:]])


def test_batches_are_let_go_after_the_step(build):
    class Noting(SAMTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            holder.refs.append(weakref.ref(inputs["x"]))
            return super().training_step(model, inputs, *args, **kwargs)

    holder = Holder()
    trainer = build(trainer=Noting, callbacks=[holder], batches=8)
    trainer.train()
    gc.collect()
    assert [alive[:1] for alive in holder.alive] == [[], [False], [False], [False]]  # the last one may be the loop's own
    assert not any(ref() is not None for ref in holder.refs)


class Spiked(SAMTrainer):
    """An infinite loss in one pass of the second step."""

    at = None

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * (float("inf") if (self.state.global_step, self.second_pass) == self.at else 1.0)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # the loop cannot see a step that SAM skips
@pytest.mark.parametrize("at", [None, (1, False), (1, True)], ids=["none", "first pass", "second pass"])
def test_float16(build, at):
    """On a CPU Accelerate makes no scaler and leaves fp16 out, so both are put in by hand; an overflow skips one step."""
    trainer = build(trainer=Spiked, args={"fp16": True, "max_grad_norm": 0.3})
    trainer.at, trainer.accelerator.native_amp = at, True
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    trainer.train()
    seen = [weights for when, weights in trainer.recorder.seen if when == "end"]
    assert all(map(torch.equal, seen[0], seen[1])) is (at is not None)
    assert not all(map(torch.equal, seen[1], seen[2]))
    assert trainer.accelerator.scaler.get_scale() == (16.0 if at is None else 8.0)
    if at is None:
        hand, _ = by_hand("net", trainer, clip=0.3, autocast=torch.float16, scale=16.0)
        assert distance(trainer.model, hand) <= 3e-8


def dry():
    torch.manual_seed(0)
    model = Net()
    model.body[3].p = 0.0
    return model


def test_evaluation_in_the_middle(build):
    """Evaluation after every step changes nothing; the model draws no random numbers, as the loader of an evaluation does."""
    more = {"eval_strategy": "steps", "eval_steps": 1}
    trainer = build(model=dry(), args=more, eval_dataset=data("net", 8))
    plain = build(model=dry(), folder="plain")
    trainer.train()
    plain.train()
    assert distance(trainer.model, plain.model) == 0.0
