"""A case of the soak, drawn from one integer: every choice by name, so that a run can count what it has tried."""

import random
from dataclasses import dataclass, field
from typing import Any

STEPS = 7
ONE_PASS = ("momentum", "random")
TABLE: dict[str, tuple[Any, ...]] = {
    "dtype": ("float64", "float64", "float64", "float32", "bfloat16", "mixed"),
    "groups": (1, 1, 2, 3),
    "base": ("sgd", "heavy", "nesterov", "adam", "amsgrad", "adamw", "rmsprop", "rmsprop-momentum", "adagrad", "nadam"),
    "foreach": (None, False, True),
    "geometry": (
        *("l2", "l2", "linf", "elementwise", "elementwise-matrices", "layerwise", "masked", "masked-linf"),
        *("spectral", "spectral-products", "fisher"),
    ),
    "ascent": ("gradient", "gradient", "gradient", "ema", "residual", "momentum", "random"),
    "descent": ("perturbed", "perturbed", "mix", "clipped", "surrogate-gap", "renormalized", "reuse"),
    "door": ("block", "guarded", "closure", "raw", "two-step"),
    "micro-batches": (1, 1, 2, 3),
    "clear": ("none", "zeros", "none by hand", "zeros by hand"),
    "noise": (False, True),
    "clean": (False, True),
    "model": (False, True),
    "seen": ("nobody", "telemetry", "watcher", "watch"),
    "scheduler": (False, True),
    "restart": (None, None, "checkpoint", "deepcopy"),
    "exception": (None, None, "second pass", "first pass"),
    "scope": ("global", "global", "microbatch"),
    "scaler": (False, False, True),
    "unscale": (None, "first", "second"),
    "rounding": ("nearest", "stochastic"),
    "not finite": (None, None, "first", "second"),
    "change of rho": (None, None, "opt.rho", "group"),
}
UNSTEADY = {"linf": "l2", "masked-linf": "masked", "spectral": "l2", "spectral-products": "layerwise"}
RHOS = (
    *("number", "number", "zero", "constant", "cosine", "inverse-sqrt", "every", "tail", "until"),
    *("follows-lr", "unnormalized", "capped"),
)
SHAPES = ("vector", "matrix", "scalar", "empty", "strided", "transposed", "channels-last", "tied", "sparse", "complex")
USES = ("both", "both", "both", "sometimes", "first only", "second only", "frozen", "thaws")


@dataclass
class Weight:
    """A parameter: its shape, its dtype, and what becomes of it in each pass of each step."""

    kind: str
    use: str
    dtype: str
    passes: list[tuple[bool, bool]] = field(default_factory=list)
    thaws: int = 0  # the step from which it has requires_grad


@dataclass
class Group:
    """A parameter group with settings of its own."""

    rho: str
    size: float
    lr: float
    maximize: bool
    weights: list[Weight]


@dataclass
class Case:
    """All choices; `at` says at which step an event of that name comes."""

    seed: int
    choices: dict[str, Any]
    groups: list[Group]
    at: dict[str, int]

    def __getitem__(self, name: str) -> Any:
        return self.choices[name]

    @property
    def weights(self) -> list[Weight]:
        return [weight for group in self.groups for weight in group.weights]

    @property
    def one_pass(self) -> bool:
        return self["ascent"] in ONE_PASS

    @property
    def apart(self) -> bool:
        """Whether every micro-batch has two passes of its own; a closure is one micro-batch."""
        return self["scope"] == "microbatch" and self["door"] != "closure"

    @property
    def rounds(self) -> list[range]:
        """The micro-batches that share their passes."""
        count = self["micro-batches"]
        return [range(i, i + 1) for i in range(count)] if self.apart else [range(count)]

    def comes(self, name: str, value: str, t: int, micros: range) -> bool:
        """Whether an event comes in this step, in these micro-batches."""
        return self[name] == value and self.at[name] == t and self.at[name] % self["micro-batches"] in micros

    def drawn(self) -> list[tuple[str, str]]:
        """What this case counts as."""
        own = [(name, str(value)) for name, value in self.choices.items()]
        own += [("rho", group.rho) for group in self.groups] + [("maximize", str(group.maximize)) for group in self.groups]
        return own + [("shape", w.kind) for w in self.weights] + [("use", w.use) for w in self.weights]

    def describe(self) -> str:
        lines = [f"  {name}: {value}" for name, value in self.choices.items()]
        lines += [f"  {name!r} at step {t}" for name, t in self.at.items() if self[name]]
        for i, g in enumerate(self.groups):
            kinds = ", ".join(f"{w.kind} {w.dtype} {w.use}" for w in g.weights)
            lines.append(f"  group {i}: rho {g.rho} {g.size:.3f}, lr {g.lr:.4f}, maximize {g.maximize}: {kinds}")
        return "\n".join(lines)


