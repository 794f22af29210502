"""The page of a diagnosis: the verdict in two sentences, numbers with their limits, figures, and what they do not show."""

from __future__ import annotations

from sharpmin.diagnostics import Diagnosis, Log

from . import _view
from ._diagnosis_figures import draw
from ._numbers import entries
from ._render import render
from ._watched import watched

LOOKS = {0: "holds", 10: "refuted", 20: "open"}
"""CSS class of the color, by exit code."""

NOT_CLAIMED = (
    "That rho = 0, or any smaller rho, generalizes better: every number here is about the training loss. Under label noise "
    "what converges memorizes, and test accuracy falls.",
    "Anything from a p-value alone: the mean difference is not 0 even where rho hardly matters. Its size and sign decide.",
    "That a network has converged or reached a floor: a run that looks flat is often only slow. At most rho holds it back.",
    "A floor of noise where batches are reshuffled: the noise part is then 2 to 25 times too high, an upper bound.",
    "The smoothness of the loss from the length of the difference: that is the curvature of minibatches, 3 to 4 times too "
    "high.",
    "Anything beyond the horizon: predictions past a quarter of the window were wrong, and away from a saddle the loss falls "
    "faster and faster.",
    "That a large difference of the two gradients, or a large rho times curvature over the gradient norm, is a sign of "
    "trouble: across runs they rank the wrong way round.",
    "That any remedy both reaches the optimum and keeps SAM's accuracy under label noise.",
)


def diagnosis_page(diagnosis: Diagnosis, log: Log, name: str = "") -> str:
    """The diagnosis as one HTML file that works offline, in light and dark, on wide and narrow screens.

    Args:
        diagnosis: from `sharpmin.diagnose`.
        log: the rows that it was made from, such as `probe.log`; a probe keeps only the newest rows, a file keeps all.
        name: the name of the run, such as the file of its rows.

    Raises:
        MissingExtraError: if jinja2 or plotly is not installed.
    """
    return render(
        "diagnosis.html.j2",
        plates := draw(watched(diagnosis, log), diagnosis.numbers, diagnosis.floor),
        plates=plates,
        d=diagnosis,
        n=diagnosis.numbers,
        w=diagnosis.window,
        name=name,
        look=LOOKS[diagnosis.exit_code],
        entries=entries(diagnosis),
        not_claimed=NOT_CLAIMED,
        versions=_view.versions(),
    )
