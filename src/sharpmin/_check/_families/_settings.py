"""Settings act, or are refused."""

from __future__ import annotations

import torch
from torch import nn

from .._case import Fault, NotOffered, family, raised
from .._shared import around
from .._shared.scene import golden, length
from .._trial import SGD, Holder, Quadratic, Trial


@family(
    "rho-assigned",
    "Assigning rho acts on the next step, or is refused",
    right="||e|| of a wrapper made with rho 0.25 (SAM: 0.25), by opt.rho and by the groups; or an error",
    fix="read rho where it is assigned, or make it read-only",
    faults=(38,),
)
def rho_assigned(t: Trial) -> str:
    """Made with rho 0.5. An object in Python takes any attribute, so that a setting without effect looks like one with."""
    said, refused = [], None
    made, _ = golden(t, 0.25)
    seen = made.at_passes()
    made.step()
    right = length(seen[0], seen[-1])
    for where in ("opt.rho", 'group["rho"]'):
        try:
            said.append(around.assigned(golden(t)[0], where, 0.25, right))
        except NotOffered as reason:
            refused = refused or reason
    if refused and not said:
        raise refused
    return "; ".join(said)


@family(
    "foreign-model",
    "A model that holds none of the parameters is refused",
    right="an error, or a warning that speaks of the model",
    fix="compare the parameters of the model with those of the groups at construction",
    faults=(38,),
)
def foreign_model(t: Trial) -> str:
    """An earlier instance of the same class, for example: its buffers would be kept, and not those of the one that trains."""
    t.need_model("what belongs to it is")
    other = Holder([nn.Parameter(torch.zeros(2))])
    try:
        t.subject.build([Quadratic.new().w], SGD, 0.5, {"lr": 0.1}, other)
    except Exception as error:
        return raised(error, 120)
    told = [text for text in t.warnings() if "model" in text.lower()]
    if not told:
        raise Fault("accepted silently")
    return f"warns: {told[0][:100]}"
