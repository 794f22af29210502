"""Flat-LoRA against weights with noise that are set by hand, and what must come back or be refused."""

import copy
import math

import pytest
import torch
from tests.integrations.hf import Adapted as ByHand
from tests.integrations.language import adapted, gpt2, rows
from torch import nn

import sharpmin as sm
from sharpmin.integrations import Adapter, flat_lora, merged_weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT asks for it

SIGMA = 0.3


def layers(model):
    return [m for m in model.modules() if hasattr(m, "lora_A") and m.lora_A]


def set_noise_by_hand(model, sigma, seed):
    """W + eps in place of W, layer by layer; returns the W that were there."""
    found = layers(model)
    seeds = torch.randint(2**62, (len(found),), generator=torch.Generator().manual_seed(seed))
    was = []
    for layer, own in zip(found, seeds.tolist(), strict=True):
        weight, b, a = layer.base_layer.weight, layer.lora_B["default"].weight, layer.lora_A["default"].weight
        was.append((weight, weight.detach().clone()))
        with torch.no_grad():
            w = weight.T if layer.fan_in_fan_out else weight
            whole = w + layer.scaling["default"] * (b @ a)
            z = torch.randn(w.shape, generator=torch.Generator().manual_seed(own))
            w.copy_(w + z * (sigma * (whole.norm(dim=1, keepdim=True) / math.sqrt(w.shape[1]))))
    return was


def batch(count=4):
    some, _ = rows(count)
    return {key: torch.stack([row[key] for row in some]) for key in some[0]}


def gradients(model):
    model.zero_grad()
    loss = model(**batch()).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def bits(model):
    return {name: t.detach().numpy().tobytes() for name, t in model.state_dict().items()}


@pytest.mark.parametrize(("kind", "tolerance"), [("llama", 0.0), ("gpt2", 1e-6)])
@pytest.mark.parametrize("bias", ["none", "lora_only"])
def test_the_pass_is_that_at_noisy_weights(kind, tolerance, bias):
    """Bit for bit for linear layers; GPT-2's own multiply in another order."""
    model = adapted(kind, bias=bias).eval()
    hand = copy.deepcopy(model)
    before = bits(model)
    with flat_lora(model, SIGMA, seed=7):
        loss, found = gradients(model)
    assert bits(model) == before
    clean, _ = gradients(copy.deepcopy(model))
    set_noise_by_hand(hand, SIGMA, 7)
    wanted_loss, wanted = gradients(hand)
    assert loss == pytest.approx(wanted_loss, abs=tolerance)
    assert abs(loss - clean) > 1e-4
    assert found.keys() == wanted.keys()
    for name, g in wanted.items():
        assert (found[name] - g).abs().max().item() <= tolerance, name


def test_adding_and_subtracting_would_not_bring_the_weights_back():
    """Why the block never writes to them."""
    model = adapted("llama")
    was = set_noise_by_hand(model, SIGMA, 7)
    noise = [weight.detach() - w for weight, w in was]
    assert not all(torch.equal(weight - e, w) for (weight, w), e in zip(was, noise, strict=True))


