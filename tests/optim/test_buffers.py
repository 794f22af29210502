"""Buffers move once a step, whatever module holds them, and nothing is left behind."""

import copy
import pickle

import pytest
import torch
from torch import nn

import sharpmin as sm
from sharpmin.optim._effects.buffers import Buffers


def one_step(net, batch, opt, door="block"):
    def closure():
        opt.zero_grad()
        loss = (net(batch) ** 2).mean()
        loss.backward()
        return loss

    if door == "closure":
        opt.step(closure)
    else:
        closure()
        with opt.perturbed():
            closure()
        opt.step()


def sam(net, **options):
    return sm.SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.1, model=net, **options)


@pytest.mark.parametrize("door", ["block", "closure"])
@pytest.mark.parametrize(("momentum", "mean", "var"), [(0.1, 0.2, 1.1), (None, 2.0, 2.0)])
def test_a8_batchnorm_moves_once(door, momentum, mean, var):
    bn = nn.BatchNorm1d(1, momentum=momentum)
    opt = sam(bn)

    def closure(batch):
        def run():
            opt.zero_grad()
            loss = (bn(batch) ** 2).sum()
            loss.backward()
            return loss

        return run

    def step(batch):
        if door == "closure":
            opt.step(closure(batch))
            return
        closure(batch)()
        with opt.perturbed():
            closure(batch)()
        opt.step()

    step(torch.tensor([[1.0], [3.0]]))
    assert bn.running_mean.item() == pytest.approx(mean, abs=1e-6)
    assert bn.running_var.item() == pytest.approx(var, abs=1e-6)
    assert bn.num_batches_tracked.item() == 1
    if momentum is None:
        step(torch.tensor([[5.0], [7.0]]))
        assert bn.running_mean.item() == pytest.approx(4.0, abs=1e-6)


def test_affine_parameters_get_the_gradients_of_the_second_pass():
    bn, x = nn.BatchNorm1d(1), torch.tensor([[1.0], [3.0]])
    opt = sam(bn)

    def backward():
        opt.zero_grad()
        (bn(x) ** 3).sum().backward()
        return bn.bias.grad.clone()

    first = backward()
    with opt.perturbed():
        second = backward()
    assert not torch.equal(first, second)
    assert torch.equal(bn.bias.grad, second)


class Rebinding(nn.Module):
    """A moving average that is replaced, not changed, and a buffer that starts as None."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("ema", torch.zeros(2))
        self.register_buffer("late", None)

    def forward(self, x):
        self.ema = 0.9 * self.ema + 0.1 * x.detach().mean(0)
        self.late = x.detach().clone()
        return x * self.weight


class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("wide", torch.zeros(1).expand(3))

    def forward(self, x):
        self._buffers["wide"][:1].add_(1.0)
        return x * self.weight


def tied():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    net[1].running_mean = net[0].running_mean
    return net


NETS = {
    "batchnorm": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)),
    "cumulative": lambda: nn.BatchNorm1d(3, momentum=None),
    "instancenorm": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
    "expanded": Expanded,
    "tied": tied,
}


@pytest.mark.parametrize("name", NETS)
def test_buffers_equal_those_of_one_clean_pass(name):
    net, x = NETS[name](), torch.randn(4, 3)
    x = x[..., None].repeat(1, 1, 2) if name == "instancenorm" else x
    alone = copy.deepcopy(net)
    opt = sam(net)
    opt.zero_grad()
    (net(x) ** 2).sum().backward()
    before = {k: (id(v), v.clone()) for k, v in net.named_buffers(remove_duplicate=False)}
    with opt.perturbed():
        (net(x) ** 2).sum().backward()
    alone(x)
    for k, v in net.named_buffers(remove_duplicate=False):
        assert id(v) == before[k][0], k
        assert torch.equal(v, before[k][1]), k
        assert torch.equal(v, dict(alone.named_buffers(remove_duplicate=False))[k]), k


def test_a_buffer_that_is_replaced_is_bound_again():
    net, x = Rebinding(), torch.ones(4, 2)
    opt = sam(net)
    net(x).sum().backward()
    ema, late = net.ema, net.late
    with opt.perturbed():
        net(2 * x).sum().backward()
    assert net.ema is ema
    assert net.late is late
    assert torch.equal(net.ema, torch.full((2,), 0.1))


def test_a_buffer_that_was_none_is_none_again():
    net = Rebinding()
    kept = Buffers(net)
    net(torch.ones(4, 2))
    kept.put_back()
    assert net.late is None


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_left_behind_by_an_exception(nested):
    net, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.randn(4, 3)
    opt = sam(net)
    net(x).sum().backward()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [module.training for module in net.modules()]

    def fail():
        net(x)
        if nested:
            with opt.perturbed():
                pass
        raise RuntimeError("out of memory")

    with pytest.raises((RuntimeError, sm.PhaseError)), opt.perturbed():
        fail()
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert net[1].momentum == 0.1
    net(x).sum().backward()
    with opt.perturbed():
        net(x).sum().backward()
    opt.step()
    assert opt.last.stepped


def test_the_filter_leaves_a_buffer_alone():
    net, x = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)), torch.randn(4, 3)
    opt = sam(net, buffers=lambda name, buffer: not name.startswith("1."))
    net(x).sum().backward()
    with opt.perturbed():
        net(x).sum().backward()
    assert [net[i].num_batches_tracked.item() for i in range(2)] == [1, 2]


def test_without_model_buffers_are_not_touched():
    bn, x = nn.BatchNorm1d(3), torch.randn(4, 3)
    opt = sm.SAM(torch.optim.SGD(bn.parameters(), lr=0.1), rho=0.1)
    bn(x).sum().backward()
    with opt.perturbed():
        bn(x).sum().backward()
    assert bn.num_batches_tracked.item() == 2


def test_a13_the_model_is_not_saved_while_it_is_perturbed():
    net, x = nn.Linear(3, 1), torch.randn(4, 3)
    parent = nn.Sequential(net)
    opt = sam(net)
    net(x).sum().backward()
    with opt.perturbed():
        for module in (net, parent):
            with pytest.raises(sm.PhaseError, match=r"model\.state_dict\(\)"):
                module.state_dict()
        net(x).sum().backward()
    assert set(net.state_dict()) == {"weight", "bias"}
    assert len(net._state_dict_pre_hooks) == 0


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_works_on_a_model_of_its_own(how):
    net, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.randn(4, 3)
    pair = (net, sam(net))
    twin, opt = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert opt.model is twin
    assert opt.param_groups[0]["params"][0] is twin[0].weight
    one_step(twin, x, opt)
    assert twin[1].num_batches_tracked.item() == 1
    assert net[1].num_batches_tracked.item() == 0
    one_step(*pair[:1], x, pair[1])
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))
