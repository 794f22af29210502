"""What an Accelerate loop does around `SAMBackward`: cut windows, failures, bf16, averages, other optimizers, memory."""

import gc
import weakref

import pytest
import torch
from accelerate import Accelerator
from tests.integrations.accelerate_case import Net, by_hand, forget, loader, loss_fn, made, run, weights
from tests.integrations.hf import MODELS
from torch import nn
from torch.optim.swa_utils import AveragedModel

import sharpmin as sm
from sharpmin.integrations import SAMBackward


@pytest.fixture(autouse=True)
def fresh():
    forget()


def same(model, other):
    return all(map(torch.equal, weights(model), weights(other)))


@pytest.mark.parametrize("options", [{"batches": 5}, {"clip": 0.1}, {"precision": "bf16"}], ids=["cut", "clip", "bf16"])
def test_it_is_the_loop_by_hand(options):
    by = {"autocast": "precision" in options, **{k: v for k, v in options.items() if k != "precision"}}
    clip = options.pop("clip", None)
    parts = made(**options)
    run(*parts, clip=clip)
    assert same(parts[1], by_hand(**by)[0])


def test_averages_see_the_weights():
    averages = []

    def average(model):
        if not averages:
            averages.append(AveragedModel(model, avg_fn=lambda mean, w, _: mean.lerp(w, 0.5)))
        averages[-1].update_parameters(model)

    parts = made()
    run(*parts, each_step=average)
    ours = averages.pop()
    by_hand(each_step=average)
    assert all(map(torch.equal, ours.parameters(), averages.pop().parameters()))


def test_early_stopping_by_a_trigger():
    accelerator, model, opt, schedule, batches, backward = made()
    done = 0
    for batch in batches:
        with accelerator.accumulate(model):
            loss = backward(batch)
            opt.step()
            schedule.step()
            opt.zero_grad()
        if accelerator.sync_gradients:
            done += 1
            if loss < 1e9:
                accelerator.set_trigger()
        if accelerator.check_trigger():
            break
    assert done == 1
    assert same(model, by_hand(steps=1)[0])


def test_metrics_can_count_once():
    accelerator, model, opt, schedule, batches, _ = made()
    seen = []

    def counting(model, batch):
        seen.append(backward.second_pass)
        return loss_fn(model, batch)

    backward = SAMBackward(accelerator, opt, model, counting)
    run(accelerator, model, opt, schedule, batches, backward)
    assert seen == [False, False, True, True] * 3
    assert same(model, by_hand()[0])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 2, 4], ids=["first micro-batch", "second micro-batch", "second pass"])
def test_a_failure_leaves_nothing_behind(error, at):
    """After `zero_grad` on the model the loop begins anew: the micro-batches of the failed window are void."""
    accelerator, model, opt, schedule, batches, _ = made()
    calls = 0

    def failing(model, batch):
        nonlocal calls
        calls += 1
        loss = loss_fn(model, batch)
        if calls == at:
            raise error("out of memory")
        return loss

    backward = SAMBackward(accelerator, opt, model, failing)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(error):
        run(accelerator, model, opt, schedule, batches, backward)
    assert all(map(torch.equal, before, model.parameters()))
    assert not backward.second_pass
    model.zero_grad()
    forget()
    again = made()
    model.load_state_dict(again[1].state_dict())
    accelerator.step = 0
    torch.manual_seed(0)
    Net()
    run(accelerator, model, opt, schedule, batches, backward)
    assert calls == at + 12
    assert same(model, by_hand()[0])


def test_a_batch_that_changes_in_place_is_refused():
    accelerator, model, opt, schedule, batches, _ = made()

    def scaling(model, batch):
        batch["x"].mul_(0.5)
        return loss_fn(model, batch)

    backward = SAMBackward(accelerator, opt, model, scaling)
    with pytest.raises(ValueError, match=r"^SAMBackward: batch\['x'\] of shape \(4, 4\) was changed in place"):
        run(accelerator, model, opt, schedule, batches, backward)


