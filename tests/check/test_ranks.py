"""Families on two real ranks: ours passes, a right SAM what its doors allow, each broken one fails just what it should."""

from functools import partial

import broken_ranks
import broken_steps
import pytest
import torch
from right_sam import Right

from sharpmin._check._named import Named
from sharpmin._check._subject import of_class, of_factory
from sharpmin._check._suite import choose, families
from sharpmin._check._trial import difference
from sharpmin._check._workers import Workers

RANKS = families(ranks=True)
BOTH = "rank-golden-step", "rank-replicas"
LOCAL = {
    "fsdp-golden-step": "second pass at (3.5, 1.5)",
    "fsdp-plain-part": "rank 0: second pass at (3.3153, 1.4111, 13.2612)",
    "fsdp-one-process": "off by 0.0069",
    "fsdp-accumulation": "off by 0.0041",
}
TWO_STEP = {
    broken_ranks.LocalNorm: LOCAL,
    Right: {**LOCAL, "fsdp-nonfinite": "inf in pass 1: rank 0 stepped, rank 1 did not"},
    broken_ranks.PlainTwice: {"fsdp-plain-part": "second pass at (3.22044, 1.29392, 12.8818)"},
    broken_ranks.StepsAlone: {"fsdp-nonfinite": "inf in pass 2: rank 0 stepped, rank 1 did not"},
    broken_ranks.SwapsParts: {
        "fsdp-golden-step": "w' = (2.97, 0.84)",
        "fsdp-plain-part": "w' = (2.97, 0.84, 10.68)",
        "fsdp-one-process": "off by 0.37",
        "fsdp-accumulation": "off by 0.17",
        "fsdp-restore": "float32: the parts differ by",
    },
    broken_ranks.ReducesAgain: {"rank-golden-step": "second pass at 0.6, x' = 0.38"},
    broken_ranks.Subtracts: {
        "ddp-restore": "float32: the weights differ by",
        "rank-replicas": "weights of two ranks differ by",
        "fsdp-restore": "float32: the parts differ by",
    },
    broken_ranks.KeepsGradient: {"ddp-bucket-view": "x = 0.38, then 0.2"},
    broken_ranks.OwnNoise: {
        "ddp-replicas": "weights of two ranks differ by",
        "rank-replicas": "weights of two ranks differ by",
    },
}
CLOSURE = {
    broken_ranks.Unsynced: {
        "ddp-golden-step": "rank 0: second pass at 0.4, x' = 0.41; rank 1: second pass at 0.6, x' = 0.41",
        "ddp-bucket-view": "x = 0.41, then 0.338",
        "ddp-one-process": "off by 0.018",
        "ddp-accumulation": "rank 0: second pass at 0.4, x' = 0.3975",
        "ddp-nonfinite": "rank 0: inf in pass 1: x = 0.415",
    },
    broken_ranks.SkipsByLoss: {"ddp-nonfinite": "rank 0: inf in pass 1: x = 0.4, then 0.295; rank 1: inf in pass 1: x = 0.5"},
    broken_ranks.KeepsMoving: {"ddp-batchnorm": "mean 0.6878, 4 batches"},
}
OURS = {broken_steps.Masking: {"ddp-loss-scaling": "inf in pass 1"}}
BROKEN = [
    *((cls, "two-step", seen) for cls, seen in TWO_STEP.items()),
    *((cls, "closure", seen) for cls, seen in CLOSURE.items()),
    *((cls, "clean", seen) for cls, seen in OURS.items()),
]


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as workers:
        yield workers


def examined(workers, make, names=RANKS):
    doors = make().doors
    return {name: workers.examine(RANKS[name], make, doors) for name in names}


def failed(outcomes):
    return {name: outcome.observed for name, outcome in outcomes.items() if outcome.status == "failed"}


def test_ours_passes_everything(workers):
    outcomes = examined(workers, Named())
    assert {name: (outcome.status, outcome.observed) for name, outcome in outcomes.items() if outcome.status != "passed"} == {}


