"""Both ends of the Hessian spectrum and its trace against dense Hessians; models without second derivatives."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpmin import diagnostics
from sharpmin.diagnostics import hessian_trace
from sharpmin.diagnostics._lanczos import end, size

hessian_spectrum = partial(diagnostics.hessian_spectrum, tol=1e-5)


def dense(model, loss_fn, x, y):
    """The Hessian by torch.autograd.functional, on one vector of all trainable weights."""
    named = {k: p for k, p in model.named_parameters() if p.requires_grad}
    shapes = [p.shape for p in named.values()]

    def loss(flat):
        parts = torch.split(flat, [s.numel() for s in shapes])
        weights = {k: part.view(s) for k, part, s in zip(named, parts, shapes, strict=True)}
        return loss_fn(functional_call(model, weights, (x,)), y)

    model.eval()
    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in named.values()])).numpy()


def net(width=8, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2)).double()


def samples(n=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64), torch.arange(n) % 2


def batches(sizes):
    x, y = samples(sum(sizes))
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


@pytest.mark.parametrize("width", [3, 8, 20])  # 17 weights: all of H is built; 50 and 122: Lanczos
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sizes", [[10], [4, 4, 2], [1, 9]])
def test_both_ends(width, k, sizes):
    h = dense(net(width), F.cross_entropy, *samples())
    values = np.linalg.eigvalsh(h)
    found = hessian_spectrum(net(width), F.cross_entropy, batches(sizes), k=k, vectors=True)
    assert np.allclose(found.largest, values[::-1][:k], rtol=0, atol=1e-6)
    assert np.allclose(found.smallest, values[:k], rtol=0, atol=1e-6)
    assert found.smallest[0] < 0
    assert found.method == "autograd"
    ends = [(found.largest, found.largest_residuals, found.largest_vectors)]
    ends.append((found.smallest, found.smallest_residuals, found.smallest_vectors))
    for eigenvalues, residuals, vectors in ends:
        assert max(residuals) <= 1e-5 * np.abs(values).max()
        for value, residual, vector in zip(eigenvalues, residuals, vectors, strict=True):
            assert [t.shape for t in vector] == [p.shape for p in net(width).parameters()]
            v = torch.cat([t.flatten() for t in vector]).numpy()
            assert np.linalg.norm(v) == pytest.approx(1, rel=1e-9)
            assert np.linalg.norm(h @ v - value * v) == pytest.approx(residual, abs=1e-12)


def test_one_end_alone_costs_less():
    both, top, bottom = (
        hessian_spectrum(net(), F.cross_entropy, batches([10]), which=w) for w in ("both", "largest", "smallest")
    )
    assert (top.largest, bottom.smallest) == (both.largest, both.smallest)
    assert (top.smallest, top.smallest_residuals, bottom.largest, bottom.largest_vectors) == ((), (), (), ())
    assert max(top.products, bottom.products) < both.products


def test_frozen_weights_are_left_out():
    model = net()
    model[0].requires_grad_(False)
    values = np.linalg.eigvalsh(dense(model, F.cross_entropy, *samples()))
    found = hessian_spectrum(model, F.cross_entropy, batches([10]), k=len(values))
    assert np.allclose(found.smallest, values, rtol=0, atol=1e-12)
    assert found.largest == found.smallest[::-1]


class Product(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (x, y))

    def forward(self, ones):
        return self.x * self.y * ones


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 1.0), (2.0, 0.5), (0.3, -0.2)])
def test_the_product_has_the_eigenvalues_of_its_two_by_two_hessian(x, y):
    ones = torch.ones(3, dtype=torch.float64)
    found = hessian_spectrum(Product(x, y), F.mse_loss, [(ones, ones)])
    want = np.linalg.eigvalsh([[2 * y * y, 4 * x * y - 2], [4 * x * y - 2, 2 * x * x]])
    assert (found.smallest[0], found.largest[0]) == pytest.approx(tuple(want), abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1, 1, 200),
        np.r_[np.zeros(190), np.linspace(1, 5, 10)],  # singular, as at a minimum of an overparametrised net
        -np.linspace(1, 2, 200),
        np.full(200, -3.0),
        np.zeros(200),
        1e-9 * np.linspace(-1, 3, 200),
        np.r_[-1e-4, np.linspace(0, 1e-5, 198), 1e3],
    ],
    ids=["both signs", "singular", "concave", "multiple", "zero", "tiny", "ill-conditioned"],
)
def test_lanczos_reaches_its_residual_at_both_ends(values):
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    h = q @ np.diag(values) @ q.T
    start, scale = rng.standard_normal(200), np.abs(values).max()
    for sign, want in ((1, values.max()), (-1, values.min())):
        v = end(h.__matmul__, start, 1, sign, size(h.__matmul__, start), 1e-5, 5000)[:, 0]
        assert np.linalg.norm(h @ v - (v @ h @ v) * v) <= 1e-5 * scale + 1e-15
        assert v @ h @ v == pytest.approx(want, abs=1e-5 * scale + 1e-15)


@pytest.mark.parametrize("power", [3, 6, 12])
def test_eigenvalues_that_crowd_at_0_are_found_within_the_residual(power):
    """Relative to itself, no eigenvalue there is found, not with 5000 products; relative to the largest, within 300."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    h, start = q @ np.diag(np.linspace(0, 1, 200) ** power) @ q.T, rng.standard_normal(200)
    v = end(h.__matmul__, start, 1, -1, size(h.__matmul__, start), 1e-3, 300)[:, 0]
    assert np.linalg.norm(h @ v - (v @ h @ v) * v) <= 1e-3


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(40, 1).double()
    data = [(torch.ones(4, 40, dtype=torch.float64), torch.zeros(4))]
    found = hessian_spectrum(model, lambda p, _: p.mean(), data)
    assert (found.largest, found.smallest, found.method) == ((0.0,), (0.0,), "autograd")


def test_float32_is_summed_in_float64():
    h = dense(net(20), F.cross_entropy, *samples())
    data = [(x.float(), y) for x, y in batches([1] * 10)]
    found = hessian_spectrum(net(20).float(), F.cross_entropy, data)
    assert (found.smallest[0], found.largest[0]) == pytest.approx(tuple(np.linalg.eigvalsh(h)[[0, -1]]), abs=1e-6)


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


@pytest.mark.parametrize("sizes", [[10], [4, 4, 2]])
def test_the_trace_is_within_its_error_bar(sizes):
    h = dense(net(), F.cross_entropy, *samples())
    found = [hessian_trace(net(), F.cross_entropy, batches(sizes), probes=24, seed=s) for s in range(8)]
    errors = [(t.value - h.trace()) / t.standard_error for t in found]
    assert max(map(abs, errors)) < 4
    spread = (2 * (np.square(h).sum() - np.square(np.diag(h)).sum()) / 24) ** 0.5
    assert np.mean([t.standard_error for t in found]) == pytest.approx(spread, rel=0.25)


def test_the_trace_of_a_diagonal_hessian_is_exact():
    curvatures = torch.linspace(-1, 3, 7, dtype=torch.float64)
    model = nn.Linear(7, 1, bias=False).double()
    found = hessian_trace(
        model,
        lambda p, _: (curvatures * model.weight[0] ** 2).sum() / 2 + p.mean(),
        [(torch.ones(2, 7).double(), torch.ones(2))],
    )
    assert found.value == pytest.approx(7.0, rel=1e-14)
    assert found.standard_error <= 1e-14
