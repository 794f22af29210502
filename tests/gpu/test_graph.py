"""A step that is captured as a CUDA graph and replayed is, bit for bit, the step that is called."""

import runpy
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import sharpmin as sm

EXAMPLE = Path(__file__).parents[2] / "examples" / "cuda_graph.py"
WARM_UP = 3
SETTINGS = {
    "plain": {},
    "model": {"model": True},
    "dropout": {"dropout": 0.2},  # two masks a step, which are new at every replay
    "autocast": {"autocast": True},
    "telemetry": {"telemetry": True},
    "linf": {"geometry": sm.LInf()},
    "asam": {"geometry": sm.Elementwise(0.01)},
    "layerwise": {"geometry": sm.Layerwise()},
    "clipped": {"descent": sm.ClippedDifference(0.5)},
    "mix": {"descent": sm.Mix(0.5), "telemetry": True},
    "unnormalized": {"rho": sm.rho.Unnormalized(0.1)},
    "capped": {"rho": sm.rho.Capped(0.1, c=0.5)},
    "momentum": {"ascent": sm.Momentum()},
}
BASES = {
    "adamw": lambda ps, on_gpu: torch.optim.AdamW(ps, lr=1e-3, capturable=on_gpu),
    "fused": lambda ps, on_gpu: torch.optim.AdamW(ps, lr=1e-3, capturable=on_gpu, fused=True),
    "sgd": lambda ps, on_gpu: torch.optim.SGD(ps, lr=0.05, momentum=0.9),
}


class Loop:
    """Steps on static inputs: `called` one by one, or `replayed` after a warm-up."""

    def __init__(self, device, training, base="adamw", **options):
        self.device, self.loss_of = device, training.loss_of
        self.autocast = options.pop("autocast", False)
        self.net = training.net(device, dropout=options.pop("dropout", 0.0))
        if options.pop("model", False):
            options["model"] = self.net
        self.opt = sm.SAM(BASES[base](self.net.parameters(), device == "cuda"), **{"rho": 0.05, **options})
        self.x, self.y = (torch.empty_like(part) for part in training.batches(device)[0])
        self.graph = None

    def backward(self):
        with torch.autocast(self.device, torch.bfloat16) if self.autocast else nullcontext():
            loss = self.loss_of(self.net, self.x, self.y)
        loss.backward()

    def step(self):
        self.opt.zero_grad(set_to_none=True)
        if self.opt.ascent.needs_clean:
            self.backward()
        with self.opt.perturbed():
            self.backward()
        self.opt.step()

    def capture(self):
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def on_a_side_stream(self):
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            self.step()
        main.wait_stream(side)

    def once(self, t, *, replayed):
        if not replayed or self.device == "cpu":
            self.step()
        elif t < WARM_UP:
            self.on_a_side_stream()
        else:
            if self.graph is None:
                self.capture()
            self.graph.replay()

    def run(self, data, *, replayed):
        torch.manual_seed(5)
        for t, (x, y) in enumerate(data):
            self.x.copy_(x)
            self.y.copy_(y)
            self.once(t, replayed=replayed)
        return self


@pytest.mark.parametrize(("name", "base"), [*((name, "adamw") for name in SETTINGS), ("plain", "fused"), ("plain", "sgd")])
def test_replayed_steps_are_the_called_ones(device, training, same_bits, name, base):
    replayed, called = (Loop(device, training, base, **SETTINGS[name]) for _ in range(2))
    data = training.batches(device)
    replayed.run(data, replayed=True)
    called.run(data, replayed=False)
    assert same_bits(replayed.net, called.net)
    for p, q in zip(replayed.net.parameters(), called.net.parameters(), strict=True):
        for key, value in called.opt.base.state[q].items():
            assert torch.equal(torch.as_tensor(replayed.opt.base.state[p][key]), torch.as_tensor(value)), key
    assert replayed.opt.last == called.opt.last
    assert called.opt.last.passes == 1 + called.opt.ascent.needs_clean


def test_the_example(device, monkeypatch, capsys, same_bits):
    """Its replayed steps, with a schedule of lr and one of the radius, are its called ones."""
    if device == "cpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ends, printed = [], []
    for options in ([], ["--eager"]):
        monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--steps", "12", *options])
        ends.append(runpy.run_path(str(EXAMPLE), run_name="__main__"))
        printed.append(capsys.readouterr().out.splitlines())
    assert same_bits(ends[0]["model"], ends[1]["model"])
    assert ends[0]["opt"].last == ends[1]["opt"].last
    assert ends[0]["opt"].last.radius == pytest.approx(0.05 * 0.999**11, rel=1e-5)
    assert printed[0][1] == printed[1][1]
    assert (printed[0][0] == "9 steps were replayed") == (device == "cuda")


@pytest.mark.gpu
def test_what_a_replay_leaves_standing(training):
    """What the host decides is decided once, in the capture: the count, a number rho, whoever watches."""
    loop, seen = Loop("cuda", training), []
    loop.run(training.batches("cuda"), replayed=True)
    assert loop.opt.param_groups[0]["sharpmin_step"] == WARM_UP + 1
    assert loop.opt.base.state[next(loop.net.parameters())]["step"].item() == len(training.batches("cuda"))
    loop.opt.rho = 0.5
    loop.opt.watchers.append(seen.append)
    loop.graph.replay()
    assert loop.opt.last.radius == pytest.approx(0.05)
    assert seen == []
    loop.step()  # a step that is called
    assert loop.opt.last.radius == pytest.approx(0.5)
    assert len(seen) == 1
    loop.graph.replay()  # leaves the report of the called step as it was
    assert loop.opt.last.radius == pytest.approx(0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("door", ["clean", "closure"])
def test_random_states_cannot_be_captured(training, door):
    loop = Loop("cuda", training).run(training.batches("cuda")[:WARM_UP], replayed=True)
    before = [p.detach().clone() for p in loop.net.parameters()]

    def closure():
        loop.opt.zero_grad()
        loss = loop.loss_of(loop.net, loop.x, loop.y)
        loss.backward()
        return loss

    def by_clean():
        with loop.opt.clean():
            loop.backward()

    call = by_clean if door == "clean" else lambda: loop.opt.step(closure)
    with pytest.raises(RuntimeError, match="captur"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        call()
    torch.cuda.synchronize()
    assert all(torch.equal(p, w) for p, w in zip(loop.net.parameters(), before, strict=True))
    loop.step()
    assert loop.opt.last.stepped