def _passes(use: str, rnd: random.Random) -> list[tuple[bool, bool]]:
    """Whether the loss of each pass reaches the parameter, step by step."""
    out = []
    for _ in range(STEPS):
        off = use in ("sometimes", "first only", "second only") and rnd.random() < 0.4
        out.append(
            {"first only": (True, False), "second only": (False, True)}.get(use, (False, False)) if off else (True, True)
        )
    return out


def _weight(dtype: str, rnd: random.Random, *, anchor: bool) -> Weight:
    """A parameter; an anchor always has a gradient, so that no step is without one."""
    kind = rnd.choice([k for k in SHAPES if k not in ("empty", "sparse", "complex")] if anchor else SHAPES)
    use = "both" if anchor else rnd.choice(USES)
    own = rnd.choice(("float64", "float32")) if dtype == "mixed" else dtype
    if kind == "complex":
        own = "complex128" if own == "float64" else "complex64"
    thaws = {"frozen": STEPS, "thaws": rnd.randrange(1, STEPS)}.get(use, 0)
    return Weight(kind, use, own, _passes(use, rnd), thaws)


def _together(choices: dict[str, Any], rnd: random.Random) -> None:
    """Choices that do not go together are changed for ones that do."""
    if choices["dtype"] == "bfloat16":  # others divide by small numbers, and the oracle does not round as they do
        choices["base"] = rnd.choice(("sgd", "heavy", "nesterov"))
    if choices["dtype"] != "float64":  # a sign turns at 0, and random numbers depend on the dtype
        choices["geometry"] = UNSTEADY.get(choices["geometry"], choices["geometry"])
        choices["ascent"] = "gradient" if choices["ascent"] == "random" else choices["ascent"]
    if choices["ascent"] == "momentum" and choices["base"] in ("sgd", "rmsprop", "adagrad"):
        choices["base"] = "heavy"
    if choices["scaler"] and choices["door"] in ("closure", "two-step"):  # these doors know of no scaler
        choices["door"] = rnd.choice(("block", "guarded", "raw"))
    if choices["scope"] == "microbatch" and choices["door"] == "two-step":  # its second half steps
        choices["door"] = "raw"
    if choices["scope"] == "microbatch" and choices["seen"] == "watch":  # a row is a step
        choices["seen"] = "watcher"
    if choices["ascent"] in ONE_PASS:
        choices["scope"] = "global"
        choices["descent"] = "perturbed"
        choices["seen"] = choices["seen"] if choices["seen"] == "telemetry" else "nobody"
        choices["not finite"] = choices["not finite"] and "second"


def draw(seed: int) -> Case:
    """The case of a seed."""
    rnd = random.Random(seed)
    choices = {name: rnd.choice(values) for name, values in TABLE.items()}
    _together(choices, rnd)
    anchor, groups = rnd.randrange(choices["groups"]), []
    for i in range(choices["groups"]):
        count = rnd.randrange(1, 4)
        first = rnd.randrange(count) if i == anchor else -1
        weights = [_weight(choices["dtype"], rnd, anchor=k == first) for k in range(count)]
        groups.append(Group(rnd.choice(RHOS), rnd.uniform(0.05, 0.3), rnd.uniform(0.01, 0.1), rnd.random() < 0.2, weights))
    if any(weight.kind == "sparse" for group in groups for weight in group.weights):  # few bases take such gradients
        choices["base"] = rnd.choice(("plain", "nesterov", "plain-adagrad"))
        if choices["ascent"] == "momentum" or (choices["dtype"] == "bfloat16" and choices["base"] == "plain-adagrad"):
            choices["base"] = "nesterov"
        if choices["descent"] == "reuse":  # its V is dense, and torch's momentum takes only one kind of gradients
            choices["base"] = "plain"
    if any(weight.kind == "complex" for group in groups for weight in group.weights):
        choices["scaler"] = False  # torch's takes no such gradients
    at = {name: rnd.randrange(STEPS) for name in ("restart", "exception", "not finite", "change of rho")}
    return Case(seed, choices, groups, at)
