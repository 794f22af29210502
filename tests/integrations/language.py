"""A tiny language model on characters of Python's own documentation, with adapters by PEFT and by hand."""

import os
from pydoc_data.topics import topics

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers

LENGTH = 16


def rows(count):
    """Windows of LENGTH characters of the text; every character is a token."""
    text = topics["assignment"]
    alphabet = sorted(set(text))
    tokens = torch.tensor([alphabet.index(c) for c in text[: count * LENGTH]])
    return [{"input_ids": row, "labels": row} for row in tokens.view(count, LENGTH)], len(alphabet)


def gpt2(**changes):
    """About two thousand weights."""
    _, vocabulary = rows(1)
    sizes = {"vocab_size": vocabulary, "n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2}
    dropout = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    config = {**sizes, **dropout, "bos_token_id": None, "eos_token_id": None, **changes}
    config["use_cache"] = False  # as the Trainer sets it; with a cache attention adds up in another order
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    model.loss_type = "ForCausalLM"  # its class name does not say so, and the Trainer would count the first characters, too
    return model


def llama(**changes):
    """The same with linear layers."""
    _, vocabulary = rows(1)
    sizes = {"vocab_size": vocabulary, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=16, **changes))


TARGETS = {"gpt2": ["c_attn", "c_fc"], "llama": ["q_proj", "v_proj", "down_proj"]}
MAKERS = {"gpt2": gpt2, "llama": llama}


def adapted(kind, *, moved=True, **changes):
    """A model with LoRA by PEFT; `moved`: B is no longer 0."""
    config = {"r": 2, "lora_alpha": 4, "target_modules": TARGETS[kind], "fan_in_fan_out": kind == "gpt2", **changes}
    model = peft.get_peft_model(MAKERS[kind](), peft.LoraConfig(**config))
    rng = torch.Generator().manual_seed(4)
    for name, p in model.named_parameters():
        if "lora_B" in name and moved:
            p.data.normal_(0.0, 0.3, generator=rng)
    return model
