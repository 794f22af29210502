"""How fast is `theory.simulate`? Lane-steps a second of the compiled engine, next to C, NumPy, JAX and plain Python.

    python benchmarks/simulate_throughput.py [--rounds 15] [--threads 1]

Floor: the same arithmetic compiled from C, once with the three statistics over t that `simulate` keeps by default and once
without. The C code is the same loop, tiles of 64 lanes with the lane loop innermost, written for one problem with constants
known at compile time (gcc -O3 -march=native -ffast-math -fopenmp). All engines run in one process, interleaved round by round;
speeds are medians over rounds, "of C" is the median of the ratios within a round. With one thread the clock is processor time,
so that other processes on a shared machine do not count.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from sharpmin.theory import Problem, problems, simulate
from sharpmin.theory._problems.hinge import HingeProblem
from sharpmin.theory._simulation import compiled

Engine = Callable[[np.ndarray, int, float, float], list[np.ndarray]]
"""(x0, steps, lr, rho) -> x_T, or x_T with mean and minimum of ||grad f(x_t)||^2 and mean of f(y_t) - f*."""

HEAD = r"""
#include <math.h>
#include <stdint.h>
#define TILE 64
#define G 0x9E3779B97F4A7C15ULL
static inline uint64_t mix(uint64_t z){
  z=(z^(z>>30))*0xBF58476D1CE4E5B9ULL; z=(z^(z>>27))*0x94D049BB133111EBULL; return z^(z>>31);
}
static inline double relu(double v){return v>0?v:0;}
"""
HINGE = r"""
%(functions)s
void run(double*xs,const uint64_t*seeds,long lanes,long steps,double lr,double rho,double*sums){
  #pragma omp parallel for
  for(long o=0;o<lanes;o+=TILE){
    double x[TILE],squares[TILE],gaps[TILE],low[TILE]; uint64_t key[TILE];
    for(int i=0;i<TILE;i++){x[i]=xs[o+i];key[i]=mix(seeds[o+i]*G+G);squares[i]=gaps[i]=0;low[i]=1e300;}
    for(long s=0;s<steps;s++){
      uint64_t by=(uint64_t)(s+1)*G;
      for(int i=0;i<TILE;i++){
        %(draw)s
        double g=%(first)s;
        double y=x[i]+((g>0?rho:0.0)-(g<0?rho:0.0));
        double h=%(second)s;
        %(statistics)s
        x[i]-=lr*h;
      }
    }
    for(int i=0;i<TILE;i++){xs[o+i]=x[i];sums[o+i]=squares[i];sums[lanes+o+i]=gaps[i];sums[2*lanes+o+i]=low[i];}
  }
}
"""
QUADRATIC = r"""
static const double lam[]={%(lam)s};
void run(double*xs,const uint64_t*seeds,long lanes,long steps,double lr,double rho,double*sums){
  #pragma omp parallel for
  for(long o=0;o<lanes;o+=TILE){
    double x[%(dim)d][TILE],n[TILE],squares[TILE],gaps[TILE],low[TILE];
    for(int i=0;i<TILE;i++){squares[i]=gaps[i]=0;low[i]=1e300;}
    for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++)x[j][i]=xs[(o+i)*%(dim)d+j];
    for(long s=0;s<steps;s++){
      for(int i=0;i<TILE;i++)n[i]=0;
      for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++){double g=lam[j]*x[j][i];n[i]+=g*g;}
      for(int i=0;i<TILE;i++){%(squares)sn[i]=n[i]>0?rho/sqrt(n[i]):0;}
      for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++){double y=x[j][i]+n[i]*lam[j]*x[j][i];%(gap)sx[j][i]-=lr*lam[j]*y;}
    }
    for(int i=0;i<TILE;i++){sums[o+i]=squares[i];sums[lanes+o+i]=gaps[i];sums[2*lanes+o+i]=low[i];}
    for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++)xs[(o+i)*%(dim)d+j]=x[j][i];
  }
}
"""


KEEP = "squares[i]+=%(u)s*%(u)s;gaps[i]+=%(gap)s;low[i]=%(u)s*%(u)s<low[i]?%(u)s*%(u)s:low[i];"


def c_hinge(f: HingeProblem, stochastic: bool, means: bool) -> str:
    """The C source of SAM on one hinge problem: every sample's derivative is computed, the drawn one is kept."""
    functions = ""
    for name, h in [("full", f.mean), *((f"d{k}", h) for k, h in enumerate(f.components))]:
        hinges = "".join(f"+{c!r}*relu(x-({t!r}))" for t, c in h.hinges)
        functions += f"static inline double {name}(double x){{return {h.a!r}+{h.b!r}*x{hinges};}}\n"
    squares = "".join(f"+{c / 2!r}*relu(x-({t!r}))*relu(x-({t!r}))" for t, c in f.mean.hinges)
    functions += f"static inline double gap(double x){{return {-f.least!r}+{f.mean.a!r}*x+{f.mean.b / 2!r}*x*x{squares};}}\n"
    parts = {"draw": "", "first": "full(x[i])", "second": "full(y)"}
    if stochastic:
        edge = int(np.ceil(f.probabilities[0] * 2.0**53))
        draw = f"int64_t u=(int64_t)(mix(mix(key[i]+by)+G)>>11); int k=u>={edge}LL;"
        parts = {"draw": draw, "first": "k?d1(x[i]):d0(x[i])", "second": "k?d1(y):d0(y)"}
    kept = KEEP % {"u": "full(x[i])", "gap": "gap(y)"} if means else ""
    return HEAD + HINGE % {"functions": functions, "statistics": kept, **parts}


