"""The comparison of the two gradients in `opt.last`, against the formulas on a quadratic, where D = H e exactly."""

import numpy as np
import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim import Context

H = np.diag([1.0, 4.0, 0.5, -2.0])
START = np.array([3.0, 1.0, -2.0, 0.5])
GEOMETRIES = {"L2": sm.L2(), "LInf": sm.LInf(), "Elementwise": sm.Elementwise(0.1), "Layerwise": sm.Layerwise()}
FIELDS = ("cosine", "amplification", "curvature", "smoothness")


def step(dtype=torch.float64, rho=0.3, scaler=None, maximize=False, **options):
    """One step from START on 0.5 w'Hw, in two tensors; the SAM."""
    a, b = (nn.Parameter(torch.tensor(part, dtype=dtype)) for part in np.split(START, 2))
    opt = sm.SAM(torch.optim.SGD([a, b], lr=0.1, maximize=maximize), rho=rho, telemetry=True, **options)
    h, scale = torch.tensor(np.diag(H), dtype=dtype), scaler.scale if scaler else (lambda loss: loss)

    def backward():
        scale(0.5 * (h * torch.cat([a, b]) ** 2).sum()).backward()

    with opt.clean():
        backward()
    with opt.perturbed(scaler):
        backward()
    scaler.step(opt) if scaler else opt.step()
    return opt


def expected(e):
    g, d = H @ START, H @ e
    big = g + d
    return (big @ g / np.sqrt(big @ big * (g @ g)), d @ g / (g @ g), d @ e / (e @ e), np.sqrt(d @ d / (e @ e)))


def move(geometry, rho):
    """e, by the geometry's own functions, which have tests of their own."""
    w, g = ([torch.tensor(part) for part in np.split(v, 2)] for v in (START, H @ START))
    metric = geometry.at(w, g, Context())
    return rho * torch.cat(list(metric.steepest(metric.measure()))).numpy()


def values(opt):
    return [getattr(opt.last, name) for name in FIELDS]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_formulas(geometry, path):
    opt = step(geometry=GEOMETRIES[geometry])
    assert values(opt) == pytest.approx(expected(move(GEOMETRIES[geometry], 0.3)), rel=1e-10)


@pytest.mark.parametrize("options", [{"descent": sm.Mix(0.3)}, {"descent": sm.ClippedDifference()}, {"scope": "microbatch"}])
def test_whatever_is_done_with_the_gradients(options):
    assert values(step(**options)) == pytest.approx(expected(move(sm.L2(), 0.3)), rel=1e-10)


@pytest.mark.parametrize("options", [{}, {"scope": "microbatch"}])
def test_free_of_the_loss_scale(options):
    opt = step(dtype=torch.float32, scaler=torch.amp.GradScaler("cpu", init_scale=65536.0), **options)
    assert values(opt) == pytest.approx(expected(move(sm.L2(), 0.3)), rel=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("theta", [0.2, 0.7])
def test_along_an_average_of_gradients(theta, geometry):
    """e is along a = (1 - theta) a + theta g and no multiple of g, on the second step for the first time."""
    rule, w, a = GEOMETRIES[geometry], START, np.zeros(4)
    ps = [nn.Parameter(torch.tensor(part)) for part in np.split(START, 2)]
    opt = sm.SAM(torch.optim.SGD(ps, lr=0.1), rho=0.3, telemetry=True, ascent=sm.Ema(theta), geometry=rule)
    h = torch.tensor(np.diag(H))

    def closure():
        opt.zero_grad()
        loss = 0.5 * (h * torch.cat(ps) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(closure)
        g, a = H @ w, (1 - theta) * a + theta * (H @ w)
        weights, gradients = ([torch.tensor(part) for part in np.split(v, 2)] for v in (w, a))
        metric = rule.at(weights, gradients, Context())
        e = 0.3 * torch.cat(list(metric.steepest(metric.measure()))).numpy()
        d, big = H @ e, g + H @ e
        right = (big @ g / np.sqrt(big @ big * (g @ g)), d @ g / (g @ g), d @ e / (e @ e), np.sqrt(d @ d / (e @ e)))
        assert values(opt) == pytest.approx(right, rel=1e-9)
        w = w - 0.1 * big


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_curvature_is_along_what_the_weights_really_moved(dtype):
    """Rounding changes e: its length is not rho, and <D, e> / ||e||^2 is still the formula."""
    w = nn.Parameter(torch.tensor([3.0, 1.0, -2.0, 0.5], dtype=dtype))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.0), rho=0.02, telemetry=True)
    h, was = torch.tensor(np.diag(H), dtype=dtype), w.detach().double().numpy()

    def backward():
        w.grad = (h * w).detach()
        return w.grad.double().numpy(), w.detach().double().numpy()

    g, _ = backward()
    with opt.perturbed():
        big, now = backward()
    opt.step()
    e, d = now - was, big - g
    assert abs(np.sqrt(e @ e) / 0.02 - 1) > 0.01
    assert opt.last.curvature == pytest.approx(d @ e / (e @ e), rel=1e-5)
    assert opt.last.smoothness == pytest.approx(np.sqrt(d @ d / (e @ e)), rel=1e-5)


def test_a_small_rho_in_float32_keeps_its_curvature():
    """G and g agree to four digits, and the difference still has three."""
    assert values(step(dtype=torch.float32, rho=1e-3)) == pytest.approx(expected(move(sm.L2(), 1e-3)), rel=2e-3)


def test_the_step_itself_is_the_same():
    ends = []
    for telemetry in (False, True):
        w = nn.Parameter(torch.tensor(START))
        opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.3, telemetry=telemetry)
        for _ in range(5):
            (0.5 * (torch.tensor(np.diag(H)) * w**2).sum()).backward()
            with opt.perturbed():
                (0.5 * (torch.tensor(np.diag(H)) * w**2).sum()).backward()
            opt.step()
            opt.zero_grad()
        ends.append(w.tolist())
    assert ends[0] == ends[1]


def test_nothing_to_compare():
    assert values(step(rho=0.0)) == [None] * 4
    w = nn.Parameter(torch.ones(1))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1, momentum=0.9), rho=0.3, telemetry=True, ascent=sm.Momentum())
    with opt.perturbed():
        (w**2).sum().backward()
    opt.step()
    assert values(opt) == [None] * 4