@pytest.mark.parametrize("known", ["nothing", "its part", "all"])
def test_another_optimizer_on_the_same_loss(known):
    """Its parameters keep the gradient at w, and are not perturbed, whatever model SAM was given; without one it gets ours."""
    torch.manual_seed(0)
    accelerator, model, hand = Accelerator(cpu=True), Net(), Net()
    hand.load_state_dict(model.state_dict())

    def optimizers(net, known="all"):
        own = {"nothing": None, "its part": net.body[4], "all": net}[known]
        sharp = sm.SAM(torch.optim.SGD(net.body[4].parameters(), lr=0.1), rho=0.2, model=own)
        return sharp, torch.optim.SGD(net.body[:4].parameters(), lr=0.1)

    ours, other = (accelerator.prepare(o) for o in optimizers(model, known))
    backward = SAMBackward(accelerator, ours, accelerator.prepare(model), loss_fn)
    opt, plain = optimizers(hand)
    for batch in loader(3):
        random = torch.get_rng_state()
        backward(batch)
        torch.set_rng_state(random)
        with opt.clean():
            loss_fn(hand, dict(batch)).backward()
        first = [p.grad.clone() for p in hand.body[:4].parameters()]
        with opt.perturbed():
            loss_fn(hand, dict(batch)).backward()
        for p, grad in zip(hand.body[:4].parameters(), first, strict=True):
            p.grad = grad
        for each in (ours, other, opt, plain):
            each.step()
            each.zero_grad()
        assert all(map(torch.equal, model.parameters(), hand.parameters()))
        assert same(model, hand) or known == "its part"  # whose buffers are not those of the whole
    assert backward.sam.model is (model.body[4] if known == "its part" else model)


def test_a_model_that_holds_none_of_its_parameters():
    """The one that reduces is the discriminator, say; SAM is left without a model."""
    model, other = Net(), Net()
    accelerator = Accelerator(cpu=True)
    opt = accelerator.prepare(sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.2))
    backward = SAMBackward(accelerator, opt, accelerator.prepare(other), lambda _, batch: loss_fn(model, batch))
    for batch in loader(1):
        backward(batch)
        opt.step()
    assert backward.sam.model is None
    assert backward.sam.last.passes == 2


def test_batches_are_let_go_after_the_step():
    accelerator, model, opt, schedule, batches, backward = made()
    refs = []

    def noted():
        for batch in batches:
            gc.collect()
            alive.append([ref() is not None for ref in refs[:-1]])  # the last one is the loop's own
            refs.append(weakref.ref(batch["x"]))
            yield batch

    alive = []
    run(accelerator, model, opt, schedule, noted(), backward)
    assert alive[0::2] == [[], [False], [False] * 3]
    gc.collect()
    assert not any(ref() is not None for ref in refs)


def test_the_middle_of_an_epoch(tmp_path):
    """`save_state` after one step, with dropout; `skip_first_batches` goes on where it was."""
    accelerator, *parts = made()
    model, _, schedule, batches, backward = parts

    def cut(count, begin=0):
        for k, batch in enumerate(batches if not begin else accelerator.skip_first_batches(batches, begin), begin):
            if k == 2 and begin == 0:
                accelerator.save_state(str(tmp_path / "at"))
            yield batch

    run(accelerator, model, parts[1], schedule, cut(6), backward)
    whole = weights(model)
    forget()
    accelerator, *parts = made(rho=0.3)
    model, _, schedule, batches, backward = parts
    accelerator.load_state(str(tmp_path / "at"))
    run(accelerator, model, parts[1], schedule, cut(6, 2), backward)
    assert all(map(torch.equal, weights(model), whole))


def test_adapters_and_tied_embeddings():
    """A transformer from a configuration: adapters with B = 0 at first, and embeddings that are the last layer too."""
    tokens = torch.randint(1, 20, (6, 4, 5), generator=torch.Generator().manual_seed(0))

    def pair():
        torch.manual_seed(0)
        model = MODELS["lora"]().train()
        trained = [p for p in model.parameters() if p.requires_grad]
        return model, sm.SAM(torch.optim.AdamW(trained, lr=0.05), rho=0.2, model=model)

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, opt = accelerator.prepare(*pair())
    backward = SAMBackward(accelerator, opt, model, lambda model, x: model(input_ids=x, labels=x).loss)
    for batch in tokens:
        with accelerator.accumulate(model):
            backward(batch)
            opt.step()
            opt.zero_grad()
    hand, plain = pair()
    for k in range(0, 6, 2):
        for block in (plain.clean, plain.perturbed):
            with block():
                for batch in tokens[k : k + 2]:
                    (hand(input_ids=batch, labels=batch).loss / 2).backward()
        plain.step()
        plain.zero_grad()
    assert backward.sam.last.radius == pytest.approx(0.2, rel=1e-6)
    assert same(model, hand)


def test_without_it_the_first_step_says_so():
    accelerator, model, opt, _, batches, _ = made(batches=1)
    batch = next(iter(batches))
    accelerator.backward(nn.functional.cross_entropy(model(batch["x"]), batch["y"]))
    accelerator.gradient_state._set_sync_gradients(True)
    with pytest.raises(sm.PhaseError, match=r"(?s)needs the gradient at the perturbed weights.*SAMBackward"):
        opt.step()
