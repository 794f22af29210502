"""Hessian-vector products of models whose second derivatives are hard to come by, or not there at all."""

from functools import partial

import numpy as np
import pytest
import torch
from tests.diagnostics.hessians import batches, dense, net, samples
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpmin import diagnostics
from sharpmin.diagnostics import hessian_trace

hessian_spectrum = partial(diagnostics.hessian_spectrum, tol=1e-5)


def attention(kind):
    torch.manual_seed(0)
    if kind in ("mha", "sdpa", "flash"):
        return Mixed(kind).double()
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.3, batch_first=True, norm_first=kind == "norm first")
    if kind == "encoder":
        layer = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return layer.double()


class Mixed(nn.Module):
    """Self-attention: by the module, by the function, or in a kernel that the model chose and that has one derivative."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.mha = nn.MultiheadAttention(4, 2, batch_first=True, dropout=0.3)

    def forward(self, x):
        if self.kind == "mha":
            return x + self.mha(x, x, x, need_weights=False)[0]
        q, k, v = F.linear(x, self.mha.in_proj_weight, self.mha.in_proj_bias).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        with sdpa_kernel(SDPBackend.MATH if self.kind == "sdpa" else SDPBackend.FLASH_ATTENTION):
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.mha.out_proj(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("kind", ["mha", "sdpa", "flash", "post norm", "norm first", "encoder"])
def test_attention(kind):
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(5, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    plain = attention("sdpa" if kind == "flash" else kind)
    values = np.linalg.eigvalsh(dense(plain, F.mse_loss, x, y))
    found = hessian_spectrum(attention(kind), F.mse_loss, [(x[:3], y[:3]), (x[3:], y[3:])])
    assert (found.smallest[0], found.largest[0]) == pytest.approx((values[0], values[-1]), abs=1e-6)
    assert found.method == ("finite differences" if kind == "flash" else "autograd")


def test_attention_in_evaluation_mode_with_padding_and_a_frozen_first_layer():
    """Without a word to torch the encoder would take a path for inference, on nested tensors."""

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(attention("post norm"), 2)
            self.encoder.layers[0].requires_grad_(False)

        def forward(self, x):
            padding = torch.zeros(x.shape[:2], dtype=torch.bool)
            padding[0, -1] = True
            return self.encoder(x, src_key_padding_mask=padding)

    x, y = (torch.randn(5, 3, 4, dtype=torch.float64) for _ in range(2))
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        values = np.linalg.eigvalsh(dense(Padded(), F.mse_loss, x, y))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    found = hessian_spectrum(Padded(), F.mse_loss, [(x, y)])
    assert (found.smallest[0], found.largest[0]) == pytest.approx((values[0], values[-1]), abs=1e-6)


def test_compiled_models():
    model = net(20).float()
    x, y = samples()
    plain = hessian_spectrum(model, F.cross_entropy, [(x.float(), y)])
    found = hessian_spectrum(torch.compile(model, backend="aot_eager"), F.cross_entropy, [(x.float(), y)])
    ends = np.array([found.smallest[0], found.largest[0]])
    assert np.allclose(ends, (plain.smallest[0], plain.largest[0]), rtol=0, atol=1e-3 * plain.largest[0])
    assert (plain.method, found.method) == ("autograd", "finite differences")


class CubeOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class Cube(nn.Module):
    def __init__(self, before=torch.tanh):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(0.5, 1.5, 3, dtype=torch.float64))
        self.before = before

    def forward(self, ones):
        return CubeOnce.apply(self.before(self.w)).sum() * ones


@pytest.mark.parametrize("loss", [lambda p, _: p.mean(), F.mse_loss], ids=["linear", "square"])
@pytest.mark.parametrize("before", [torch.tanh, lambda w: w], ids=["tanh", "itself"])
def test_differences_stand_in_for_a_function_that_hides_its_second_derivative(loss, before):
    """Autograd itself gives 0 here, or a part, and no error."""
    ones = torch.ones(4, dtype=torch.float64)
    w = Cube().w.detach()
    want = torch.autograd.functional.hessian(lambda w: loss((before(w) ** 3).sum() * ones, 2 * ones), w)
    found = hessian_spectrum(Cube(before), loss, [(ones, 2 * ones)], k=3)
    assert np.allclose(found.smallest, np.linalg.eigvalsh(want.numpy()), rtol=0, atol=1e-7)
    assert found.method == "finite differences"
    trace = hessian_trace(Cube(before), loss, [(ones, 2 * ones)], probes=64)
    assert trace.method == "finite differences"
    assert abs(trace.value - want.trace().item()) <= 4 * trace.standard_error + 1e-6


def test_differences_are_as_good_among_large_weights():
    """The step must not grow with the norm of all weights: here it would be 0.06, and the error 0.01."""

    class Among(Cube):
        def __init__(self):
            super().__init__()
            self.large = nn.Parameter(torch.full((4,), 5e3, dtype=torch.float64))

        def forward(self, ones):
            return super().forward(ones) + 0 * self.large.sum()

    ones = torch.ones(4, dtype=torch.float64)
    alone, among = (hessian_spectrum(model(), F.mse_loss, [(ones, 2 * ones)]) for model in (Cube, Among))
    assert among.largest[0] == pytest.approx(alone.largest[0], rel=1e-6)


def test_differences_in_float32_and_not_below():
    data = [(torch.ones(4), 2 * torch.ones(4))]
    exact = hessian_spectrum(Cube(), F.mse_loss, [(x.double(), y.double()) for x, y in data], k=3)
    single = hessian_spectrum(Cube().float(), F.mse_loss, data, k=3)
    assert np.allclose(single.largest, exact.largest, rtol=0, atol=2e-3 * exact.largest[0])
    with pytest.raises(ValueError, match=r"hessian_spectrum: .*probe a float32 copy"):
        hessian_spectrum(Cube().bfloat16(), F.mse_loss, [(x.bfloat16(), y.bfloat16()) for x, y in data])


def test_other_errors_go_through():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        hessian_spectrum(net(), lambda p, y: F.cross_entropy(Broken.apply(p), y), batches([4]))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_recurrent_nets(cell):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cell = cell(2, 3, batch_first=True).double()

        def forward(self, x):
            return self.cell(x)[0][:, -1]

    x, y = torch.randn(4, 5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    values = np.linalg.eigvalsh(dense(Last(), F.mse_loss, x, y))
    found = hessian_spectrum(Last(), F.mse_loss, [(x, y)])
    assert (found.smallest[0], found.largest[0]) == pytest.approx((values[0], values[-1]), abs=1e-6)


def test_sparse_gradients_count():
    def one(sparse):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(7, 3, sparse=sparse), nn.Flatten(), nn.Linear(6, 2)).double()

    data = [(torch.tensor([[0, 3], [3, 3], [6, 1]]), torch.tensor([0, 1, 1]))]
    plain, sparse = (hessian_spectrum(one(s), F.cross_entropy, data, k=2) for s in (False, True))
    assert np.allclose(sparse.largest + sparse.smallest, plain.largest + plain.smallest, rtol=0, atol=1e-6)
