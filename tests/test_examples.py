"""Every example runs for a few steps and ends where the same steps written out in plain torch end."""

import copy
import functools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from tests.dist.ranks import launch
from tests.sam_by_hand import anew, apart, assert_same_end, sam_gradient, step
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

import sharpmin as sm

EXAMPLES = Path(__file__).parents[1] / "examples"
cross_entropy = nn.functional.cross_entropy


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run an example on the CPU, in an empty folder that it leaves empty: its globals, and what it printed."""

    def call(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *options])
        space = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert list(tmp_path.iterdir()) == []
        return space, capsys.readouterr().out.strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return call


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def cosine(base, steps=3):
    return torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)


@pytest.mark.parametrize("options", [[], ["--closure"]])
def test_plain_loop(run, options):
    space, printed = run("plain_loop.py", "--steps", "3", *options)
    model = anew(space["model"])
    base = sgd(model)
    schedule = cosine(base)
    for _ in range(3):
        rows = torch.randint(1500, (64,))
        x, y = space["train"][rows], space["train_labels"][rows]
        grads, loss = sam_gradient(model, [lambda x=x, y=y: cross_entropy(model(x), y)], rho=0.05)
        step(base, list(model.parameters()), grads)
        schedule.step()
    assert_same_end(space["model"], model)
    assert printed == f"3 steps, last loss {loss:.3f}, test accuracy {accuracy(model):.3f}, radius 0.0500"


def test_amp(run):
    space, printed = run("amp.py", "--steps", "3")
    model = anew(space["model"])
    base = sgd(model)
    schedule = cosine(base)

    def loss_of(x, y):
        with torch.autocast("cpu", torch.float16):
            return cross_entropy(model(x), y)

    for _ in range(3):
        rows = torch.randint(len(space["images"]), (64,))
        x, y = space["images"][rows], space["labels"][rows]
        grads, loss = sam_gradient(model, [lambda x=x, y=y: loss_of(x, y)], rho=0.05, scale=65536.0)
        step(base, list(model.parameters()), grads, clip=1.0)
        schedule.step()
    assert_same_end(space["model"], model)
    assert printed == f"3 steps, 0 of them skipped, scale 65536, last loss {loss:.3f}"


def test_amp_skips_a_step_that_overflows(run):
    space, printed = run("amp.py", "--steps", "1", "--scale", str(2.0**40))
    assert printed.startswith(f"1 steps, 1 of them skipped, scale {2.0**39:g}")
    for after, before in zip(space["model"].parameters(), anew(space["model"]).parameters(), strict=True):
        assert torch.equal(after, before)


@pytest.mark.parametrize("options", [[], ["--eager"]])
def test_cuda_graph(run, options):
    """Without a GPU; tests/gpu/test_graph.py sets the replayed steps against the called ones."""
    space, printed = run("cuda_graph.py", "--steps", "3", *options)
    model = anew(space["model"])
    base = torch.optim.AdamW(model.parameters(), lr=0.003)
    schedule = cosine(base)
    for t in range(3):
        rows = torch.randint(len(space["images"]), (64,))
        x, y = (space["images"][rows] / 16).float(), space["labels"][rows]
        grads, loss = sam_gradient(model, [lambda x=x, y=y: cross_entropy(model(x), y)], rho=0.05 * 0.999**t)
        step(base, list(model.parameters()), grads)
        schedule.step()
    assert_same_end(space["model"], model)
    called = "no GPU, or --eager: every step was called"
    assert printed.splitlines() == [called, f"3 steps, last loss {loss:.3f}, radius {0.05 * 0.999**2:.4f}"]


@pytest.mark.parametrize("scope", ["global", "microbatch"])
def test_accumulation(run, scope):
    space, printed = run("accumulation.py", "--steps", "3", "--scope", scope)
    model = anew(space["model"])
    base = sgd(model)
    for _ in range(3):
        batches = [(space["train"][own], space["train_labels"][own]) for own in torch.randint(1500, (4, 16))]
        losses = [lambda x=x, y=y: cross_entropy(model(x), y) / 4 for x, y in batches]
        parts = [losses] if scope == "global" else [[loss] for loss in losses]
        found = [sam_gradient(model, part, rho=0.05) for part in parts]
        step(base, list(model.parameters()), [sum(gs) for gs in zip(*(grads for grads, _ in found), strict=True)])
    assert_same_end(space["model"], model)
    assert printed.startswith(f"3 steps, scope {scope}, last loss {sum(loss for _, loss in found):.3f}")


def test_two_optimizers(run):
    space, printed = run("two_optimizers.py", "--steps", "3")
    generator, critic = both = anew(nn.ModuleList([space["generator"], space["critic"]]))
    bases = [torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.999)) for net in both]

    def judged(pictures, real):
        logits = critic(pictures)
        return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    for _ in range(3):
        real, noise = space["images"][torch.randint(len(space["images"]), (64,))], torch.randn(64, 8)
        fake = generator(noise).detach()
        apart = [lambda r=real, f=fake: judged(r, 1.0) + judged(f, 0.0)]
        grads, critic_loss = sam_gradient(critic, apart, rho=0.02)
        step(bases[1], list(critic.parameters()), grads)
        grads, generator_loss = sam_gradient(generator, [lambda z=noise: judged(generator(z), 1.0)], rho=0.02)
        step(bases[0], list(generator.parameters()), grads)
    assert_same_end(nn.ModuleList([space["generator"], space["critic"]]), both)
    losses = f"{critic_loss:.3f} and {generator_loss:.3f}"
    assert printed == f"3 steps; of critic and generator: losses {losses}, radii 0.020 and 0.020"


@pytest.mark.parametrize(
    ("rho", "verdict"), [("0.5", "rho holds the loss up, a small effect"), ("0.01", "SAM is not what limits the loss")]
)
def test_diagnose_a_run(run, rho, verdict, tmp_path_factory):
    log = tmp_path_factory.mktemp("logs") / "run.jsonl"
    space, printed = run("diagnose_a_run.py", "--rho", rho, "--log", str(log))
    assert printed.splitlines()[0] == f"{verdict}."
    assert str(sm.diagnose(log)) == printed
    assert space["opt"].param_groups[0]["sharpmin_step"] == space["args"].steps


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # Lightning reads torch's pytree by an old name
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_lightning(run):
    space, printed = run("lightning_trainer.py", "--steps", "3")
    net = anew(space["model"].net)
    base = sgd(net)
    schedule = cosine(base)
    batches = iter(DataLoader(space["train"], 32, shuffle=True, drop_last=True))
    for _ in range(3):
        window = [next(batches), next(batches)]
        grads, _ = sam_gradient(net, [lambda x=x, y=y: cross_entropy(net(x), y) / 2 for x, y in window], rho=0.05)
        step(base, list(net.parameters()), grads, clip=1.0)
        schedule.step()
    assert_same_end(space["model"].net, net)
    assert printed == f"3 steps, test accuracy {accuracy(net):.3f}, radius 0.0500"


def test_accelerate(run, one_run):
    space, printed = run("accelerate_loop.py", "--steps", "3")
    model = anew(space["model"])
    base = sgd(model)
    batches = iter(DataLoader(space["loader"].dataset, batch_size=32, shuffle=True, drop_last=True))
    for _ in range(3):
        window = [next(batches), next(batches)]
        grads, _ = sam_gradient(model, [lambda x=x, y=y: cross_entropy(model(x), y) / 2 for x, y in window], rho=0.05)
        step(base, list(model.parameters()), grads, clip=1.0)
    assert_same_end(space["model"], model)
    assert printed == f"3 steps, test accuracy {accuracy(model):.3f}, radius 0.0500"


def test_hf_trainer(run, one_run, monkeypatch):
    from transformers import ViTForImageClassification, set_seed

    seen, forward = [], ViTForImageClassification.forward

    @functools.wraps(forward)  # the Trainer reads the names of its arguments
    def watched(model, *args, **batch):
        if model.training:
            seen.append((torch.get_rng_state(), batch))
        return forward(model, *args, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(ViTForImageClassification, "forward", watched)
        space, printed = run("hf_trainer.py", "--steps", "3")
    set_seed(0)
    model = ViTForImageClassification(space["config"]).train()
    base = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(base, lambda t: 1 - t / 3)

    def loss_of(random, batch):
        torch.set_rng_state(random)
        return model(**batch).loss

    assert len(seen) == 12
    for at in range(0, 12, 4):
        window, again = seen[at : at + 2], seen[at + 2 : at + 4]
        for (random, batch), (later, same) in zip(window, again, strict=True):
            assert torch.equal(random, later)
            assert all(torch.equal(batch[name], same[name]) for name in ("pixel_values", "labels"))
        grads, _ = sam_gradient(model, [lambda micro=micro: loss_of(*micro) for micro in window], rho=0.05)
        step(base, list(model.parameters()), grads, clip=1.0)
        schedule.step()
    set_seed(0)
    assert apart(space["model"], model, ViTForImageClassification(space["config"])) < 1e-4
    assert re.search(r"^3 steps, test accuracy 0\.\d+, radius 0\.0500$", printed, flags=re.MULTILINE)


def torchrun(script, *options):
    """What an example prints that the command starts; tests/dist/ranks.py starts them with less to import."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, *options]
    settings = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(path, model):
    """A model like this one, with the weights of the file."""
    other = copy.deepcopy(model)
    other.load_state_dict(torch.load(path))
    return other