def c_quadratic(curvatures: list[float], means: bool) -> str:
    """The C source of SAM on one diagonal quadratic."""
    kept = "squares[i]+=n[i];low[i]=n[i]<low[i]?n[i]:low[i];" if means else ""
    gap = "gaps[i]+=lam[j]*y*y/2;" if means else ""
    parts = {"lam": ",".join(map(repr, curvatures)), "dim": len(curvatures), "squares": kept, "gap": gap}
    return HEAD + QUADRATIC % parts


def c_engine(source: str, folder: str, name: str, means: bool) -> Engine | None:
    """A function that runs the C source, or None without gcc."""
    if shutil.which("gcc") is None:
        return None
    path = Path(folder) / name
    path.with_suffix(".c").write_text(source)
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC"]
    subprocess.run(["gcc", *flags, "-c", str(path.with_suffix(".c")), "-o", str(path.with_suffix(".o"))], check=True)
    # linked without -ffast-math, which would make the whole process, all engines included, flush denormals
    subprocess.run(["gcc", "-fopenmp", "-shared", str(path.with_suffix(".o")), "-o", str(path.with_suffix(".so"))], check=True)
    run = ctypes.CDLL(str(path.with_suffix(".so"))).run

    def call(x0: np.ndarray, steps: int, lr: float, rho: float) -> list[np.ndarray]:
        x, seeds, sums = x0.copy(), np.arange(len(x0), dtype=np.uint64), np.empty((3, len(x0)))
        run(*(ctypes.c_void_p(v.ctypes.data) for v in (x, seeds)), ctypes.c_long(len(x)), ctypes.c_long(steps),
            ctypes.c_double(lr), ctypes.c_double(rho), ctypes.c_void_p(sums.ctypes.data))  # fmt: skip
        return [x, sums[0] / steps, sums[2], sums[1] / steps] if means else [x]

    return call


def jax_engine(f: HingeProblem) -> Engine | None:
    """vmap and fori_loop over the deterministic problem, or None without JAX."""
    try:
        import jax
        import jax.numpy as jnp
    except ModuleNotFoundError:
        return None
    jax.config.update("jax_enable_x64", True)
    t, c = (jnp.array(values) for values in zip(*f.mean.hinges, strict=True))

    def derivative(x):  # type: ignore[no-untyped-def]
        return f.mean.a + f.mean.b * x + jnp.sum(c * jnp.maximum(0.0, x - t))

    def one(x, steps, lr, rho):  # type: ignore[no-untyped-def]
        return jax.lax.fori_loop(0, steps, lambda _, x: x - lr * derivative(x + rho * jnp.sign(derivative(x))), x)

    compiled = jax.jit(jax.vmap(one, in_axes=(0, None, None, None)))
    return lambda x0, steps, lr, rho: [np.asarray(compiled(x0, steps, lr, rho))]


def python_engine(f: HingeProblem) -> Engine:
    """Plain Python, one float at a time."""

    def run(x0: np.ndarray, steps: int, lr: float, rho: float) -> list[np.ndarray]:
        x, d = float(x0[0]), f.mean
        for _ in range(steps):
            g = d(x)
            x -= lr * d(x + rho * ((g > 0) - (g < 0)))
        return [np.array([x])]

    return run


