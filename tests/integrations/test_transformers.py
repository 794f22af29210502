"""The Hugging Face Trainer with the mixin: a run is the hand-written loop, and everything else is the Trainer's own."""

import math

import pytest
import torch
from tests.integrations.hf import MODELS, Net, SAMTrainer, by_hand, data, distance, logged
from transformers import EarlyStoppingCallback, Trainer

import sharpmin as sm


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("kind", ["net", "bert", "llama", "tied", "lora"])
def test_a_run_is_the_hand_loop(build, tmp_path, kind, clip):
    trainer = build(kind, args={"max_grad_norm": clip or 0.0})
    trainer.train()
    assert trainer.state.global_step == 3
    assert build.forwards == 12
    assert trainer.lr_scheduler.last_epoch == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["checkpoint-2", "checkpoint-3"]
    hand, losses = by_hand(kind, trainer, clip=clip)
    assert distance(trainer.model, hand) <= 3e-8
    assert [row["loss"] for row in logged(trainer)] == pytest.approx(losses, abs=1e-5)
    assert trainer.sam.last.passes == 2
    assert trainer.sam.last.rho == 0.2


def test_two_and_a_half_windows(build):
    trainer = build(batches=5)
    trainer.train()
    assert (trainer.state.global_step, build.forwards) == (3, 10)
    assert distance(trainer.model, by_hand("net", trainer)[0]) <= 3e-8


def test_bf16(build):
    trainer = build(args={"bf16": True})
    trainer.train()
    assert distance(trainer.model, by_hand("net", trainer, autocast=torch.bfloat16)[0]) <= 3e-8
    assert distance(trainer.model, by_hand("net", trainer)[0]) > 1e-4


@pytest.mark.parametrize("kind", ["net", "llama"])
def test_resume_is_exact(build, tmp_path, kind):
    whole = build(kind, folder="whole")
    whole.train()
    resumed = build(kind, folder="resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == 3
    assert build.forwards == 12 + 4
    assert distance(whole.model, resumed.model) == 0.0
    assert resumed.sam.param_groups[0]["sharpmin_step"] == 3


def test_a_sam_that_never_fires_is_told(build):
    trainer = build(sam={"rho": sm.rho.Tail(0.1, start=100)})
    with pytest.warns(UserWarning, match="SAMTrainerMixin: none of the 3 steps climbed"):
        trainer.train()


def test_the_checkpoint_is_plain(build, tmp_path):
    """optimizer.pt loads under weights_only; a schedule object stays out of it."""
    build(sam={"rho": sm.rho.Cosine(0.2, steps=3), "ascent": sm.Ema()}).train()
    saved = torch.load(tmp_path / "out" / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert saved["param_groups"][0]["sharpmin_step"] == 2
    assert saved["param_groups"][0]["rho"] == "schedule"
    again = build(sam={"rho": sm.rho.Cosine(0.2, steps=3), "ascent": sm.Ema()}, folder="again")
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert again.state.global_step == 3


def test_callbacks_see_the_weights_at_w(build):
    trainer = build()
    trainer.train()
    seen = trainer.recorder.seen
    assert [when for when, _ in seen] == ["begin", "substep", "before", "end"] * 3
    for k in range(0, len(seen), 4):
        for _, weights in seen[k + 1 : k + 3]:
            assert all(map(torch.equal, seen[k][1], weights))
        assert not all(map(torch.equal, seen[k][1], seen[k + 3][1]))


def test_early_stopping(build):
    """Evaluation after every step; the second is not better by 100, so the run ends there."""
    trainer = build(
        args={
            "eval_strategy": "steps",
            "eval_steps": 1,
            "metric_for_best_model": "loss",
            "load_best_model_at_end": True,
            "save_steps": 1,
        },
        eval_dataset=data("net", 8),
        callbacks=[EarlyStoppingCallback(1, early_stopping_threshold=100.0)],
    )
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert trainer.state.global_step == len(losses) == 2
    assert trainer.evaluate()["eval_loss"] == min(losses)  # the best weights were saved at w


class Chatty(SAMTrainer):
    """Logs and counts in its loss, as trainers do."""

    count = 0

    def compute_loss(self, *args, **kwargs):
        self.log({"chat": 1.0})
        self.count += not self.second_pass
        return super().compute_loss(*args, **kwargs)


def test_metrics_once_a_batch(build):
    trainer = build(trainer=Chatty, args={"include_num_input_tokens_seen": "all"}, kind="llama")
    trainer.train()
    assert build.forwards == 12
    assert sum("chat" in row for row in trainer.state.log_history) == trainer.count == 6
    assert trainer.state.num_input_tokens_seen == 6 * 4 * 5


def test_rho_zero_is_the_plain_trainer(build):
    plain = build(trainer=Trainer, folder="plain")
    plain.train()
    build.forwards = 0
    trainer = build(sam={"rho": 0.0})
    trainer.train()
    assert build.forwards == 6
    assert distance(plain.model, trainer.model) == 0.0


@pytest.mark.parametrize(
    ("sam", "forwards"),
    [
        ({"rho": 0.2, "scope": "microbatch"}, 12),
        ({"rho": 0.2, "ascent": sm.Momentum()}, 6),
        ({"rho": sm.rho.Every(0.2, 2)}, 10),
        ({"rho": 0.2, "geometry": sm.Elementwise(0.01), "descent": sm.Mix(0.5), "ascent": sm.Ema()}, 12),
    ],
)
def test_every_kind_of_step(build, sam, forwards):
    trainer = build(sam=sam)
    trainer.train()
    assert build.forwards == forwards
    hand, _ = by_hand("net", trainer, sam=sam)
    assert distance(trainer.model, hand) <= 3e-8


def test_a_sam_of_ones_own(build):
    torch.manual_seed(0)
    model = Net()
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, model=model)
    trainer = build(model=model, optimizers=(opt, None))
    trainer.train()
    assert trainer.sam is opt
    assert build.forwards == 12
    assert model.body[1].num_batches_tracked == 6


def test_adapters_train(build):
    """At B = 0 the gradient of A is zero: e is all in B, and A has its gradient at w + e already."""
    torch.manual_seed(0)
    model = MODELS["lora"]()
    model.get_input_embeddings().requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = build("lora", model=model, args={"gradient_accumulation_steps": 1, "max_steps": 1}, sam={"rho": 0.1})
    trainer.train()
    moved = {name.rpartition(".")[2] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"a", "b"}
    assert trainer.sam.last.radius == pytest.approx(0.1, rel=1e-6)


def test_tied_embeddings_are_perturbed_once(build):
    trainer = build("tied", args={"max_steps": 1, "learning_rate": 1e-9})
    weight = trainer.model.get_input_embeddings().weight
    assert trainer.model.get_output_embeddings().weight is weight
    seen = []
    trainer.model.register_forward_pre_hook(lambda *_: seen.append([p.detach().clone() for p in trainer.model.parameters()]))
    trainer.train()
    e = math.sqrt(sum((p - q).double().square().sum().item() for p, q in zip(seen[0], seen[2], strict=True)))
    assert e == pytest.approx(0.2, rel=1e-6)
    assert trainer.sam.last.radius == pytest.approx(0.2, rel=1e-6)