def test_rows_of_the_noise_are_as_long_as_those_of_the_merged_weight():
    n = 4096
    layer = nn.Linear(n, 3, bias=False).requires_grad_(False)
    a, b = torch.randn(2, n), torch.tensor([[1.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    with flat_lora([Adapter(layer, a, b, scale=2.0)], SIGMA, seed=1):
        eps = layer.forward.weight() - layer.weight
    whole = layer.weight + 2.0 * b @ a
    assert (eps.norm(dim=1) / whole.norm(dim=1)).tolist() == pytest.approx([SIGMA] * 3, rel=0.05)


def test_a_seed_is_a_noise():
    model = adapted("llama").eval()

    def loss(seed):
        with flat_lora(model, SIGMA, seed=seed), torch.no_grad():
            return model(**batch()).loss.item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    state = torch.get_rng_state()
    loss(3)
    assert torch.equal(state, torch.get_rng_state())


def test_layers_by_hand():
    torch.manual_seed(0)
    mine, x = ByHand(nn.Linear(5, 3)), torch.randn(4, 5)
    nn.init.normal_(mine.b)
    adapter = Adapter(mine.frozen, mine.a, mine.b)
    with flat_lora([adapter], SIGMA, seed=3):
        (mine(x) ** 2).sum().backward()
    own = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(3)).item()
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(own))
    w, a, b = mine.frozen.weight, mine.a.detach().requires_grad_(), mine.b.detach().requires_grad_()
    scale = SIGMA / math.sqrt(5) * (w + b @ a).detach().norm(dim=1, keepdim=True)
    (((x @ (w + scale * z).T + mine.frozen.bias + x @ a.T @ b.T) ** 2).sum()).backward()
    torch.testing.assert_close(mine.a.grad, a.grad)
    torch.testing.assert_close(mine.b.grad, b.grad)


def test_the_backward_pass_has_the_noise_of_the_forward_pass_also_outside():
    model = adapted("llama").eval()
    with flat_lora(model, SIGMA, seed=7):
        _, inside = gradients(model)
        inside = {name: g.clone() for name, g in inside.items()}
    with flat_lora(model, SIGMA, seed=7):
        loss = model(**batch()).loss
    model.zero_grad()
    loss.backward()
    assert all(torch.equal(inside[name], p.grad) for name, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(error):
    model = adapted("llama").eval()
    before, (loss, _) = bits(model), gradients(model)
    with pytest.raises(error), flat_lora(model, SIGMA, seed=7):  # noqa: PT012
        model(**batch())
        raise error
    assert bits(model) == before
    assert gradients(model)[0] == loss
    assert all("forward" not in vars(m) for m in model.modules())


def test_autocast():
    model = adapted("llama").eval()
    with torch.autocast("cpu", torch.bfloat16), flat_lora(model, SIGMA, seed=7):
        loss = model(**batch()).loss
    loss.backward()
    with flat_lora(model, SIGMA, seed=7), torch.no_grad():
        assert loss.item() == pytest.approx(model(**batch()).loss.item(), rel=1e-2)


def test_half_precision_weights_are_rounded_once():
    layer = nn.Linear(64, 8, bias=False).to(torch.bfloat16).requires_grad_(False)
    a, b = torch.zeros(1, 64, dtype=torch.bfloat16), torch.zeros(8, 1, dtype=torch.bfloat16)
    with flat_lora([Adapter(layer, a, b)], 0.001, seed=3):
        noisy = layer.forward.weight()
    own = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(3)).item()
    z = torch.randn(8, 64, generator=torch.Generator().manual_seed(own))
    w = layer.weight.float()
    assert torch.equal(noisy, (w + z * (0.001 * (w.norm(dim=1, keepdim=True) / 8))).bfloat16())


def test_at_zero_it_is_no_noise():
    model = adapted("llama").eval()
    loss, _ = gradients(model)
    with flat_lora(model, 0.0, seed=7):
        assert gradients(model)[0] == loss


def test_around_both_passes_of_sam():
    """The same noise in both: SAM of the loss with noise."""
    model = adapted("llama").eval()
    hand = copy.deepcopy(model)
    opt, other = (
        sm.SAM(torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1), rho=0.1) for m in (model, hand)
    )
    with flat_lora(model, SIGMA, seed=7):
        both_passes(opt, model)
    was = set_noise_by_hand(hand, SIGMA, 7)
    both_passes(other, hand)
    for weight, w in was:
        weight.data.copy_(w)
    opt.step()
    other.step()
    assert bits(model) == bits(hand)


def both_passes(opt, model):
    for block in (opt.clean, opt.perturbed):
        with block():
            model(**batch()).loss.backward()


def test_merged_weights_are_those_of_peft():
    for kind in ("llama", "gpt2"):
        model = adapted(kind)
        found = merged_weights(model)
        assert len(found) == len(layers(model))
        names = {name.removesuffix(".base_layer") for name, _ in model.named_modules()}
        assert found.keys() <= names
        model.merge_adapter()
        for layer, whole in zip(layers(model), found.values(), strict=True):
            w = layer.base_layer.weight
            torch.testing.assert_close(w.T if kind == "gpt2" else w, whole)


