"""Under torch.compile: the step of eager mode, with one graph for all steps, and no phase lost.

Recompilation is refused by `torch._dynamo.config.error_on_recompile` from the third step on, and counted in `unique_graphs`.
"""

import itertools
import shutil
from contextlib import ExitStack
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import sharpmin as sm

pytestmark = [  # torch's own
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
STEPS = 6
FRESH = {"backend": "aot_eager"}


@pytest.fixture(autouse=True)
def dynamo():
    """Compiled anew; `dynamo()` forbids recompiling from then on."""
    torch._dynamo.reset()
    counters.clear()
    with ExitStack() as stack:
        options = {"fallback_random": True, "cpp.vec_isa_ok": False}  # the random numbers of eager mode; soon compiled
        stack.enter_context(torch._inductor.config.patch(options))
        yield lambda: stack.enter_context(torch._dynamo.config.patch(error_on_recompile=True))
    torch._dynamo.reset()


class Run:
    """BatchNorm and dropout on fixed data."""

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 1)).to(dtype)
        self.x, self.y = torch.randn(16, 4).to(dtype), torch.randn(16, 1).to(dtype)

    def sam(self, base=torch.optim.SGD, model=None, **options):
        base = base(self.net.parameters(), lr=0.1) if isinstance(base, type) else base
        return sm.SAM(base, rho=0.1, model=model or self.net, **options)

    def loss(self, net=None):
        return nn.functional.mse_loss((net or self.net)(self.x), self.y)

    def end(self):
        """Weights and buffers; compiled arithmetic may differ by rounding."""
        return torch.cat([t.detach().double().flatten() for t in self.net.state_dict().values()]).tolist()


def block(opt, loss):
    opt.zero_grad()
    with opt.clean():
        loss().backward()
    with opt.perturbed():
        loss().backward()
    opt.step()


def closure(opt, loss):
    def both():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value

    opt.step(both)


def first_steps(opt, loss):
    opt.zero_grad()
    loss().backward()
    opt.first_step(zero_grad=True)
    loss().backward()
    opt.second_step(zero_grad=True)


DOORS = {"block": block, "closure": closure, "two-step": first_steps}
INDUCTOR = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
CASES = [(*case, "aot_eager") for case in itertools.product(DOORS, ("raw", "compiled"))]
CASES += [pytest.param(*case, "inductor", marks=INDUCTOR) for case in [("block", "compiled"), ("closure", "raw")]]


def eager(door, **options):
    run = Run()
    opt = run.sam(**options)
    torch.manual_seed(2)
    for _ in range(STEPS):
        door(opt, run.loss)
    return run.end()


@pytest.mark.parametrize(("door", "model", "backend"), CASES)
def test_a_compiled_model(dynamo, door, model, backend):
    run = Run()
    net = torch.compile(run.net, backend=backend)
    opt = run.sam(model=net if model == "compiled" else run.net)
    torch.manual_seed(2)
    for step in range(STEPS):
        if step == 2:
            dynamo()
        DOORS[door](opt, partial(run.loss, net))
    assert run.end() == pytest.approx(eager(DOORS[door]), abs=1e-6)
    assert run.net[1].num_batches_tracked == STEPS
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@INDUCTOR
def test_the_random_numbers_of_inductor_are_replayed():
    """Its own, drawn from a seed that comes from the default generator when the graph runs."""
    w, drop, masks = nn.Parameter(torch.ones(64)), torch.compile(nn.Dropout(0.5), backend="inductor"), []
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.1)

    def loss():
        masks.append(drop(torch.ones(64)))
        return (w * masks[-1]).square().sum()

    with torch._inductor.config.patch(fallback_random=False):
        for _ in range(2):
            block(opt, loss)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[0], masks[2])


def test_a_recompilation_is_seen(dynamo):
    """The check above can fail."""
    net = torch.compile(nn.Linear(2, 1), backend="aot_eager", dynamic=False)
    net(torch.ones(3, 2))
    dynamo()
    with pytest.raises(torch._dynamo.exc.RecompileError):
        net(torch.ones(5, 2))


PARTS = [
    {"geometry": sm.Elementwise(0.1)},
    {"ascent": sm.Ema(0.3)},
    {"descent": sm.Mix(0.5), "telemetry": True},
    {"geometry": sm.LInf(), "descent": sm.ClippedDifference(0.3)},
]


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_a_compiled_model_with_other_parts(dynamo, options):
    run = Run()
    net = torch.compile(run.net, **FRESH)
    opt = run.sam(**options)
    torch.manual_seed(2)
    for step in range(STEPS):
        if step == 2:
            dynamo()
        block(opt, partial(run.loss, net))
    assert run.end() == pytest.approx(eager(block, **options), abs=1e-6)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("door", ["block", "closure"])
