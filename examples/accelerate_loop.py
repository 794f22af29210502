"""An Accelerate loop with SAM and gradient accumulation, on the handwritten digits of scikit-learn.

pip install 'sharpmin[accelerate]' scikit-learn
python examples/accelerate_loop.py --steps 200
accelerate launch examples/accelerate_loop.py                    # on several devices, unchanged
"""

import argparse
import itertools

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpmin as sm
from sharpmin.integrations import SAMBackward


def digits():
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    return TensorDataset(x[:1500], y[:1500]), (x[1500:], y[1500:])


def loss_fn(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def main(steps):
    torch.manual_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2)
    train, (x, y) = digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    opt = sm.SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model)
    loader = DataLoader(train, batch_size=32, shuffle=True, drop_last=True)
    model, prepared, loader = accelerator.prepare(model, opt, loader)
    backward = SAMBackward(accelerator, prepared, model, loss_fn)

    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    for batch in itertools.islice(epochs, 2 * steps):
        with accelerator.accumulate(model):
            backward(batch)  # instead of loss = loss_fn(model, batch); accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            prepared.step()
            prepared.zero_grad()

    model.eval()
    with torch.no_grad():
        accuracy = (model(x.to(accelerator.device)).argmax(1).cpu() == y).float().mean().item()
    accelerator.print(f"{opt.param_groups[0]['sharpmin_step']} steps, accuracy {accuracy:.3f}, radius {opt.last.radius:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