def test_two_adapters_of_a_layer_add_up():
    layer = nn.Linear(3, 2)
    a, b = torch.randn(1, 3), torch.randn(2, 1)
    (whole,) = merged_weights([Adapter(layer, a, b), Adapter(layer, a, b, scale=2.0)]).values()
    torch.testing.assert_close(whole, layer.weight + 3 * b @ a)


def test_what_sam_on_the_adapter_does_to_the_merged_weight():
    """(B + e_B)(A + e_A) - B A, of rank 2 r at most; at B = 0 e_A is 0, and the rank r."""
    for moved, rank in ((False, 2), (True, 4)):
        model = adapted("llama", moved=moved).eval()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        opt = sm.SAM(torch.optim.SGD(trained.values(), lr=0.1), rho=0.5)
        model(**batch()).loss.backward()
        before, was = merged_weights(model), {name: p.detach().clone() for name, p in trained.items()}
        with opt.perturbed():
            after = merged_weights(model)
            e = {name: p.detach() - was[name] for name, p in trained.items()}
            model(**batch()).loss.backward()
        for name, whole in after.items():
            a, b = (was[f"{name}.lora_{part}.default.weight"].double() for part in "AB")
            e_a, e_b = (e[f"{name}.lora_{part}.default.weight"].double() for part in "AB")
            move = whole.double() - before[name].double()
            torch.testing.assert_close(move, 2.0 * (e_b @ a + b @ e_a + e_b @ e_a), rtol=1e-4, atol=1e-6)
            assert torch.linalg.matrix_rank(move, rtol=1e-4) == rank
            assert (e_a.abs().max() == 0) == (not moved)


def dora():
    return adapted("llama", use_dora=True)


def merged_already():
    model = adapted("llama")
    model.merge_adapter()
    return model


def trained_base():
    model = adapted("llama")
    model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj").base_layer.weight.requires_grad_(True)
    return model


def embedding():
    return adapted("llama", target_modules=["embed_tokens"])


def convolution():
    import peft

    return peft.get_peft_model(nn.Sequential(nn.Conv2d(3, 4, 3)), peft.LoraConfig(r=1, target_modules=["0"]))


REFUSED = {
    "no adapters": (gpt2, ValueError, "no layer has an active LoRA adapter"),
    "no model": (lambda: 3, TypeError, "model=int"),
    "an empty list": (list, ValueError, "no layer has"),
    "DoRA": (dora, TypeError, "Dora.*not W \\+ s B A"),
    "merged": (merged_already, ValueError, "unmerge_adapter"),
    "an embedding": (embedding, TypeError, "adapts an embedding"),
    "a convolution": (convolution, TypeError, "layer 'base_model.model.0'.*Conv2d"),
    "a trained weight": (trained_base, ValueError, "q_proj' is trained itself; freeze it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_are_refused(name):
    make, error, match = REFUSED[name]
    model = make()
    with pytest.raises(error, match=match), flat_lora(model, SIGMA, seed=0):
        pass
    if name != "a trained weight":
        with pytest.raises(error, match=match):
            merged_weights(model)


def test_disabled_adapters_are_refused():
    model = adapted("llama")
    with model.disable_adapter(), pytest.raises(ValueError, match="disabled"), flat_lora(model, SIGMA, seed=0):
        pass


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"sigma": -1.0}, ValueError, "sigma=-1.0"),
        ({"sigma": "1"}, TypeError, "sigma='1'"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": None}, ValueError, "seed=None"),
        ({"seed": True}, ValueError, "seed=True"),
    ],
)
def test_numbers_that_are_refused(keywords, error, match):
    with pytest.raises(error, match=match), flat_lora(adapted("llama"), **{"sigma": 0.1, "seed": 0, **keywords}):
        pass


def test_blocks_are_not_nested():
    model = adapted("llama")
    with flat_lora(model, SIGMA, seed=0):
        inner = flat_lora(model, SIGMA, seed=1)
        with pytest.raises(sm.PhaseError, match="cannot be nested"):
            inner.__enter__()
        assert all("forward" in vars(layer.base_layer) for layer in layers(model))
