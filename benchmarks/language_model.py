"""AdamW, SAM and Functional SAM on a small character-level transformer: held-out loss, and the shares of both paths.

    python benchmarks/language_model.py [--steps 300] [--seeds 3]

About fifteen minutes on one idle core. The text is Python's own documentation; its last tenth is held out. Needs
`pip install 'sharpmin[transformers]'`.
"""

from __future__ import annotations

import argparse
import statistics
from pydoc_data.topics import topics

import torch
import transformers

import sharpmin as sm
from sharpmin.diagnostics import path_shares

LENGTH, BATCH, LR = 64, 16, 3e-3
TEXT = "".join(topics[name] for name in sorted(topics))
ALPHABET = {c: i for i, c in enumerate(sorted(set(TEXT)))}
TOKENS = torch.tensor([ALPHABET[c] for c in TEXT])
CUT = len(TOKENS) * 9 // 10
HELD_OUT = TOKENS[CUT : CUT + 256 * LENGTH].view(256, LENGTH)


def loss_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy over predicted characters."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def made(seed: int) -> torch.nn.Module:
    """A transformer with two layers of width 32."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": len(ALPHABET), "n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 2}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": None, "eos_token_id": None}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **dropout))


def train(seed: int, method: str, rho: float, steps: int) -> torch.nn.Module:
    """Train with one method; the batches depend on the seed only."""
    model, batches = made(seed), torch.Generator().manual_seed(seed)
    opt = sm.SAM(torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1), rho=rho)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, LR, steps, cycle_momentum=False)
    loss_fn = sm.FunctionalLoss(opt, loss_of) if method == "functional" else loss_of
    for _ in range(steps):
        begin = torch.randint(CUT - LENGTH, (BATCH,), generator=batches)
        x = torch.stack([TOKENS[i : i + LENGTH] for i in begin.tolist()])
        opt.zero_grad()
        with opt.clean():
            loss_fn(model(x).logits, x).backward()
        if opt.needs_second_pass:
            with opt.perturbed():
                loss_fn(model(x).logits, x).backward()
        opt.step()
        schedule.step()
    return model.eval()


def held_out(model: torch.nn.Module) -> float:
    """The loss on the held-out text."""
    with torch.no_grad():
        return loss_of(model(HELD_OUT).logits, HELD_OUT).item()


def main() -> None:
    """Print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    probe = [(HELD_OUT[:64], HELD_OUT[:64])]
    start = [path_shares(made(seed), loss_of, probe, rho=0.05).logit for seed in range(args.seeds)]
    print(f"share of the logit path at the start, rho 0.05: {statistics.mean(start):.2f}")
    cells = [("adamw", 0.0, 1), ("adamw", 0.0, 2)]
    cells += [(method, rho, 1) for rho in (0.01, 0.05) for method in ("sam", "functional")]
    reference: list[float] = []
    for method, rho, times in cells:
        models = [train(seed, method, rho, times * args.steps) for seed in range(args.seeds)]
        losses = [held_out(model) for model in models]
        reference = reference or losses
        apart = [loss - base for loss, base in zip(losses, reference, strict=True)]
        share = statistics.mean(path_shares(model, loss_of, probe, rho=rho or 0.05).logit for model in models)
        spread = statistics.stdev(apart) if len(apart) > 1 else 0.0
        print(
            f"{method:10} rho {rho:<4} steps {times * args.steps:4}  held-out {statistics.mean(losses):.4f}  "
            f"against adamw {statistics.mean(apart):+.4f} (sd {spread:.4f})  logit share at rho {rho or 0.05} {share:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
