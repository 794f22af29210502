"""What a user writes with SAM alone, and what its type checker must see at once."""

from typing import reveal_type

import torch

import sharpmin as sm

net, head = torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)
base = torch.optim.SGD(net.parameters(), lr=0.1)
opt = sm.SAM(base, rho=0.1, model=net, scope="microbatch", rounding="stochastic", geometry=sm.Elementwise())
scaler = torch.amp.GradScaler("cpu")


def closure() -> torch.Tensor:
    opt.zero_grad()
    loss: torch.Tensor = net(torch.ones(2)).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    return loss


def number() -> float:
    return closure().item()


reveal_type(opt.step(closure))  # R: torch._tensor.Tensor
reveal_type(opt.step(number))  # R: float
opt.step()
with opt.clean():
    closure()
with opt.perturbed(scaler):
    closure()
scaler.step(opt)
with opt.perturbed() as nothing:
    reveal_type(nothing)  # R: None
opt.first_step(zero_grad=True)
opt.second_step()

opt.rho = 0.1
opt.rho = sm.rho.Cosine(0.1, steps=10)
opt.rho = sm.rho.Tail(0.1, start=0.1, total=100)
opt.rho = sm.rho.Ramp(0.1, start=0.1, stop=0.2, total=100)
opt.rho = sm.rho.Until(0.1, stop=3)
opt.ascent = sm.Ema(0.9)
reveal_type(opt.last)  # R: sharpmin.optim._effects.report.StepReport
reveal_type(opt.last.radius)  # R: float
reveal_type(opt.last.stepped)  # R: bool
reveal_type(opt.needs_second_pass)  # R: bool
reveal_type(opt.base)  # R: torch.optim.optimizer.Optimizer
reveal_type(opt.model)  # R: torch.nn.modules.module.Module | None
reveal_type(sm.asam(base, rho=0.5))  # R: sharpmin.optim.sam.SAM
sm.SAM([base, torch.optim.Adam(head.parameters())], rho=0.1)
torch.optim.lr_scheduler.StepLR(opt, 1)

sm.SAM(base, scope="rnak")  # E: arg-type
sm.SAM(base, rounding="up")  # E: arg-type
sm.SAM(base, adaptive=True)  # E: call-arg
sm.SAM(base, rho="big")  # E: arg-type
sm.SAM(net.parameters(), torch.optim.SGD)  # E: arg-type arg-type
sm.SAM(base, geometry=sm.Ema())  # E: arg-type
opt.rho = "big"  # E: assignment
opt.scope = "rnak"  # E: assignment
opt.preturbed()  # E: attr-defined
wrong = opt.last.radios  # E: attr-defined
sm.SMA(base)  # E: attr-defined
opt.base = base.state  # E: assignment
sm.asam(base, scope="rnak")  # E: arg-type
