"""Golden steps with their numbers: one step by hand, the closure contract, the floor."""

import pytest
import torch

import sharpmin as sm

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def near(tensor, expected, tolerance):
    assert tensor.tolist() == pytest.approx(expected, rel=0, abs=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("rho", "at", "end"),
    [
        (0.5, (3.3, 1.4), (2.67, 0.44)),
        (sm.rho.Unnormalized(0.5), (4.5, 3.0), (2.55, -0.2)),
        (sm.rho.Capped(0.5, c=0.05), (3.15, 1.2), (2.685, 0.52)),
        (sm.rho.Capped(0.5, c=1.0), (3.3, 1.4), (2.67, 0.44)),
        (sm.rho.ProportionalToLR(0.5, lr=0.1), (3.3, 1.4), (2.67, 0.44)),
        (0.0, None, (2.7, 0.6)),
    ],
    ids=str,
)
def test_one_step(*, quadratic, door, path, dtype, rho, at, end):
    f = quadratic(dtype)
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=rho)
    assert door(opt, f).item() == pytest.approx(6.5, abs=TOLERANCE[dtype])
    if at is not None:
        near(f.visited[1], at, TOLERANCE[dtype])
    near(f.w, end, TOLERANCE[dtype])


def test_second_gradient(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    with opt.perturbed():
        f()
    near(f.w, (3.0, 1.0), 0.0)
    near(f.w.grad, (3.3, 5.6), 1e-9)


def test_clipping_the_descent_gradient(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    with opt.perturbed():
        f()
    assert torch.nn.utils.clip_grad_norm_([f.w], 1.0).item() == pytest.approx(6.5, abs=1e-9)
    opt.step()
    near(f.w, (2.94923077, 0.91384616), 1e-7)


def test_clipping_the_ascent_gradient_changes_nothing(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    f()
    torch.nn.utils.clip_grad_norm_([f.w], 1.0)
    with opt.perturbed():
        f()
    opt.step()
    near(f.w, (2.67, 0.44), 1e-9)


def test_gradients_accumulate_in_each_phase(quadratic):
    f = quadratic()
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.05), rho=0.5)
    f()
    f()
    with opt.perturbed():
        f()
        f()
    opt.step()
    near(f.w, (2.67, 0.44), 1e-9)


@pytest.mark.parametrize("maximize", [False, True])
def test_the_ascent_is_on_the_loss_also_where_the_base_maximizes(quadratic, door, maximize):
    f = quadratic()
    sign = -1.0 if maximize else 1.0
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1, maximize=maximize), rho=0.5)

    def negated():
        loss = sign * 0.5 * (f.w[0] ** 2 + 4 * f.w[1] ** 2)
        loss.backward()
        return loss

    door(opt, negated)
    near(f.w, (2.67, 0.44), 1e-9)


@pytest.mark.parametrize("path_name", ["fresh", "after a block"])
def test_closure_contract(quadratic, path_name):
    f, calls = quadratic(), []
    opt = sm.SAM(torch.optim.SGD([f.w], lr=0.1), rho=0.5)
    if path_name == "after a block":
        f()
        with opt.perturbed():
            f()
        opt.step()
        with torch.no_grad():
            f.w.copy_(torch.tensor([3.0, 1.0]))

    def closure():
        calls.append(torch.is_grad_enabled())
        opt.zero_grad()
        loss = 0.5 * (f.w[0] ** 2 + 4 * f.w[1] ** 2)
        loss.backward()
        return loss

    with torch.no_grad():
        loss = opt.step(closure)
    assert calls == [True, True]
    assert loss.item() == 6.5
    near(f.w, (2.67, 0.44), 1e-9)
    assert (opt.last.clean_loss, opt.last.perturbed_loss) == (6.5, pytest.approx(0.5 * (3.3**2 + 4 * 1.4**2), abs=1e-9))


@pytest.mark.parametrize(
    ("rho", "curvatures", "start", "end", "tolerance"),
    [
        (0.1, (1.0,), (1.0,), (0.005263157894736842,), 1e-12),
        (sm.rho.InverseSqrt(0.1), (1.0,), (1.0,), (0.0,), 1e-4),
        (sm.rho.Unnormalized(0.1), (1.0,), (1.0,), (0.0,), 1e-12),
        (0.1, (1.0, 4.0), (1.0, 1.0), (0.0, 0.025), 1e-9),
    ],
    ids=["constant", "inverse-sqrt", "unnormalized", "two curvatures"],
)
def test_the_floor(rho, curvatures, start, end, tolerance):
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    scale = torch.tensor(curvatures, dtype=torch.float64)
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=rho)

    def step():
        w.grad = scale * w.detach()
        with opt.perturbed():
            w.grad = scale * w.detach()
        opt.step()
        return w.detach().clone()

    slow = isinstance(rho, sm.rho.InverseSqrt)  # like 1/sqrt(t), the others like 0.9^t
    for _ in range(4_999 if slow else 1_999):
        before = step()
    after = step()
    near(after.abs(), end, tolerance)
    if rho == 0.1:
        assert after[-1] * before[-1] < 0
