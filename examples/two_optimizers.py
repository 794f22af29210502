"""Two networks against each other, each with a SAM of its own: a small GAN on scikit-learn's digits."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import sharpmin as sm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

torch.manual_seed(0)
data = torch.tensor(load_digits().data).float() / 16
generator = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(64, 1))


def around(network):
    """A SAM that moves one network, and keeps its buffers."""
    return sm.SAM(torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999)), rho=0.02, model=network)


opt_generator, opt_critic = around(generator), around(critic)
loss_fn = nn.functional.binary_cross_entropy_with_logits


def judge(images, real):
    """The loss of the claim that all these images are real, or that none is."""
    logits = critic(images)
    return loss_fn(logits, torch.full_like(logits, float(real)))


for _ in range(args.steps):
    real, noise = data[torch.randint(len(data), (64,))], torch.randn(64, 8)
    with torch.no_grad():
        fake = generator(noise)

    def critic_closure(real=real, fake=fake):
        opt_critic.zero_grad()
        loss = judge(real, True) + judge(fake, False)
        loss.backward()
        return loss

    def generator_closure(noise=noise):
        opt_generator.zero_grad()
        loss = judge(generator(noise), True)  # leaves gradients in the critic, too: its own zero_grad clears them
        loss.backward()
        return loss

    critic_loss = opt_critic.step(critic_closure)
    generator_loss = opt_generator.step(generator_closure)

print(f"{args.steps} steps, critic {critic_loss.item():.3f}, generator {generator_loss.item():.3f}")
