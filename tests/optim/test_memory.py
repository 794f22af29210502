"""What a step keeps: one copy of the weights between the passes, and nothing in checkpoints, copies and pickles."""

import copy
import gc
import io
import pickle
import re
import weakref

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

import sharpmin as sm

SMALL = 16_384  # bytes for scalars, losses and random states
SIDE = 128
PARAMETERS = (SIDE * SIDE + SIDE) * 4 * 2


@pytest.fixture(autouse=True, scope="module")
def fast_collection():
    """What was there before these tests is not looked at."""
    w = nn.Parameter(torch.ones(1))
    sm.SAM(torch.optim.SGD([w], lr=0.1)).step(lambda: w.sum().backward())  # torch imports its compiler at the first step
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def live():
    """The bytes of all tensors that the test holds, storages counted once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, nn.Parameter):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if thing.is_leaf and thing.grad is not None:
                storage = thing.grad.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class Setup:
    """A network of two wide layers, its SAM, and the memory there was before both."""

    def __init__(self, base=torch.optim.Adam, rho=0.05, **options):
        self.x, self.before = torch.randn(2, SIDE), live()
        self.net = nn.Sequential(nn.Linear(SIDE, SIDE), nn.Linear(SIDE, SIDE))
        self.opt = sm.SAM(base(self.net.parameters(), lr=1e-3), rho, **options)

    def backward(self):
        self.net(self.x).square().mean().backward()

    def step(self):
        self.opt.zero_grad()
        with self.opt.clean():
            self.backward()
        with self.opt.perturbed():
            self.backward()
        self.opt.step()

    def extra(self):
        """Parameter-sized tensors beyond the weights and the state of the base, to within `SMALL`."""
        state = sum(t.nbytes for own in self.opt.base.state.values() for t in own.values() if torch.is_tensor(t))
        sizes, rest = divmod(live() - self.before - PARAMETERS - state + SMALL // 2, PARAMETERS)
        assert rest < SMALL
        return sizes


def test_the_count_sees_what_is_held():
    """The checks below can fail."""
    s = Setup()
    assert s.extra() == 0
    s.backward()
    held = [p.grad for p in s.net.parameters()]
    assert s.extra() == 1
    s.opt.zero_grad()
    assert s.extra() == 1
    held.append([torch.empty(SIDE * SIDE * 2 + SIDE * 2)])
    assert s.extra() == 2
    held.clear()
    assert s.extra() == 0


def bool_true(w):
    return True


def plain(value):
    """An id without addresses, equal in every process."""
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(value))


KEEPS = [
    ({}, 1),
    ({"geometry": sm.Elementwise(0.1)}, 1),
    ({"geometry": sm.LInf()}, 1),
    ({"geometry": sm.Masked(bool_true, sm.L2())}, 1),
    ({"scope": "microbatch"}, 1),
    ({"descent": sm.Mix(0.5)}, 2),
    ({"descent": sm.ClippedDifference(0.5)}, 2),
    ({"telemetry": True}, 2),
    ({"rho": 0.0}, 1),  # no copy of w, but the first gradient: the second must not count
]


@pytest.mark.parametrize(("options", "keeps"), KEEPS, ids=plain)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_between_the_passes(*, path, base, options, keeps):
    s = Setup(base, **options)
    for _ in range(3):
        s.opt.zero_grad()
        with s.opt.clean():
            s.backward()
        with s.opt.perturbed():
            assert s.extra() == keeps  # the gradients are gone
            s.backward()
            assert s.extra() == keeps + 1
        s.opt.step()
        assert s.opt.last.stepped


@pytest.mark.parametrize(("options", "keeps"), KEEPS, ids=plain)
def test_after_the_step(path, options, keeps):
    """A CPU keeps the memory of the copy, an accelerator nothing."""
    s = Setup(**options)
    persistent = path.startswith("host") and options.get("rho") != 0
    for _ in range(2):
        s.opt.zero_grad()
        with s.opt.clean():
            s.backward()
        with s.opt.perturbed():
            s.backward()
        assert s.extra() == persistent + 1  # and the descent gradient
        s.opt.step()
    s.opt.zero_grad()
    assert s.extra() == persistent


@pytest.mark.parametrize("error", [None, "clean", "perturbed"])
def test_an_exception_keeps_nothing(accelerator, error):
    s = Setup(descent=sm.Mix(0.5), telemetry=True, scope="microbatch")
    s.step()
    s.opt.zero_grad()
    try:
        with s.opt.clean():
            s.backward()
            if error == "clean":
                raise MemoryError
        with s.opt.perturbed():
            s.backward()
            if error == "perturbed":
                raise MemoryError
    except MemoryError:
        pass
    s.opt.zero_grad()
    assert s.extra() == 0


def test_ema_costs_one_more():
    s = Setup(ascent=sm.Ema(0.5))
    s.step()
    s.opt.zero_grad()
    assert s.extra() == 2
    assert (
        PARAMETERS < sum(t.nbytes for t in s.opt.state_dict()["sharpmin"]["ascent"].values()) + SMALL < PARAMETERS + 2 * SMALL
    )


def stored(opt):
    buffer = io.BytesIO()
    torch.save(opt.state_dict(), buffer)
    return buffer.tell()


def copied(opt):
    before = live()
    twin = copy.deepcopy(opt)
    size = live() - before
    assert twin.param_groups[0]["lr"] == 1e-3
    return size


SIZES = {"state_dict": stored, "pickle": lambda opt: len(pickle.dumps(opt)), "deepcopy": copied}
PARTS = [{}, {"descent": sm.Mix(0.5)}, {"telemetry": True}, {"scope": "microbatch"}, {"geometry": sm.Elementwise(0.1)}]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("when", ["between steps", "after restore", "after clean"])
@pytest.mark.parametrize("options", PARTS, ids=plain)
def test_no_copy_travels(*, path, options, size, when):
    """The same size as with a SAM that never stepped; SGD has no state."""
    fresh, used = Setup(torch.optim.SGD, **options), Setup(torch.optim.SGD, **options)
    for _ in range(3):
        used.step()
    if when != "between steps":
        used.opt.zero_grad()
        with used.opt.clean():
            used.backward()
    if when == "after restore":
        with used.opt.perturbed():
            used.backward()

    assert SIZES[size](used.opt) <= SIZES[size](fresh.opt) + SMALL


@pytest.mark.parametrize("copy_it", [copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
@pytest.mark.parametrize("scope", ["global", "microbatch"])
@pytest.mark.parametrize("update", [False, True])
def test_no_scaler_travels(copy_it, scope, update):
    """After `scaler.step(opt)` the step is over; a scaler refuses to be copied before its `update()`."""
    s, scaler = Setup(torch.optim.SGD, scope=scope), GradScaler("cpu")
    with s.opt.clean():
        scaler.scale(s.net(s.x).square().mean()).backward()
    with s.opt.perturbed(scaler):
        scaler.scale(s.net(s.x).square().mean()).backward()
    scaler.step(s.opt)
    if update:
        scaler.update()
    assert s.opt.last.stepped
    copy_it(s.opt)
    ref = weakref.ref(scaler)
    del scaler
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize("options", [{}, {"ascent": sm.Ema(0.5)}, {"descent": sm.Mix(0.5), "telemetry": True}], ids=plain)
def test_no_growth(path, options):
    s = Setup(torch.optim.SGD, **options)
    for _ in range(5):
        s.step()
    early, count = live(), len(gc.get_objects())
    for _ in range(50):
        s.step()
    assert live() <= early + 64
    assert len(gc.get_objects()) <= count + 50


@pytest.mark.parametrize("options", [{}, {"ascent": sm.Ema(0.5)}, {"descent": sm.Mix(0.5)}, {"telemetry": True}], ids=plain)
def test_parameters_that_were_replaced_are_let_go(path, options):
    """As accelerate does in `param_groups`: after the next step nothing holds the old ones."""
    old = [nn.Parameter(torch.ones(8)) for _ in range(3)]
    opt = sm.SAM(torch.optim.SGD(old, lr=0.1), rho=0.5, **options)
    gone = [weakref.ref(p) for p in old]

    def step():
        opt.zero_grad()
        for _ in range(2):
            with opt.perturbed() if _ else opt.clean():
                sum(p.square().sum() for p in opt.param_groups[0]["params"]).backward()
        opt.step()

    step()
    opt.zero_grad()
    old = [nn.Parameter(p.detach().clone()) for p in old]
    opt.param_groups[0]["params"] = old
    step()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert old[0].tolist() == pytest.approx([old[0][0].item()] * 8)
    assert opt.last.stepped


def test_an_optimizer_that_is_dropped_is_let_go():
    s = Setup()
    s.step()
    s.opt.zero_grad()
    ref = weakref.ref(s.opt)
    s.opt = None
    gc.collect()
    assert ref() is None
