"""How fast is `theory.simulate`? Lane-steps a second of the compiled engine, next to C, NumPy, JAX and plain Python.

    python benchmarks/simulate_throughput.py [--rounds 7] [--threads 1]

Floor: the arithmetic itself, as the C compiler does it. The C side is the same loop, tiles of 64 lanes with the lane loop
innermost, written for one problem with its constants known at compile time (gcc -O3 -march=native -ffast-math -fopenmp).
All engines run in one process, interleaved round by round; medians are compared. Statistics over t are off.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sharpmin.theory import _compiled, problems, simulate
from sharpmin.theory._hinge import HingeProblem

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
void run(double*xs,const uint64_t*seeds,long lanes,long steps,double lr,double rho){
  #pragma omp parallel for
  for(long o=0;o<lanes;o+=TILE){
    double x[TILE]; uint64_t key[TILE];
    for(int i=0;i<TILE;i++){x[i]=xs[o+i];key[i]=mix(seeds[o+i]*G+G);}
    for(long s=0;s<steps;s++){
      uint64_t by=(uint64_t)(s+1)*G;
      for(int i=0;i<TILE;i++){
        %(draw)s
        double g=%(first)s;
        double y=x[i]+rho*(g>0?1.0:(g<0?-1.0:0.0));
        double h=%(second)s;
        x[i]-=lr*h;
      }
    }
    for(int i=0;i<TILE;i++)xs[o+i]=x[i];
  }
}
"""
QUADRATIC = r"""
static const double lam[]={%(lam)s};
void run(double*xs,const uint64_t*seeds,long lanes,long steps,double lr,double rho){
  #pragma omp parallel for
  for(long o=0;o<lanes;o+=TILE){
    double x[%(dim)d][TILE],n[TILE];
    for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++)x[j][i]=xs[(o+i)*%(dim)d+j];
    for(long s=0;s<steps;s++){
      for(int i=0;i<TILE;i++)n[i]=0;
      for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++){double g=lam[j]*x[j][i];n[i]+=g*g;}
      for(int i=0;i<TILE;i++)n[i]=n[i]>0?rho/sqrt(n[i]):0;
      for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++){double y=x[j][i]+n[i]*lam[j]*x[j][i];x[j][i]-=lr*lam[j]*y;}
    }
    for(int j=0;j<%(dim)d;j++)for(int i=0;i<TILE;i++)xs[(o+i)*%(dim)d+j]=x[j][i];
  }
}
"""


def c_hinge(f: HingeProblem, stochastic: bool) -> str:
    """The C source of SAM on one hinge problem: every sample's derivative is computed, the drawn one is kept."""
    samples = f.components if stochastic else (f.mean,)
    functions = ""
    for k, h in enumerate(samples):
        hinges = "".join(f"+{c!r}*relu(x-({t!r}))" for t, c in h.hinges)
        functions += f"static inline double d{k}(double x){{return {h.a!r}+{h.b!r}*x{hinges};}}\n"
    if not stochastic:
        return HEAD + HINGE % {"functions": functions, "draw": "", "first": "d0(x[i])", "second": "d0(y)"}
    edge = int(np.ceil(f.probabilities[0] * 2.0**53))
    draw = f"int64_t u=(int64_t)(mix(mix(key[i]+by)+G)>>11); int k=u>={edge}LL;"
    return HEAD + HINGE % {"functions": functions, "draw": draw, "first": "k?d1(x[i]):d0(x[i])", "second": "k?d1(y):d0(y)"}


def c_engine(source: str, folder: str, name: str) -> Callable[..., np.ndarray] | None:
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

    def call(x0: np.ndarray, steps: int, lr: float, rho: float) -> np.ndarray:
        x, seeds = x0.copy(), np.arange(len(x0), dtype=np.uint64)
        run(*(ctypes.c_void_p(v.ctypes.data) for v in (x, seeds)), ctypes.c_long(len(x)), ctypes.c_long(steps),
            ctypes.c_double(lr), ctypes.c_double(rho))  # fmt: skip
        return x

    return call


def jax_engine(f: HingeProblem) -> Callable[..., np.ndarray] | None:
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
    return lambda x0, steps, lr, rho: np.asarray(compiled(x0, steps, lr, rho))


def python_engine(f: HingeProblem) -> Callable[..., np.ndarray]:
    """One float at a time."""

    def run(x0: np.ndarray, steps: int, lr: float, rho: float) -> np.ndarray:
        x, d = float(x0[0]), f.mean
        for _ in range(steps):
            g = d(x)
            x -= lr * d(x + rho * ((g > 0) - (g < 0)))
        return np.array([x])

    return run


def cases(folder: str):  # type: ignore[no-untyped-def]
    """Name, problem, method, start, lr, rho, the C source, steps."""
    rng, lanes = np.random.default_rng(0), 8192
    trap = problems()["trap"](theta=0.125, beta=2.0, rho=0.5)
    e1 = problems()["e1"](beta=1.0, mu=0.1, rho=1.0)
    lam = np.linspace(0.1, 2.0, 8)
    quadratic = problems()["quadratic"](curvatures=list(lam))
    source = HEAD + QUADRATIC % {"lam": ",".join(map(repr, lam.tolist())), "dim": 8}
    yield "trap, sam", trap, "sam", rng.uniform(-0.06, 0.3, lanes), 0.25, 0.5, c_hinge(trap, False), 16_000
    yield "e1, m-sam", e1, "m-sam", rng.uniform(3.0, 3.1, lanes), 0.25, 1.0, c_hinge(e1, True), 4000
    yield "quadratic d=8, sam", quadratic, "sam", rng.normal(size=(lanes, 8)), 0.25, 1.0, source, 400  # before 1e-290


def main() -> None:
    """Print one table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    _compiled.THREADS = options.threads
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, f, method, x0, lr, rho, source, steps) in enumerate(cases(folder)):

            def ours(x, steps, lr, rho, engine="compiled", f=f, method=method):  # type: ignore[no-untyped-def]
                k = {"seeds": np.arange(len(x)), "means": False, "engine": engine}
                return simulate(f, method=method, lr=lr, rho=rho, steps=steps, x0=x, **k).x_final.values

            engines = {"compiled": (ours, steps), "C": (c_engine(source, folder, f"case{number}"), steps)}
            engines["NumPy"] = (lambda *a, ours=ours: ours(*a, engine="numpy"), 20)
            if number == 0:
                engines |= {"JAX": (jax_engine(f), 400), "Python": (python_engine(f), 4000)}
            engines = {k: v for k, v in engines.items() if v[0] is not None}
            for k, (engine, _) in engines.items():  # warm, and the same numbers
                got = engine(x0, 20, lr, rho)
                if not np.allclose(got, ours(x0, 20, lr, rho)[: len(got)], atol=1e-9):
                    raise SystemExit(f"{k} computes something else")
            rates: dict[str, list[float]] = {k: [] for k in engines}
            for _ in range(options.rounds):
                for k, (engine, count) in engines.items():
                    begin = time.perf_counter()
                    lanes = len(engine(x0, count, lr, rho))
                    rates[k].append(lanes * count / (time.perf_counter() - begin))
            medians = {k: statistics.median(v) for k, v in rates.items()}
            print(f"{name}: {len(x0)} lanes, {options.threads} threads, median of {options.rounds}")
            for k, rate in medians.items():
                against = f", {rate / medians['C']:.3f} of C" if "C" in medians else ""
                print(f"  {k:9} {rate / 1e9:8.4f}e9 lane-steps/s{against}")


if __name__ == "__main__":
    main()
