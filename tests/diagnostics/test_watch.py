"""What a probe writes down equals the formulas, through either door, and survives what loops and disks do."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.diagnostics import JsonLines, Sketch, Window
from sharpmin.diagnostics._run.log import collect, read
from sharpmin.diagnostics._run.rows import decode

H = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)


class Run:
    """SAM on 0.5 w'Hw + noise, as sharpmin's own SAM or by hand."""

    def __init__(self, own=True, base=None, rho=0.3, noise=0.0, **options):
        self.w = nn.Parameter(torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64))
        self.net = nn.ParameterList([self.w])
        self.base = torch.optim.SGD([self.w], lr=0.1) if base is None else base([self.w])
        self.opt = sm.SAM(self.base, rho=rho) if own else None
        self.rho, self.noise, self.rng = rho, noise, torch.Generator().manual_seed(0)
        self.probe = sm.watch(self.opt, **options) if own else sm.watch(self.net, rho=rho, optimizer=self.base, **options)
        self.pairs = []

    def backward(self, xi):
        loss = 0.5 * (H * self.w**2).sum() + (xi * self.w).sum()
        loss.backward()
        return loss.detach()

    def step(self, set_to_none=True):
        xi = self.noise * torch.randn(3, generator=self.rng, dtype=torch.float64)
        x, g = self.w.detach().clone(), H * self.w.detach() + xi
        self.pairs.append((x, g, H * (x + self.rho * g / g.norm()) + xi))
        if self.opt is not None:

            def closure():
                self.opt.zero_grad()
                return self.backward(xi)

            self.opt.step(closure)
            return
        self.base.zero_grad(set_to_none)
        loss = self.backward(xi)
        self.probe.clean(loss)
        with torch.no_grad():
            self.w.add_(self.rho * self.w.grad / self.w.grad.norm())
        self.base.zero_grad(set_to_none)
        self.backward(xi)
        with torch.no_grad():
            self.w.copy_(x)
        self.probe.perturbed()
        self.base.step()

    def steps(self, count):
        for _ in range(count):
            self.step()
        return self


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_the_rows_are_the_formulas(own):
    run = Run(own, noise=0.2, every=2, block=6).steps(12)
    sketch = Sketch()
    for row, (x, g, big) in zip(run.probe.log.steps, run.pairs, strict=True):
        d = big - g
        assert (row["gg"], row["dg"], row["dd"]) == pytest.approx((float(g @ g), float(d @ g), float(d @ d)), rel=1e-10)
        assert (row["lr"], row["rho"]) == (0.1, 0.3)
        assert row["loss"] == pytest.approx(float(g @ x - 0.5 * (H * x * x).sum()), rel=1e-10)
    for b, block in enumerate(run.probe.log.blocks):
        part = run.pairs[6 * b : 6 * b + 6]
        assert (block["first"], block["last"], block["n"], block["steps"]) == (6 * b, 6 * b + 5, 3, 6)
        expected = sum(sketch([g]) for _, g, _ in part[::2]) / 3
        np.testing.assert_allclose(decode(block["g"]), expected, rtol=1e-6, atol=1e-7)
        assert block["dg"] == pytest.approx(np.mean([float((big - g) @ g) for _, g, big in part]), rel=1e-10)


@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_the_scalars_of_a_block_are_means_of_the_formulas(own):
    """h = <D, g> / (rho ||g||) is the curvature along e, lr h (1 + <D, g> / ||g||^2) that of a step along G."""
    run = Run(own, noise=0.2, every=2, block=6).steps(60)  # far enough for gradients below 1
    assert len(run.probe.log.blocks) == 10
    for b, block in enumerate(run.probe.log.blocks):
        part = [(g, big - g) for _, g, big in run.pairs[6 * b : 6 * b + 6]]
        e = [run.rho * g / g.norm() for g, _ in part]
        along = [float(d @ v / (v @ v)) for (_, d), v in zip(part, e, strict=True)]
        bounce = [0.1 * h * float((g + d) @ g / (g @ g)) for (g, d), h in zip(part, along, strict=True)]
        right = {"norm_g": [float(g.norm()) for g, _ in part], "norm_d": [float(d.norm()) for _, d in part]}
        right |= {"curvature": along, "bounce": bounce, "gg": [float(g @ g) for g, _ in part]}
        right |= {"dd": [float(d @ d) for _, d in part]}
        for key, values in right.items():
            assert block[key] == pytest.approx(np.mean(values), rel=1e-9), key


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("telemetry", [False, True])
def test_products_of_any_size_on_every_kind_of_step(scale, telemetry):
    """Sketched steps find them in the same read, whose float32 squares may be 0 or inf; then they are found once more."""
    draw = torch.Generator().manual_seed(0)
    net = torch.nn.ParameterList([torch.zeros(5), torch.zeros(40_000)])
    opt = sm.SAM(torch.optim.SGD(net.parameters(), lr=0.0), rho=0.1, telemetry=telemetry)
    probe = sm.watch(opt, every=2)
    for _ in range(4):
        g, big = ([torch.randn(p.shape, generator=draw) * scale for p in net] for _ in range(2))
        for p, own in zip(net, g, strict=True):
            p.grad = own
        with opt.perturbed():
            for p, own in zip(net, big, strict=True):
                p.grad = own
        opt.step()
        first, second = (torch.cat([t.double() for t in ts]) for ts in (g, big))
        d = second - first
        row = probe.log.steps[-1]
        assert [row[k] for k in ("gg", "dg", "dd")] == pytest.approx(
            [float(first @ first), float(d @ first), float(d @ d)], rel=1e-6
        )


def test_the_cosine_of_neighbors():
    run = Run(every=1, block=4).steps(4)
    for row, (_, before, _), (_, g, _) in zip(list(run.probe.log.steps)[1:], run.pairs, run.pairs[1:], strict=False):
        assert row["lag"] == pytest.approx(float(before @ g / (before.norm() * g.norm())), abs=1e-9)


@pytest.mark.parametrize("every", [1, 2, 3, 8])
def test_only_the_sketched_steps_and_those_right_after_them_are_sketched(every, monkeypatch):
    sketched = []
    monkeypatch.setattr(
        Sketch,
        "compare",
        lambda self, *args, _compare=Sketch.compare, **options: sketched.append(0) or _compare(self, *args, **options),
    )
    run = Run(every=every)
    for step in range(20):
        sketched.clear()
        run.step()
        assert bool(sketched) == (step % every in (0, 1)), step
        assert ("lag" in run.probe.log.steps[-1]) == (step > 0 and step % every in ((0, 1) if every <= 2 else (1,)))


def test_the_run_is_the_same_whoever_watches():
    ends = []
    for watched in (True, False):
        run = Run(noise=0.3)
        if not watched:
            run.opt.watchers.clear()
        ends.append(run.steps(20).w.tolist())
    assert ends[0] == ends[1]


DECAY = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, weight_decay=0.3),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.1, weight_decay=0.3),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.1, weight_decay=0.3),
}


@pytest.mark.parametrize("base", DECAY)
def test_weight_decay_enters_the_gradient_of_the_objective(base):
    """G + wd x for coupled decay; for decoupled decay g + wd P x, since P^-1 (g + wd P x) = P^-1 g + wd x is the step."""
    run = Run(base=DECAY[base], every=1, block=5)
    sketch, expected, scaled = Sketch(), 0, 0
    for _ in range(5):
        run.step()
        x, g, big = run.pairs[-1]
        state = {} if base == "sgd" else dict(run.before) if hasattr(run, "before") else {}
        root = torch.ones(3).double() if not state else (state["exp_avg_sq"] / (1 - 0.999 ** state["step"])).sqrt() + 1e-8
        expected = expected + sketch([g + 0.3 * x * (root if base == "adamw" else 1)]) / 5
        scaled = scaled + sketch([(big - g) / root]) / 5
        if base != "sgd":
            own = run.base.state[run.w]
            run.before = {"exp_avg_sq": own["exp_avg_sq"].clone(), "step": float(own["step"])}
    block = run.probe.log.blocks[0]
    np.testing.assert_allclose(decode(block["g"]), expected, rtol=1e-6, atol=1e-7)
    if base != "sgd":
        np.testing.assert_allclose(decode(block["pd"]), scaled, rtol=1e-6, atol=1e-7)


def test_a_file_is_readable_while_it_grows_and_after_a_kill(tmp_path):
    path = tmp_path / "run.jsonl"
    run = Run(to=path, every=1, block=4, noise=0.1)
    run.steps(9)
    assert len(read(path).steps) == 9  # nobody has closed it
    run.steps(16)
    whole = path.read_text()
    path.write_text(whole[:-20])  # killed while it wrote
    log = read(path)
    assert "1 line could not be read" in log.remarks[0]
    assert Window.of(log, blocks=6).last == 23
    again = Run(to=path, every=1, block=4, noise=0.1).steps(4)
    again.probe.close()
    assert path.read_text().startswith(whole[:-20])


def test_foreign_lines_and_nans(tmp_path):
    path = tmp_path / "run.jsonl"
    Run(to=path, every=1, block=4).steps(24)
    lines = path.read_text().splitlines()
    last = json.loads(lines[-1])
    log = collect(["", "epoch 1: loss 0.3", '{"loss": 3}', *lines, json.dumps({**last, "gg": "nan"})], "run")
    assert "2 lines could not be read and are left out (number 2, 3)" in log.remarks[0]
    assert (
        "1 blocks with gradients or losses that are not finite are left out; the run ended in numbers that are none"
        in Window.of(log).remarks[1]
    )
    with pytest.raises(ValueError, match="no line is a row of a watched run"):
        collect(["a", "b"], "run")
    spoilt = [json.dumps({**json.loads(line), "dd": "inf"}) if '"block"' in line else line for line in lines]
    with pytest.raises(ValueError, match="the run has diverged"):
        Window.of(collect(spoilt, "run"))


@pytest.mark.parametrize(
    "change", [{"rho": 0.2}, {"lr": [0.1]}, {"n": 0}, {"g": "AAAA"}, {"norm_d": None}, {"steps": "many"}], ids=str
)
def test_a_block_that_no_run_writes_is_left_out(change, tmp_path):
    path = tmp_path / "run.jsonl"
    Run(to=path, every=1, block=4).steps(24)
    lines = path.read_text().splitlines()
    log = collect([*lines[:-1], json.dumps({**json.loads(lines[-1]), **change})], "run")
    assert len(log.blocks) == 5
    assert "1 line could not be read" in log.remarks[0]


def test_writers_of_any_kind(tmp_path):
    seen = []
    run = Run(to=[tmp_path / "a.jsonl", seen.append, JsonLines(tmp_path / "b.jsonl")], every=1, block=4).steps(4)
    run.probe.close()
    assert [row["kind"] for row in seen] == ["run", "step", "step", "step", "step", "block"]
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


def test_the_memory_of_a_probe_is_bounded():
    run = Run(every=1, block=4).steps(600)
    assert len(run.probe.log.steps) <= 64
    assert len(run.probe.log.blocks) <= 64


REFUSED = [
    (lambda: sm.watch(nn.Linear(1, 1)), ValueError, "rho is missing"),
    (lambda: sm.watch(nn.Linear(1, 1), rho=-1.0), ValueError, "rho=-1.0"),
    (lambda: sm.watch("model", rho=0.1), TypeError, "target=str"),
    (lambda: sm.watch(Run().opt, rho=0.1), TypeError, "knows its rho"),
    (lambda: sm.watch(Run().opt, every=0), ValueError, "every=0"),
    (lambda: sm.watch(Run().opt, mu=0.0), ValueError, "mu=0.0"),
    (lambda: sm.watch(Run().opt, start=-1), ValueError, "start=-1; start must be an integer >= 0"),
    (lambda: sm.watch(Run().opt, start=True), ValueError, "start=True"),
    (
        lambda: sm.watch(sm.SAM(torch.optim.SGD(Run().net, momentum=0.9), ascent=sm.Momentum())),
        ValueError,
        "one gradient a step",
    ),
    (lambda: sm.watch(Run().net, rho=0.1, optimizer="SGD"), TypeError, "optimizer='SGD' is a str"),
    (lambda: sm.watch(sm.SAM(Run().base, rho=0.3, scope="microbatch")), ValueError, "a row is a step"),
    (Run(own=False).probe.perturbed, RuntimeError, "without clean"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_bad_use(call, error, words):
    with pytest.raises(error, match=words):
        call()
