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
ZHUANG_2022 = Reference(
    "zhuang2022surrogate",
    (
        "Zhuang, Juntang",
        "Gong, Boqing",
        "Yuan, Liangzhe",
        "Cui, Yin",
        "Adam, Hartwig",
        "Dvornek, Nicha C.",
        "Tatikonda, Sekhar",
        "Duncan, James S.",
        "Liu, Ting",
    ),
    "Surrogate Gap Minimization Improves Sharpness-Aware Training",
    2022,
    "ICLR",
    "2203.08065",
)
LIU_2022 = Reference(
    "liu2022towards",
    ("Liu, Yong", "Mai, Siqi", "Chen, Xiangning", "Hsieh, Cho-Jui", "You, Yang"),
    "Towards Efficient and Scalable Sharpness-Aware Minimization",
    2022,
    "CVPR",
    "2203.02714",
)
LI_2024 = Reference(
    "li2024friendly",
    ("Li, Tao", "Zhou, Pan", "He, Zhengbao", "Cheng, Xinwen", "Huang, Xiaolin"),
    "Friendly Sharpness-Aware Minimization",
    2024,
    "CVPR",
    "2403.12350",
)
LI_GIANNAKIS_2023 = Reference(
    "li2023enhancing",
    ("Li, Bingcong", "Giannakis, Georgios B."),
    "Enhancing Sharpness-Aware Optimization Through Variance Suppression",
    2023,
    "NeurIPS",
    "2309.15639",
)
TAN_2025 = Reference(
    "tan2025stabilizing",
    ("Tan, Chengli", "Zhang, Jiangshe", "Liu, Junmin", "Wang, Yicheng", "Hao, Yunda"),
    "Stabilizing Sharpness-Aware Minimization Through A Simple Renormalization Strategy",
    2025,
    "JMLR",
    "2401.07250",
)
MI_2022 = Reference(
    "mi2022make",
    ("Mi, Peng", "Shen, Li", "Ren, Tianhe", "Zhou, Yiyi", "Sun, Xiaoshuai", "Ji, Rongrong", "Tao, Dacheng"),
    "Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach",
    2022,
    "NeurIPS",
    "2210.05177",
)
BISLA_2022 = Reference(
    "bisla2022low",
    ("Bisla, Devansh", "Wang, Jing", "Choromanska, Anna"),
    "Low-Pass Filtering SGD for Recovering Flat Optima in the Deep Learning Optimization Landscape",
    2022,
    "AISTATS",
    "2201.08025",
)
BERNSTEIN_2024 = Reference(
    "bernstein2024old",
    ("Bernstein, Jeremy", "Newhouse, Laker"),
    "Old Optimizer, New Norm: An Anthology",
    2024,
    "arXiv",
    "2409.20325",
)
PETHICK_2025 = Reference(
    "pethick2025training",
    ("Pethick, Thomas", "Xie, Wanyun", "Antonakopoulos, Kimon", "Zhu, Zhenyu", "Silveti-Falls, Antonio", "Cevher, Volkan"),
    "Training Deep Learning Models with Norm-Constrained LMOs",
    2025,
    "ICML",
    "2502.07529",
)
JIANG_2023 = Reference(
    "jiang2023adaptive",
    ("Jiang, Weisen", "Yang, Hansi", "Zhang, Yu", "Kwok, James"),
    "An Adaptive Policy to Employ Sharpness-Aware Minimization",
    2023,
    "ICLR",
    "2304.14647",
)
BECKER_2024 = Reference(
    "becker2024momentum",
    ("Becker, Marlon", "Altrock, Frederick", "Risse, Benjamin"),
    "Momentum-SAM: Sharpness Aware Minimization without Computational Overhead",
    2024,
    "arXiv",
    "2401.12033",
)
JI_2024 = Reference(
    "ji2024single",
    ("Ji, Jie", "Li, Gen", "Fu, Jingjing", "Afghah, Fatemeh", "Guo, Linke", "Yuan, Xiaoyong", "Ma, Xiaolong"),
    "A Single-Step, Sharpness-Aware Minimization is All You Need to Achieve Efficient and Accurate Sparse Training",
    2024,
    "NeurIPS",
)
KHANH_2024 = Reference(
    "khanh2024fundamental",
    ("Khanh, Pham Duy", "Luong, Hoang-Chau", "Mordukhovich, Boris S.", "Tran, Dat Ba"),
    "Fundamental Convergence Analysis of Sharpness-Aware Minimization",
    2024,
    "NeurIPS",
    "2401.08060",
)
SHIN_2025 = Reference(
    "shin2025critical",
    ("Shin, Sungbin", "Lee, Dongyeop", "Andriushchenko, Maksym", "Lee, Namhoon"),
    "Critical Influence of Overparameterization on Sharpness-aware Minimization",
    2025,
    "UAI",
    "2311.17539",
)
