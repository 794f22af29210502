"""A tiny transformer on characters: Functional SAM and Flat-LoRA, in the Trainer and in a loop, against loops by hand."""

import copy

import pytest
import torch
import transformers
from tests.integrations.hf import Recorder, SAMTrainer, arguments, distance
from tests.integrations.language import adapted, gpt2, llama, rows
from tests.integrations.test_flat_lora import set_noise_by_hand
from tests.sam_by_hand import functional_gradient, step
from torch.nn.functional import cross_entropy
from transformers import Trainer

import sharpmin as sm
from sharpmin.integrations import flat_lora

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT asks for it

STEPS, ACCUMULATE = 3, 2


def next_characters(logits, labels, num_items_in_batch):
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / num_items_in_batch


def windows():
    """The micro-batches of every step, each with how many characters its step predicts."""
    some, _ = rows(4 * ACCUMULATE * STEPS)
    batches = [torch.stack([row["input_ids"] for row in some[i : i + 4]]) for i in range(0, len(some), 4)]
    cut = [batches[i : i + ACCUMULATE] for i in range(0, len(batches), ACCUMULATE)]
    return [(window, sum(x[:, 1:].numel() for x in window)) for window in cut]


def train(trainer_class, model, folder, **options):
    """A run of STEPS steps, each with ACCUMULATE micro-batches; its trainer, which knows where its random numbers began."""
    recorder, (some, _) = Recorder(), rows(4 * ACCUMULATE * STEPS)
    trainer = trainer_class(model, arguments(folder, save_strategy="no"), train_dataset=some, callbacks=[recorder], **options)
    trainer.train()
    assert trainer.state.global_step == STEPS
    trainer.recorder = recorder
    return trainer


def schedule_of(base):
    return transformers.get_scheduler("linear", base, 0, STEPS)


@pytest.mark.parametrize("make", [gpt2, llama])
def test_functional_sam_in_the_trainer_is_the_loop_by_hand(make, tmp_path):
    """Bit for bit: the hand loop uses the same perturbed(), and z.backward(v) in place of the loss."""
    model = make()
    hand = copy.deepcopy(model).train()
    opt, other = (sm.SAM(torch.optim.AdamW(m.parameters(), lr=0.01), rho=0.1, model=m) for m in (model, hand))
    loss_fn = sm.FunctionalLoss(opt, next_characters)

    def of_outputs(outputs, labels, num_items_in_batch=None):
        return loss_fn(outputs.logits, labels, num_items_in_batch)

    trainer = train(SAMTrainer, model, tmp_path, optimizers=(opt, None), compute_loss_func=of_outputs)
    schedule = schedule_of(other)
    torch.set_rng_state(trainer.recorder.random)
    for window, items in windows():
        slopes = []
        with other.clean():
            for x in window:
                z = hand(input_ids=x).logits
                slopes.append(torch.autograd.grad(next_characters(z, x, items), z, retain_graph=True)[0])
                z.backward(slopes[-1])
        with other.perturbed():
            for x, v in zip(window, slopes, strict=True):
                hand(input_ids=x).logits.backward(v)
        other.step()
        schedule.step()
        other.zero_grad()
    assert distance(model, hand) == 0.0
    assert trainer.sam.last.passes == 2
    plain = make()
    train(SAMTrainer, plain, tmp_path, optimizers=(sm.SAM(torch.optim.AdamW(plain.parameters(), lr=0.01), rho=0.1), None))
    assert distance(model, plain) > 1e-4


@pytest.mark.parametrize("make", [gpt2, llama])
def test_functional_sam_in_a_loop_is_the_equations(make):
    model = make().double().train()
    hand = copy.deepcopy(model)
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)
    base = torch.optim.SGD(hand.parameters(), lr=0.1)
    loss_fn = sm.FunctionalLoss(opt, next_characters)
    torch.manual_seed(3)
    for window, items in windows():
        for block in (opt.clean, opt.perturbed):
            with block():
                for x in window:
                    loss_fn(model(input_ids=x).logits, x, items).backward()
        opt.step()
        opt.zero_grad()
    torch.manual_seed(3)
    for window, items in windows():
        pairs = [
            (lambda x=x: hand(input_ids=x).logits, lambda z, x=x, items=items: next_characters(z, x, items)) for x in window
        ]
        step(base, list(hand.parameters()), functional_gradient(hand, pairs, 0.1)[0])
    assert distance(model, hand) < 1e-12


class FlatLoRATrainer(Trainer):
    """What users write."""

    def training_step(self, model, *args, **kwargs):
        with flat_lora(model, sigma=0.1, seed=self.state.global_step):
            return super().training_step(model, *args, **kwargs)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_flat_lora_in_the_trainer_and_in_a_loop_is_the_loop_by_hand(kind, tmp_path):
    model = adapted(kind, moved=False, lora_dropout=0.1)
    loop, hand = copy.deepcopy(model).train(), copy.deepcopy(model).train()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    trainer = train(FlatLoRATrainer, model, tmp_path)
    for copied, by_hand in ((loop, False), (hand, True)):
        base = torch.optim.AdamW([p for p in copied.parameters() if p.requires_grad], lr=0.05, weight_decay=0.0)
        schedule = schedule_of(base)
        torch.set_rng_state(trainer.recorder.random)
        for number, (window, items) in enumerate(windows()):
            for x in window:
                one_pass(copied, x, items, number, by_hand=by_hand)
            base.step()
            schedule.step()
            base.zero_grad()
    assert distance(model, loop) == 0.0
    assert distance(model, hand) <= (0.0 if kind == "llama" else 1e-6)  # GPT-2's own layers multiply in another order
    for name, p in model.named_parameters():
        assert p.requires_grad or torch.equal(p, frozen[name])


def one_pass(model, x, items, number, *, by_hand):
    if by_hand:
        was = set_noise_by_hand(model, 0.1, number)
        model(input_ids=x, labels=x, num_items_in_batch=items).loss.backward()
        for weight, w in was:
            weight.data.copy_(w)
        return
    with flat_lora(model, sigma=0.1, seed=number):
        model(input_ids=x, labels=x, num_items_in_batch=items).loss.backward()