def digits():
    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    return images.float() / 16, labels


def shares(steps):
    """What each of two ranks sees, step by step: [(x, y) of rank 0, (x, y) of rank 1]."""
    images, labels = digits()
    orders = [list(DistributedSampler(range(1500), num_replicas=2, rank=rank)) for rank in (0, 1)]
    at = [[order[32 * k : 32 * k + 32] for order in orders] for k in range(steps)]
    return [[(images[rows], labels[rows]) for rows in ranks] for ranks in at]


def accuracy(net):
    x, y = (array[1500:] for array in digits())
    return (net.eval()(x).argmax(1) == y).float().mean()


@pytest.mark.parametrize(("scope", "start"), [("global", torchrun), ("rank", launch)])
def test_ddp(scope, start, tmp_path):
    printed = start(EXAMPLES / "ddp.py", "--steps", "3", "--scope", scope, "--save", str(tmp_path / "net.pt"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    base = sgd(model)
    for ranks in shares(3):
        losses = [lambda x=x, y=y: cross_entropy(model(x), y) / 2 for x, y in ranks]
        parts = [losses] if scope == "global" else [[loss] for loss in losses]
        grads = [sam_gradient(model, part, rho=0.05)[0] for part in parts]
        step(base, list(model.parameters()), [sum(gs) for gs in zip(*grads, strict=True)])
    trained = loaded(tmp_path / "net.pt", model)
    assert apart(trained, model, anew(model)) < 1e-4
    assert printed == f"3 steps on 2 ranks, test accuracy {accuracy(trained):.3f}, weights agree: True"


def test_fsdp2(tmp_path):
    printed = launch(EXAMPLES / "fsdp2.py", "--steps", "3", "--save", str(tmp_path / "net.pt"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 10))
    base = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for ranks in shares(3):
        grads, _ = sam_gradient(model, [lambda x=x, y=y: cross_entropy(model(x), y) / 2 for x, y in ranks], rho=0.05)
        step(base, list(model.parameters()), grads)
    trained = loaded(tmp_path / "net.pt", model)
    assert apart(trained, model, anew(model)) < 1e-4
    assert printed == f"3 steps, 2469 of 4938 weights here, test accuracy {accuracy(trained):.3f}, same norm: True"


def test_every_example_is_tested_short_and_says_how_to_run_it():
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        text = example.read_text()
        assert f'"{example.name}"' in tests
        assert len(text.splitlines()) < 80, example.name
        assert f"examples/{example.name}" in text.split('"""')[1], example.name
