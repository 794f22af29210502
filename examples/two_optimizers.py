"""Two networks against each other, each with a SAM of its own: a small GAN that draws scikit-learn's digits.

pip install sharpmin scikit-learn
python examples/two_optimizers.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

torch.manual_seed(0)
images = torch.tensor(load_digits().data).float() / 16
generator = nn.Sequential(nn.Linear(8, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(64, 1))


def sam(network):
    """A SAM for the weights of one network; its buffers are updated once per step."""
    return sm.SAM(torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999)), rho=0.02, model=network)


opt_generator, opt_critic = sam(generator), sam(critic)


def judged(pictures, real):
    """The critic's loss for these pictures with the label real, or not real."""
    logits = critic(pictures)
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def step_critic(real, fake):
    """A step of the critic, which learns to tell drawings from digits."""

    def closure():
        opt_critic.zero_grad()
        loss = judged(real, True) + judged(fake, False)
        loss.backward()
        return loss

    return opt_critic.step(closure)


def step_generator(noise):
    """A step of the generator; the gradients that it leaves in the critic are cleared by the critic's zero_grad."""

    def closure():
        opt_generator.zero_grad()
        loss = judged(generator(noise), True)
        loss.backward()
        return loss

    return opt_generator.step(closure)


for _ in range(args.steps):
    real, noise = images[torch.randint(len(images), (64,))], torch.randn(64, 8)
    with torch.no_grad():
        fake = generator(noise)
    critic_loss, generator_loss = step_critic(real, fake), step_generator(noise)

radii = f"{opt_critic.last.radius:.3f} and {opt_generator.last.radius:.3f}"
losses = f"{critic_loss.item():.3f} and {generator_loss.item():.3f}"
print(f"{args.steps} steps; of critic and generator: losses {losses}, radii {radii}")
