"""Weights in int8 with a scale a row, as torchao trains them: a tensor subclass with few operations, which rounds at random."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import return_and_correct_aliasing

import sharpmin as sm

aten = torch.ops.aten


class Int8(Tensor):
    """What `Int8QuantizedTrainingLinearWeight` of torchao can do, and no more."""

    adds = True

    @staticmethod
    def __new__(cls, data, scale):
        return Tensor._make_wrapper_subclass(cls, data.shape, dtype=scale.dtype, device=data.device)

    def __init__(self, data, scale):
        self.data8, self.scale = data, scale

    @classmethod
    def of(cls, t):
        scale = t.abs().amax(1) / 127
        return cls((t / scale[:, None]).round().to(torch.int8), scale)

    def wide(self):
        return self.data8 * self.scale[:, None]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            return Linear.apply(*args)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        kwargs = kwargs or {}
        if func in (aten.detach.default, aten.clone.default):
            out = cls(func(args[0].data8, **kwargs), func(args[0].scale, **kwargs))
            return return_and_correct_aliasing(func, args, kwargs, out)
        if func is aten.copy_.default:
            to, source = args[:2]
            if not isinstance(to, Int8):
                return to.copy_(source.wide())
            if isinstance(source, Int8):
                to.data8.copy_(source.data8)
                to.scale.copy_(source.scale)
            else:
                scale = source.abs().amax(1).float() / 127
                to.data8.copy_((source.float() / scale[:, None] + torch.rand(source.shape)).floor().clamp(-128, 127))
                to.scale.copy_(scale)
            return to
        if func is aten.add_.Tensor and cls.adds:
            return args[0].copy_(args[0].wide().add_(*args[1:], **kwargs))
        raise NotImplementedError(f"{func}")


class Stubborn(Int8):
    """One that is written to by `copy_` alone."""

    adds = False


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, bias):
        ctx.save_for_backward(x, w)
        return x @ w.wide().T + bias

    @staticmethod
    def backward(ctx, slope):
        x, w = ctx.saved_tensors
        return slope @ w.wide(), slope.T @ x, slope.sum(0)


class Slow(torch.optim.Optimizer):
    """A base that writes by `copy_` alone."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                values = torch.zeros(p.shape, dtype=p.dtype).copy_(p)
                p.copy_(values - group["lr"] * p.grad)


def run(kind, dtype=torch.float32, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.2), nn.Linear(32, 3)).to(dtype)
    net[0].weight = nn.Parameter(kind.of(net[0].weight.detach()))
    opt = sm.SAM(Slow(net.parameters(), lr=0.05), rho=0.05, **options)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    return net, opt, x, x[:, :3].argmax(1)


def bits(w):
    return w.data8.clone(), w.scale.clone()


def equal(one, other):
    return all(map(torch.equal, one, other))


PARTS = [{}, {"geometry": sm.Elementwise()}, {"geometry": sm.Layerwise()}, {"geometry": sm.LInf()}, {"telemetry": True}]
PARTS += [{"descent": sm.Mix(0.5)}, {"ascent": sm.Ema()}, {"scope": "microbatch"}, {"rounding": "stochastic"}]


@pytest.mark.filterwarnings("ignore:SAM. only .* of the ascent survives the rounding")
@pytest.mark.parametrize("options", PARTS, ids=str)
@pytest.mark.parametrize("kind", [Int8, Stubborn])
def test_it_trains_and_comes_back_bit_for_bit(kind, options):
    net, opt, x, y = run(kind, **options)
    if "geometry" in options:
        opt.rho = 0.002 if isinstance(opt.geometry, sm.LInf) else 0.5
    w, losses, reports, places = net[0].weight, [], [], [net[0].weight.data8.data_ptr(), net[0].weight.scale.data_ptr()]
    for _ in range(40):
        was, seen = bits(w), []

        def closure(seen=seen):
            opt.zero_grad()
            seen.append((bits(w), torch.get_rng_state()))
            loss = nn.functional.cross_entropy(net(x).float(), y)
            loss.backward()
            return loss

        def back(*_, was=was):
            assert equal(bits(w), was)

        handle = opt.base.register_step_pre_hook(back)
        losses.append(opt.step(closure).item())
        handle.remove()
        reports.append(opt.last)
        (before, start), (above, again) = seen
        assert equal(before, was)
        assert not equal(above, was)
        assert torch.equal(start, again)  # rounding at random draws no numbers of the run
    assert losses[-1] < losses[0] - 0.1
    assert [w.data8.data_ptr(), w.scale.data_ptr()] == places
    if "geometry" not in options:
        assert [report.measured for report in reports] == [i < 2 or opt.telemetry for i in range(40)]
        for report in reports:
            assert report.radius == pytest.approx(0.05, rel=0.3)
            assert report.gain == (pytest.approx(1, abs=0.1) if report.measured else None)


def test_the_radius_is_that_of_the_rounded_weights():
    net, opt, x, y = run(Int8)
    nn.functional.cross_entropy(net(x), y).backward()
    was = [torch.zeros(p.shape).copy_(p.detach()) for p in net.parameters()]
    opt.perturb()
    moves = [torch.zeros(p.shape).copy_(p.detach()) - w for p, w in zip(net.parameters(), was, strict=True)]
    assert opt.last.radius == pytest.approx(sum(m.double().square().sum().item() for m in moves) ** 0.5, rel=1e-5)
    opt.abort()


def test_an_exception_in_the_second_pass():
    net, opt, x, y = run(Stubborn)
    was = bits(net[0].weight)
    nn.functional.cross_entropy(net(x), y).backward()
    with pytest.raises(KeyError), opt.perturbed():
        raise KeyError(equal(bits(net[0].weight), was))
    assert equal(bits(net[0].weight), was)
