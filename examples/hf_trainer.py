"""SAM in the Hugging Face Trainer: a small vision transformer, made from a configuration, learns scikit-learn's digits.

pip install 'sharpmin[transformers]' scikit-learn
python examples/hf_trainer.py
"""

import argparse
import tempfile

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

from sharpmin.integrations import SAMTrainerMixin

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()


class SAMTrainer(SAMTrainerMixin, Trainer):
    """The whole change."""


set_seed(0)
images, labels = load_digits(return_X_y=True)
pixels = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
rows = [{"pixel_values": image, "labels": int(label)} for image, label in zip(pixels, labels, strict=True)]

config = ViTConfig(
    image_size=8,
    patch_size=4,
    num_channels=1,
    num_labels=10,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=64,
    hidden_dropout_prob=0.1,
)
model = ViTForImageClassification(config)


def accuracy(predicted):
    """The share of images that are classified correctly."""
    return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}


with tempfile.TemporaryDirectory() as folder:
    trainer = SAMTrainer(
        model,
        TrainingArguments(
            folder,
            max_steps=args.steps,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=2,
            learning_rate=5e-3,
            max_grad_norm=1.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows[:1500],
        eval_dataset=rows[1500:],
        compute_metrics=accuracy,
        sam={"rho": 0.05},
    )
    trainer.train()
    metrics = trainer.evaluate()

print(f"{args.steps} steps, test accuracy {metrics['eval_accuracy']:.3f}, radius {trainer.sam.last.radius:.4f}")
