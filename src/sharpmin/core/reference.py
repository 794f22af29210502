"""Papers, as data: what a method or a statement cites."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One paper.

    >>> Reference("doe2020", ("Doe, Jane", "Roe, Richard"), "A Title", 2020, "ICML", "2001.00001").cite()
    'Doe & Roe, A Title, ICML 2020, arXiv:2001.00001'
    """

    key: str
    authors: tuple[str, ...]  # "Family, Given"
    title: str
    year: int
    venue: str
    arxiv: str = ""

    def cite(self) -> str:
        """One line for a docstring or a table."""
        families = [author.split(",")[0] for author in self.authors]
        who = " & ".join(families) if len(families) <= 2 else f"{families[0]} et al."
        return f"{who}, {self.title}, {self.venue} {self.year}" + (f", arXiv:{self.arxiv}" if self.arxiv else "")

    def bibtex(self) -> str:
        """A BibTeX entry."""
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            "year": str(self.year),
            "booktitle": self.venue,
        }
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archiveprefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@inproceedings{{{self.key},\n{body}\n}}"


SI_YUN_2023 = Reference(
    "si2023practical",
    ("Si, Dongkuk", "Yun, Chulhee"),
    "Practical Sharpness-Aware Minimization Cannot Converge All the Way to Optima",
    2023,
    "NeurIPS",
    "2306.09850",
)
FORET_2021 = Reference(
    "foret2021sharpness",
    ("Foret, Pierre", "Kleiner, Ariel", "Mobahi, Hossein", "Neyshabur, Behnam"),
    "Sharpness-Aware Minimization for Efficiently Improving Generalization",
    2021,
    "ICLR",
    "2010.01412",
)
ANDRIUSHCHENKO_2022 = Reference(
    "andriushchenko2022towards",
    ("Andriushchenko, Maksym", "Flammarion, Nicolas"),
    "Towards Understanding Sharpness-Aware Minimization",
    2022,
    "ICML",
    "2206.06232",
)
KWON_2021 = Reference(
    "kwon2021asam",
    ("Kwon, Jungmin", "Kim, Jeongseop", "Park, Hyunseo", "Choi, In Kwon"),
    "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks",
    2021,
    "ICML",
    "2102.11600",
)