@pytest.mark.parametrize(
    ("cls", "door", "missing"),
    [
        (broken_ranks.Sharded, "two-step", {"ddp-batchnorm", "ddp-loss-scaling"}),
        (broken_ranks.ShardedModel, "closure", {"ddp-loss-scaling", *BOTH}),
    ],
)
def test_a_right_one_passes_all_that_its_doors_allow(workers, cls, door, missing):
    outcomes = examined(workers, partial(of_class, cls, "right", door=door))
    assert failed(outcomes) == {}
    assert {name for name, outcome in outcomes.items() if outcome.status == "not offered"} == missing


@pytest.mark.parametrize(("cls", "door", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_one_fails_just_what_it_should(workers, cls, door, expected):
    seen = failed(examined(workers, partial(of_class, cls, "broken", door=door)))
    assert set(seen) == set(expected), seen
    assert all(text in seen[name] for name, text in expected.items()), seen


def test_every_family_can_fail():
    assert {name for _, _, expected in BROKEN for name in expected} == set(RANKS)


def test_families_say_what_is_right_and_how_to_get_there():
    for entry in RANKS.values():
        assert all((entry.title, entry.right, entry.fix, entry.faults)), entry.id
        assert len(entry.id) <= 24


def test_a_scope_of_its_own():
    assert of_class(broken_ranks.Scoped, "Scoped", door="closure").per_rank is not None
    assert of_class(broken_ranks.Scoped, "Scoped", door="closure", extra={"scope": "rank"}).per_rank is None
    assert of_factory(lambda params, base, rho, options, scope="global": Right(params, base, rho, **options), "it").per_rank
    assert of_class(Right, "Right").per_rank is None


def test_a_scope_of_its_own_is_asked_for(workers):
    outcomes = examined(workers, partial(of_class, broken_ranks.Scoped, "Scoped", door="closure"), BOTH)
    assert {outcome.status for outcome in outcomes.values()} == {"passed"}


STUCK = [
    (broken_ranks.LeavesEarly, 60.0, "rank 1 died (exit code 3): out of luck"),
    (broken_ranks.GivesUp, 60.0, "rank 1: raised RuntimeError: no second pass here; rank 0 was left waiting"),
    (broken_ranks.Sleeps, 2.0, "ranks 0, 1 were not done after 2 s, as if waiting for another rank"),
]


@pytest.mark.parametrize(("cls", "limit", "said"), STUCK, ids=lambda value: getattr(value, "__name__", None))
def test_a_rank_that_dies_or_waits(cls, limit, said):
    with Workers(2, limit, patience=0.5) as workers:
        (outcome,) = examined(workers, partial(of_class, cls, "stuck", door="two-step"), ["ddp-golden-step"]).values()
        assert (outcome.status, outcome.observed) == ("failed", said)
        if cls is broken_ranks.Sleeps:  # the next family gets new processes
            assert workers._ranks == []
            workers.limit = 60.0
            assert failed(examined(workers, Named(door="clean"), ["ddp-golden-step"])) == {}


def test_processes_that_cannot_start(monkeypatch):
    monkeypatch.setattr("sharpmin._check._workers.serve", broken_ranks.no_start)
    with (
        Workers(2) as workers,
        pytest.raises(ChildProcessError, match=r"--ranks 2: could not start 2 processes: rank 0 died \(exit"),
    ):
        examined(workers, Named(), ["ddp-golden-step"])
    assert workers._ranks == []


@pytest.mark.parametrize("world", [-1, 0, 1, 9])
def test_numbers_of_ranks_that_make_no_sense(world):
    with pytest.raises(ValueError, match=f"--ranks {world}: give 2 to 8; every rank is a process on this machine"):
        Workers(world)


def test_families_of_ranks_are_asked_for():
    assert list(families()) == [entry.id for entry in choose([])]
    assert [entry.id for entry in choose([], ranks=True)] == [*families(), *RANKS]
    with pytest.raises(ValueError, match="ddp-replicas needs several processes; give --ranks 2 too"):
        choose(["ddp-replicas"])


def test_a_rank_without_a_part_differs_by_nothing():
    empty, one = torch.empty(0), torch.ones(1)
    assert difference([empty], [empty]) == "0"
    assert difference([empty, one], [empty, 3 * one]) == "2"
