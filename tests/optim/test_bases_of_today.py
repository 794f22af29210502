"""docs/bases.md, run: the bases of its table take the steps of a loop by hand, bit for bit; the others are refused as it says.

The page is the only list of bases. Packages outside the extra `test` are skipped where they are not installed.
"""

import importlib.util
import io
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from tests.optim.conftest import block, closure
from tests.sam_by_hand import gradient, sam_gradient, step
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import sharpmin as sm

ROOT = Path(__file__).parents[2]
STEPS, RHO = 20, 0.05
BESIDE = {"bitsandbytes", "torchao"}  # the extra `bases-test`
PAGE = (ROOT / "docs/bases.md").read_text()


def table(title):
    """The rows under a heading of the page, cells without their backticks."""
    lines = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return rows[2:]


EXACT, REFUSED = table("Exact"), table("Refused")
WATCHED = {"yes": False, "a guess": True}


def modules(code):
    return re.findall(r"([a-z_][a-z_.]*)\.[A-Z]\w*\(", code)


def case(code, *rest):
    beside = {module.split(".")[0] for module in modules(code)} & BESIDE
    marks = [pytest.mark.skipif(not importlib.util.find_spec(name), reason=f"{name}: extra bases-test") for name in beside]
    marks += [pytest.mark.filterwarnings("ignore")] * bool(beside)  # they compile, and warn of what torch will change
    return pytest.param(code, *rest, id=code, marks=marks)


def bases(code, net):
    """What the expression of a row makes for a net."""
    names = {"torch": torch, "net": net, "w": list(net.parameters())}
    names |= {"matrices": [p for p in net.parameters() if p.ndim == 2], "others": [p for p in net.parameters() if p.ndim != 2]}
    for module in modules(code):
        root = module.split(".")[0]
        with warnings.catch_warnings(action="ignore"):  # what a package says about itself when it is imported
            importlib.import_module(module)
        names[root] = importlib.import_module(root)
    return eval(code, names)


def a_net():
    """A weight of 4096 entries, as 8-bit optimizers keep smaller ones in 32 bits; and buffers, which move once a step."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 3))


X = torch.randn(STEPS, 16, 64, generator=torch.Generator().manual_seed(1))
Y = X[:, :, :3].argmax(2)


def loss_at(net, i):
    return nn.functional.cross_entropy(net(X[i]), Y[i])


def backward_at(net, i):
    with torch.enable_grad():
        loss = loss_at(net, i)
    loss.backward()
    return loss


def decay(t):
    return 0.9**t


def call(bases, name):
    """`train()` or `eval()` of those that have it."""
    for base in bases:
        getattr(base, name, lambda: None)()


def seen(net, bases):
    """The weights and buffers of training, and with which it is evaluated; then training can go on."""
    found = [t.clone() for t in net.state_dict().values()]
    call(bases, "eval")
    found += [t.clone() for t in net.state_dict().values()]
    call(bases, "train")
    return found


@cache
def by_hand(code, rho):
    """Losses, and what is seen half way and at the end, of the base alone; with rho, with the gradients of SAM."""
    net = a_net()
    both = bases(code, net)
    both = both if isinstance(both, list) else [both]
    parameters, schedulers = list(net.parameters()), [LambdaLR(base, decay) for base in both]

    def norm(grads):
        """In float32 within a group, as torch takes it; over the groups in float64."""
        of = dict(zip(parameters, grads, strict=True))
        groups = [group["params"] for base in both for group in base.param_groups]
        return sum(torch.cat([of[p].flatten() for p in group]).norm().item() ** 2 for group in groups) ** 0.5

    losses, found = [], []
    call(both, "train")
    for i in range(STEPS):
        if rho:
            grads, loss = sam_gradient(net, [lambda i=i: loss_at(net, i)], rho, norm=norm)
        else:
            grads, loss = gradient(parameters, [lambda i=i: loss_at(net, i)])
        for base, scheduler in zip(both, schedulers, strict=True):
            step(base, parameters, grads)
            scheduler.step()
        losses.append(loss)
        if i + 1 in (STEPS // 2, STEPS):
            found += seen(net, both)
    return losses, found


def two_step(opt, backward):
    loss = backward()
    opt.first_step(zero_grad=True)
    backward()
    opt.second_step(zero_grad=True)
    return loss


def started(code, rho):
    net = a_net()
    opt = sm.SAM(bases(code, net), rho=rho, model=net)
    call([opt], "train")
    return net, opt, LambdaLR(opt, decay)


def resumed(run, code, rho):
    """A run made anew, and loaded from a file."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in run], file)
    file.seek(0)
    again = started(code, rho)
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    return again


def by_sam(code, door, rho=RHO, resume=False):
    run, losses, found = started(code, rho), [], []
    for i in range(STEPS):
        net, opt, scheduler = run
        losses.append(door(opt, lambda i=i, net=net: backward_at(net, i)).item())
        scheduler.step()
        if i + 1 in (STEPS // 2, STEPS):
            found += seen(net, [opt])
            run = resumed(run, code, rho) if resume else run
    return losses, found


def same(one, other):
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


exact = pytest.mark.parametrize(("code", "version", "watch"), [case(*row) for row in EXACT])


@exact
def test_exact_through_every_door_and_a_checkpoint(code, version, watch):
    """The loop by hand is not interrupted; through the block, SAM is."""
    wanted = by_hand(code, RHO)
    for door in (closure, block, two_step):
        assert same(by_sam(code, door, resume=door is block), wanted), door.__name__
    assert not same(by_hand(code, 0.0), wanted)


@exact
def test_rho_zero_is_the_base_alone(code, version, watch):
    assert same(by_sam(code, closure, rho=0.0), by_hand(code, 0.0))


@exact
def test_it_can_be_watched_and_a_guess_is_told(code, version, watch):
    net, opt, _ = started(code, RHO)
    probe = sm.watch(opt, every=1, block=2)
    for i in range(STEPS):
        closure(opt, lambda i=i: backward_at(net, i))
    told = any(remark.endswith("so the predicted fall is a guess") for remark in sm.diagnose(probe).remarks)
    assert told is WATCHED[watch]


@pytest.mark.parametrize("door", [closure, block, two_step])
@pytest.mark.parametrize(("code", "error", "words"), [case(*row) for row in REFUSED])
def test_refused_with_the_reason(code, error, words, door):
    net = a_net()
    base = bases(code, net)

    def first_step():
        door(sm.SAM(base, rho=RHO), lambda: backward_at(net, 0))

    with pytest.raises((sm.PhaseError, TypeError, ValueError), match=re.escape(words)) as caught:
        first_step()
    assert type(caught.value).__name__ == error


def test_the_page_names_the_versions_that_are_pinned():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.M))
    for code, version, _ in EXACT:
        name, number = version.split()
        assert name.replace("-", "_") in {module.split(".")[0] for module in modules(code)} | {"lion_pytorch"}
        assert pinned[name] == number
