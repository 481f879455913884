#!/usr/bin/env python3
"""Times klshampoo against its PyTorch peers: makes a virtual environment, builds the library, measures, prints tables of ratios.

Needs Python 3.11 (3.12 for all peers), Rust and a C++ compiler (for torch.compile). `--help` lists the options.
"""

import os
import subprocess
import sys
from pathlib import Path

import build
import options
from contenders import CONTENDERS
from environment import SetupError, Environment, peer_requirements
from job import Job

HERE = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)


def measure(environment: Environment, job: Job, folder: Path) -> bool:
    """One process for one number of threads, which all of its libraries hear of."""
    job_file = folder / f"job-{job.threads}.json"
    job.save(job_file)
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    # Compiling in the process itself leaves no workers behind that would run beside the clock.
    variables = os.environ | threads | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    if job.preload:
        variables["LD_PRELOAD"] = job.preload
    # What compilers and peers say as they go is for the log.
    with open(job.log, "w") as log:
        done = subprocess.run([environment.python, HERE / "measure.py", job_file], env=variables, stderr=log)
    if done.returncode:
        last = "".join(Path(job.log).read_text().splitlines(keepends=True)[-20:])
        print(f"\n{last}\nFAILED: measuring with {job.threads} thread(s) ended with {done.returncode}; {job.log}", file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        print(f"this is Python {sys.version.split()[0]}; it takes {'.'.join(map(str, OLDEST_PYTHON))} or newer", file=sys.stderr)
        return 2
    target = build.target_folder()
    chosen = options.parse(target)
    needed = {contender.package for contender in CONTENDERS if contender.adapter in chosen.peers and contender.package}
    requirements = peer_requirements(chosen.install, {contender.package for contender in CONTENDERS if contender.package})
    library = chosen.library or build.library()
    product_rate = build.product_rate()
    environment = Environment(chosen.venv.resolve())
    environment.make()
    unavailable = environment.install_peers({name: line for name, line in requirements.items() if name in needed})

    folder = target / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    preload = str(build.mkl_as_on_intel(folder)) if chosen.mkl_as_on_intel else ""
    results, complete = [], True
    for threads in chosen.threads:
        result = folder / f"result-{threads}.json"
        result.unlink(missing_ok=True)
        job = Job(
            threads=threads,
            sets=chosen.sets,
            adapters=chosen.peers,
            steps=chosen.steps,
            rounds=chosen.rounds,
            limit=chosen.limit,
            library=str(library),
            product_rate=str(product_rate),
            unavailable=unavailable,
            result=str(result),
            log=str(folder / f"log-{threads}.txt"),
            preload=preload,
        )
        complete &= measure(environment, job, folder)
        if result.exists():
            results.append(result)
    if results:
        to_csv = ["--csv", chosen.csv] if chosen.csv else []
        subprocess.run([environment.python, HERE / "report.py", *results, *to_csv], check=True)
    return 0 if complete else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SetupError, build.BuildError) as error:
        sys.exit(f"run.py: {error}")