def test_a_compiled_base_step(dynamo, door):
    """With a tensor lr, which is not a constant of the graph."""
    run, twin = Run(), Run()
    base = torch.optim.SGD(run.net.parameters(), lr=torch.tensor(0.1), momentum=0.9)
    base.step = torch.compile(base.step, **FRESH)
    opt, plain = run.sam(base), twin.sam(torch.optim.SGD(twin.net.parameters(), lr=torch.tensor(0.1), momentum=0.9))
    for o, r in ((opt, run), (plain, twin)):
        torch.manual_seed(2)
        for step in range(STEPS):
            if step == 3 and o is opt:  # the momentum appears in the second step
                dynamo()
            DOORS[door](o, r.loss)
    assert run.end() == pytest.approx(twin.end(), abs=1e-6)
    assert counters["stats"]["unique_graphs"] > 0
    assert opt.param_groups[0]["sharpmin_step"] == STEPS


def golden():
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))

    def backward():
        loss = 0.5 * (w[0] ** 2 + 4 * w[1] ** 2)
        loss.backward()

    return w, sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.5), backward


@pytest.mark.parametrize("name", ["perturb", "restore", "zero_grad", "step"])
def test_dynamo_captures_nothing_that_moves_weights_or_phases(name):
    w, opt, backward = golden()
    for method in ("zero_grad", "perturb", "restore", "step"):
        if method in ("perturb", "restore"):
            backward()
        torch.compile(getattr(opt, method), **FRESH)() if method == name else getattr(opt, method)()
    assert counters["stats"]["calls_captured"] == 0
    assert w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)


@pytest.mark.parametrize(
    ("up", "down"), [("perturb", "restore"), ("first_step", "restore"), ("perturb", "second_step")], ids=str
)
def test_a_compiled_phase_is_not_lost(up, down):
    w, opt, backward = golden()
    backward()
    torch.compile(getattr(opt, up), **FRESH)()
    assert w.tolist() == pytest.approx([3.3, 1.4], abs=1e-12)
    with pytest.raises(sm.PhaseError):
        opt.state_dict()
    backward()
    torch.compile(getattr(opt, down), **FRESH)()
    if down == "restore":
        assert w.tolist() == [3.0, 1.0]
        torch.compile(opt.step, **FRESH)()
    assert w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)
    assert opt.last.stepped
    assert opt.last.passes == 2
    torch.compile(opt.zero_grad, **FRESH)()
    assert w.grad is None


def guarded(opt, loss):
    opt.zero_grad()
    with opt.clean():
        loss().backward()
    if opt.needs_second_pass:
        with opt.perturbed():
            loss().backward()
    opt.step()


WHOLE = {**DOORS, "guarded": guarded}


@pytest.mark.parametrize(
    ("whole", "scope"),
    [case for case in itertools.product(WHOLE, ("global", "microbatch")) if case != ("two-step", "microbatch")],
)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_a_whole_step_compiled(whole, scope, base):
    run, twin = Run(), Run()
    opt, plain = run.sam(base, scope=scope), twin.sam(base, scope=scope)
    step = torch.compile(WHOLE[whole], **FRESH)
    for o, r, take in ((opt, run, step), (plain, twin, WHOLE[whole])):
        torch.manual_seed(2)
        for _ in range(STEPS):
            take(o, r.loss)
    assert run.end() == pytest.approx(twin.end(), abs=1e-6)
    assert run.net[1].num_batches_tracked == STEPS
    assert opt.param_groups[0]["sharpmin_step"] == plain.param_groups[0]["sharpmin_step"] == STEPS
    assert opt.last.passes == 2


@pytest.mark.parametrize("scope", ["global", "microbatch"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_exception_inside_a_compiled_step(scope, number):
    from sharpmin.optim._effects.guard import _holders

    w, opt, backward = golden()
    opt.scope = scope
    passes = []

    @torch._dynamo.disable
    def attempt():
        passes.append(w.tolist())
        backward()
        if len(passes) == number:
            raise MemoryError("out of memory")

    def whole():
        opt.zero_grad()
        with opt.clean():
            attempt()
        with opt.perturbed():
            attempt()
        opt.step()

    compiled = torch.compile(whole, **FRESH)
    with pytest.raises(MemoryError):
        compiled()
    assert w.tolist() == [3.0, 1.0]
    assert _holders == {}
    compiled()
    assert w.tolist() == pytest.approx([2.67, 0.44], abs=1e-12)
    assert passes[-1] == pytest.approx([3.3, 1.4], abs=1e-12)