def sharpmin_engine(f: Problem, method: str, means: bool, engine: str) -> Engine:
    """`simulate` as users call it."""

    def run(x0: np.ndarray, steps: int, lr: float, rho: float) -> list[np.ndarray]:
        seeds = np.arange(len(x0))
        data = simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=x0, seeds=seeds, means=means, engine=engine)
        return [values.values for values in data.data_vars.values()]

    return run


@dataclass(frozen=True)
class Case:
    """One problem: the method, x0, lr and rho, its C source, and the number of steps of the fast engines."""

    name: str
    problem: Problem
    method: str
    x0: np.ndarray
    lr: float
    rho: float
    source: Callable[[bool], str]
    steps: int


def cases() -> Iterator[Case]:
    """The cases: deterministic, stochastic, and eight-dimensional."""
    rng, lanes = np.random.default_rng(0), 8192
    trap = problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    e1 = problems()["e1"](beta=1.0, mu=0.1, rho=1.0)
    lam = np.linspace(0.1, 2.0, 8).tolist()
    quadratic = problems()["quadratic"](curvatures=lam)
    x0 = rng.uniform(-0.06, 0.3, lanes), rng.uniform(3.0, 3.1, lanes), rng.normal(size=(lanes, 8))
    yield Case("trap, sam", trap, "sam", x0[0], 0.25, 0.5, partial(c_hinge, trap, False), 4000)
    yield Case("e1, m-sam", e1, "m-sam", x0[1], 0.25, 1.0, partial(c_hinge, e1, True), 1000)
    yield Case("quadratic d=8, sam", quadratic, "sam", x0[2], 0.25, 1.0, partial(c_quadratic, lam), 400)  # before 1e-290


def engines_of(case: Case, folder: str, means: bool) -> dict[str, tuple[Engine, int]]:
    """The available engines of a case, the floor first, and the number of steps of each per round."""
    slug = f"{case.method}-{case.problem.name}-{means}"
    out: dict[str, tuple[Engine | None, int]] = {"C": (c_engine(case.source(means), folder, slug, means), case.steps)}
    out["compiled"] = sharpmin_engine(case.problem, case.method, means, "compiled"), case.steps
    out["NumPy"] = sharpmin_engine(case.problem, case.method, means, "numpy"), 20
    if isinstance(case.problem, HingeProblem) and case.method == "sam" and not means:
        out |= {"JAX": (jax_engine(case.problem), 400), "Python": (python_engine(case.problem), 4000)}
    return {name: (engine, steps) for name, (engine, steps) in out.items() if engine is not None}


def measure(
    case: Case, engines: dict[str, tuple[Engine, int]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Lane-steps a second, engine by engine and round by round, after a check that all compute the same."""
    expected = engines["compiled"][0](case.x0, 20, case.lr, case.rho)
    for name, (engine, _) in engines.items():  # warm-up
        for got, wanted in zip(engine(case.x0, 20, case.lr, case.rho), expected, strict=name not in ("JAX", "Python")):
            if not np.allclose(got, wanted[: len(got)], rtol=1e-9, atol=1e-9):
                raise SystemExit(f"{name} computes something else")
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds):
        for name in list(engines)[:: -1 if turn % 2 else 1]:
            engine, steps = engines[name]
            begin = clock()
            lanes = len(engine(case.x0, steps, case.lr, case.rho)[0])
            rates[name].append(lanes * steps / (clock() - begin))
    return rates


def main() -> None:
    """Print one table a problem, with statistics and without."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    compiled.THREADS = options.threads
    clock = time.process_time if options.threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        for case, means in product(cases(), (True, False)):
            rates = measure(case, engines_of(case, folder, means), options.rounds, clock)
            kept = "with" if means else "without"
            print(f"{case.name}, {kept} statistics: {len(case.x0)} lanes, {options.threads} threads, {options.rounds} rounds")
            for name, values in rates.items():
                ratios = [v / floor for v, floor in zip(values, rates.get("C", []), strict=False)]
                against = f", {statistics.median(ratios):.3f} of C" if ratios else ""
                print(f"  {name:9} {statistics.median(values) / 1e9:8.4f}e9 lane-steps/s{against}", flush=True)


if __name__ == "__main__":
    main()
