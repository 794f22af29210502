"""What the tests of the Trainer share: tiny models from configurations, generated data, and the same run written out."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import sharpmin as sm
from sharpmin.integrations import SAMTrainerMixin


class SAMTrainer(SAMTrainerMixin, Trainer):
    """What users write."""


class Net(nn.Module):
    """BatchNorm and dropout: what two passes can disturb. Counts its training forwards."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3)
        )

    def forward(self, x, labels=None):
        logits = self.body(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def bert():
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes | {"num_labels": 3}))


def llama(tied=False):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.LlamaConfig(**sizes, attention_dropout=0.2, tie_word_embeddings=tied, pad_token_id=0)
    return transformers.LlamaForCausalLM(config)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter B A, where B = 0 at first."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.frozen = layer.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, layer.in_features))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.frozen(x) + x @ self.a.T @ self.b.T


def lora():
    """Adapters in a frozen transformer; its embeddings, which are also its last layer, train."""
    model = llama(tied=True).requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    for layer in model.model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(layer.self_attn, name, Adapted(getattr(layer.self_attn, name)))
    return model


MODELS = {"net": Net, "bert": bert, "llama": llama, "tied": lambda: llama(tied=True), "lora": lora}


def data(kind, count):
    rng = torch.Generator().manual_seed(1)
    if kind == "net":
        x, y = torch.randn(count, 6, generator=rng), torch.randint(3, (count,), generator=rng)
        return [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    tokens = torch.randint(1, 20, (count, 5), generator=rng)
    labels = torch.randint(3, (count,), generator=rng) if kind == "bert" else tokens.clone()
    if kind != "bert":
        labels[::3, 3:] = -100  # micro-batches of unequal weight
    return [{"input_ids": a, "labels": b} for a, b in zip(tokens, labels, strict=True)]


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 1,
        "learning_rate": 0.05,
        "max_grad_norm": 0.0,
        "save_steps": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
        "optim": "adamw_torch",
    }
    return TrainingArguments(**{**settings, **changes})


class Recorder(TrainerCallback):
    """Where the random numbers of the run begin, and the weights whenever the Trainer lets a callback look."""

    def __init__(self):
        self.random, self.seen = None, []

    def on_step_begin(self, args, state, control, **kwargs):
        if self.random is None:
            self.random = torch.get_rng_state()
        self.look("begin", kwargs["model"])

    def on_substep_end(self, args, state, control, **kwargs):
        self.look("substep", kwargs["model"])

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.look("before", kwargs["model"])

    def on_step_end(self, args, state, control, **kwargs):
        self.look("end", kwargs["model"])

    def look(self, when, model):
        self.seen.append((when, [p.detach().clone() for p in model.parameters()]))


def by_hand(kind, trainer, *, accumulate=2, clip=None, sam=None, autocast=None, scale=None, steps=3, watch=None):
    """The same run, written out, with a GradScaler if `scale` is given; `watch` are keywords for a watch over it."""
    torch.manual_seed(0)
    model = MODELS[kind]().train()
    decay = trainer.get_decay_parameter_names(model)
    groups = [[p for n, p in model.named_parameters() if (n in decay) is first] for first in (True, False)]
    base = torch.optim.AdamW([{"params": group} for group in groups], lr=0.05, weight_decay=0.0)
    opt = sm.SAM(base, **({"rho": 0.2} if sam is None else sam), model=model)
    model.probe = None if watch is None else sm.watch(opt, **watch)
    schedule = transformers.get_scheduler(trainer.args.lr_scheduler_type, opt, 0, steps)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    torch.set_rng_state(trainer.recorder.random)
    rows, losses = trainer.train_dataset, []
    batches = [{k: torch.stack([r[k] for r in rows[i : i + 4]]) for k in rows[0]} for i in range(0, len(rows), 4)]
    for begin in range(0, len(batches), accumulate):
        window = batches[begin : begin + accumulate]
        items = sum(b["labels"][..., 1:].ne(-100).sum() for b in window) if kind in ("llama", "tied", "lora") else None

        def loss_of(batch, window=window, items=items):
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                loss = model(**batch, **({} if items is None else {"num_items_in_batch": items}))["loss"]
            return loss / len(window) if kind == "net" else loss  # of Bert's, Trainer 5 takes the sum

        step(opt, loss_of, window, losses, scaler, model.probe)
        if clip is not None:
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(opt)
        scaler.update()
        schedule.step()
        opt.zero_grad()
    return model, losses


def step(opt, loss_of, window, losses, scaler, probe=None):
    """Both passes of a window."""
    if not opt.ascent.needs_clean:
        with opt.perturbed(scaler):
            passed(loss_of, window, scaler)
    elif opt.scope == "microbatch":
        for batch in window:
            with opt.clean():
                passed(loss_of, [batch], scaler)
            with opt.perturbed(scaler):
                passed(loss_of, [batch], scaler)
    else:
        with opt.clean():
            losses.append(passed(loss_of, window, scaler))
        if probe is not None:
            probe.note(losses[-1])
        with opt.perturbed(scaler):
            passed(loss_of, window, scaler)


def passed(loss_of, window, scaler):
    total = 0.0
    for batch in window:
        loss = loss_of(batch)
        scaler.scale(loss).backward()
        total += loss.item()
    return total


def distance(a, b):
    left, right = a.state_dict(), b.state_dict()
    return max((left[k].double() - right[k].double()).abs().max().item() for k in right)


def logged(trainer):
    return [row for row in trainer.state.log_history if "loss" in row]
