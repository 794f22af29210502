"""The table of the families of `sharpmin.check`: titles, right values and fixes."""

from __future__ import annotations

from . import _own_families as ask
from ._own_families import Question

_OUR_DOOR = (
    'put the first pass inside `with opt.clean():`, or use opt.step(closure); if your loop does, say so: door="clean" or '
    'door="closure"'
)
QUESTIONS = (
    Question(
        "finite",
        "Loss and gradients of this batch are finite",
        "finite numbers",
        "look at the batch, the loss and the initial weights",
        "look at the batch, the loss and the initial weights",
        ask.finite,
    ),
    Question(
        "ascent",
        "The second pass runs at w + e",
        "perturbed weights, and more than 90 % of the perturbation left after rounding",
        'give a rho > 0; with float16 or bfloat16 weights keep them in float32 under autocast, or use rounding="stochastic"',
        "give a rho > 0; with float16 or bfloat16 weights keep them in float32 under autocast",
        ask.ascent,
    ),
    Question(
        "rho-zero",
        "rho = 0 is the base optimizer",
        "the weights of the base optimizer after two steps, bit for bit",
        _OUR_DOOR,
        "replay the random state in the second pass, and skip the perturbation where rho is 0",
        ask.rho_zero,
    ),
    Question(
        "first-steps",
        "The first steps lower the loss, as they do with rho = 0",
        "a loss that falls by at least a fifth of what it falls by with rho = 0",
        "rho is too large at the start: begin later, rho=sharpmin.rho.Tail(rho, start=0.1, total=steps); clip, "
        "descent=sharpmin.ClippedDifference(0.5); or divide rho by five",
        "rho is too large at the start: leave it out for the first tenth of the run, or divide it by five",
        ask.first_steps,
    ),
    Question(
        "rest-counts",
        "With rho = 0 the base steps with the gradient of the second pass",
        "the weights after a step of the base with the gradient of the second pass",
        "report this: what ran in the block counts",
        "where nothing is perturbed, keep the gradient of the second pass, and do not add the first one to it",
        ask.rest_counts,
    ),
    Question(
        "missing-first",
        "First gradients that are cleared or never computed do not count as zero",
        "an error that says so, or a step that moves the weights",
        "report this: an error says which gradients are missing",
        "raise where no parameter has a gradient before the perturbation",
        ask.missing_first,
    ),
    Question(
        "restore-exact",
        "The weights come back bit for bit",
        "the weights before the step, if the base does not step",
        "report this: sharpmin restores by copy",
        "restore by a copy from a backup instead of subtracting the perturbation",
        ask.restore_exact,
    ),
    Question(
        "second-pass-error",
        "An exception in the second pass does not leave w + e behind",
        "the weights before the step",
        "report this: the block, and abort(), restore",
        "restore in a finally clause around the second pass",
        ask.second_pass_error,
    ),
    Question(
        "base-step-error",
        "After an exception in the base's step the next step works",
        "the weights before the step, and a next step that works",
        "report this: the step is given up",
        "reset the wrapper's state in a finally clause around the base's step",
        ask.base_step_error,
    ),
    Question(
        "lost-wrapper",
        "A new wrapper restores weights that a lost one left at w + e",
        "the weights before the lost step, bit for bit, and a new wrapper that works",
        "report this: a new SAM takes over from the old one",
        "remember outside the wrapper which weights are perturbed, and restore them when the next one is made",
        ask.lost_wrapper,
    ),
    Question(
        "batchnorm-once",
        "BatchNorm and other buffers are updated once a step",
        "the buffers that one pass leaves",
        "pass model=model to sharpmin.SAM (and no `buffers` filter that leaves them out)",
        "put the buffers back after the second pass, all of them, by copy",
        ask.buffers_once,
    ),
    Question(
        "same-mask",
        "Both passes draw the same random numbers (dropout masks)",
        "the random state of the first pass at the start of the second, and that of one pass afterwards",
        _OUR_DOOR,
        "set torch's random state back before the second pass, and forward again after it",
        ask.same_mask,
    ),
    Question(
        "outside-gradients",
        "Parameters outside the optimizer get the gradient of one pass",
        "the gradients of the first pass",
        "pass model=model to sharpmin.SAM, or set requires_grad=False on what is not trained",
        "put these gradients back after the second pass, or set requires_grad=False on what is not trained",
        ask.outside_gradients,
    ),
    Question(
        "scheduler-linked",
        "A learning-rate scheduler on the optimizer reaches the base",
        "a tenth of the learning rate in the base's groups, also after load_state_dict",
        "report this: sharpmin shares the base's groups",
        "share the base's param_groups, the very list, or attach the scheduler to the base",
        ask.scheduler_linked,
    ),
    Question(
        "resume",
        "state_dict holds all that the next step needs",
        "the weights of the unbroken run one step after loading, bit for bit",
        'say door="clean" or "closure" if your loop does so; else report this: the base\'s state is in state_dict',
        "put the state of the base into state_dict, and save it separately until then",
        ask.resume,
    ),
    Question(
        "base-methods",
        "train(), eval() and consolidate_state_dict() of the base are reachable",
        "methods that the base has can be called on the optimizer around it",
        "report this, and call them on opt.base until then",
        "forward them to the base, and have them only if the base does",
        ask.base_methods,
    ),
    Question(
        "own-store",
        "Between the passes the base's own zero_grad() clears the gradients",
        "a call of the base's zero_grad() before the second pass",
        "report this, and use opt.step(closure) until then",
        "clear gradients by the base's own zero_grad()",
        ask.own_store,
    ),
    Question(
        "copied-attributes",
        "A copy of the optimizer keeps the attributes of the base",
        "every attribute of the base in the base of a deep copy",
        "report this, and build copies anew instead of by copy.deepcopy",
        "copy all attributes of the base: torch's __getstate__ keeps groups and state only",
        ask.copied_attributes,
    ),
    Question(
        "rho-assigned",
        "Assigning rho acts on the next step, or is refused",
        "a second pass at w after rho = 0",
        'report this, and assign group["rho"] until then',
        "read rho where it is assigned, or make it read-only",
        ask.rho_assigned,
    ),
)
