"""`python -m benchmarks`: see README.md in this folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

DEFAULT_SECTIONS = ("kernels", "gemm", "training", "inference")
SECTIONS = (
    *DEFAULT_SECTIONS,
    "sweep",
    "roofline",
    "neighbour",
    "parity",
    "accuracy",
    "trainer",
    "memory",
    "networks",
    "ranks",
)
NEED_PYCNN = (
    "kernels",
    "gemm",
    "sweep",
    "roofline",
    "neighbour",
    "parity",
    "accuracy",
    "trainer",
    "memory",
    "networks",
    "ranks",
)
PLOTTED = ("sweep", "roofline", "accuracy", "networks")


def main() -> int:
    """Run the chosen sections, print their tables, write the JSON file."""
    options = parse_options()
    # NumPy's BLAS reads these when it is loaded; the GEMM section sets them for its own processes.
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(variable, None)
    from . import machine

    report: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "left_out": {},
    }
    load = os.getloadavg()[0]
    print(f"{machine.cpu_name()}, {machine.cpu_count()} CPUs, load average {load:.2f}")
    pycnn_error = find_pycnn()
    peak: dict[int, float] = {}
    if pycnn_error:
        print(f"pycnn is left out: {pycnn_error}")
    else:
        import pycnn

        options.threads = options.threads or sorted({1, pycnn.get_num_threads()})
        peak = {count: machine.fma_peak(count) for count in sorted({1, *options.threads})}
        report["machine"].update(isa=pycnn.isa(), fma_peak_gflops=peak, pycnn=pycnn.__version__)
        for count, gflops in peak.items():
            print(f"FMA peak, {pycnn.isa()}, {count} thread(s): {gflops:.1f} GFLOP/s")
    options.threads = options.threads or sorted({1, machine.cpu_count()})
    for section in options.only:
        warning = machine.busy_warning()
        if warning:
            print(warning)
            report.setdefault("warnings", []).append(f"before {section}: {warning}")
        if section in NEED_PYCNN and pycnn_error:
            print(f"\n{section}: needs pycnn, left out")
            report["left_out"][section] = pycnn_error
            continue
        report[section] = run_section(section, options, peak)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nwritten: {options.json}")
    return 0


def run_section(
    section: str, options: argparse.Namespace, peak: dict[int, float]
) -> dict[str, Any]:
    """Run one section with the options that concern it."""
    repeats = options.repeats
    if section == "kernels":
        from . import bench_kernels

        return bench_kernels.run(batch=options.batch, repeats=repeats)
    if section == "gemm":
        from . import bench_gemm

        return bench_gemm.run(threads=options.threads, repeats=max(2, repeats // 2))
    if section == "sweep":
        from . import bench_sweep, shapes

        return bench_sweep.run(
            threads=options.threads if options.threads_given else options.threads[-1:],
            rounds=repeats,
            networks=[name for name in options.networks if name in shapes.NETWORKS],
            quick=options.quick,
            peers_python=options.peers_python,
            peak=peak,
            plot=plot_of(section, options),
        )
    if section == "roofline":
        from . import bench_roofline

        return bench_roofline.run(
            threads=options.threads,
            batch=options.batch,
            rounds=repeats,
            calls=options.calls,
            plot=plot_of(section, options),
        )
    if section == "memory":
        from . import bench_memory

        return bench_memory.run(
            threads=options.threads[-1],
            rounds=1 if options.quick else 3,
            peers_python=options.peers_python,
        )
    if section == "networks":
        from . import bench_networks

        return bench_networks.run(
            threads=options.threads[-1],
            rounds=repeats,
            batches=options.batch_sizes or [1, 16],
            networks=options.networks,
            parts=options.parts,
            peers_python=options.peers_python,
            plot=plot_of(section, options),
        )
    if section == "ranks":
        from . import bench_ranks

        return bench_ranks.run(
            rounds=repeats, quick=options.quick, peers_python=options.peers_python
        )
    if section == "neighbour":
        from . import bench_neighbour

        return bench_neighbour.run(
            threads=max(2, options.threads[-1]),
            batch=options.batch,
            quick=options.quick,
            peers_python=options.peers_python,
        )
    if section == "parity":
        from . import bench_parity

        return bench_parity.run(quick=options.quick)
    if section == "accuracy":
        from . import bench_accuracy

        return bench_accuracy.run(
            names=options.recipes,
            seeds=min(options.seeds, 2) if options.quick else options.seeds,
            threads=options.threads[-1],
            quick=options.quick,
            peers_python=options.peers_python,
            plot=plot_of(section, options),
        )
    if section == "trainer":
        from . import bench_trainer

        return bench_trainer.run(threads=options.threads[-1], quick=options.quick)
    return run_contest(section, options, peak)


def run_contest(
    section: str, options: argparse.Namespace, peak: dict[int, float]
) -> dict[str, Any]:
    """Run `training` or `inference`."""
    common: dict[str, Any] = {
        "threads": options.threads,
        "rounds": options.repeats,
        "calls": options.calls,
        "peers_python": options.peers_python,
        "peak": peak,
    }
    if section == "training":
        from . import bench_training

        return bench_training.run(batches=options.batch_sizes or [options.batch], **common)
    from . import bench_inference

    return bench_inference.run(batches=options.batch_sizes or [options.batch, 1], **common)


def plot_of(section: str, options: argparse.Namespace) -> Path | None:
    """The file of a section's plot; its name holds the section's if two are drawn."""
    path: Path | None = options.plot
    if path is None or sum(name in PLOTTED for name in options.only) < 2:
        return path
    return path.with_name(f"{path.stem}-{section}{path.suffix}")


def find_pycnn() -> str | None:
    """Why pycnn can't be imported, or None when it can."""
    try:
        import _pycnn

        import pycnn
    except ImportError as error:
        return str(error)
    complete = hasattr(_pycnn, "fma_peak") and hasattr(pycnn, "available_isas")
    return None if complete else "the pycnn that was found has no fma_peak or no available_isas"


def parse_options() -> argparse.Namespace:
    """The command line; a wrong value is a usage error (exit code 2)."""
    from . import plots
    from .peers.sizes import ANSWERS, PARTS, STEPS
    from .shapes import NETWORKS

    networks = list(dict.fromkeys((*NETWORKS, *STEPS, *ANSWERS)))

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="pycnn beside this machine's FMA peak, NumPy, and every installed peer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--threads",
        type=positive,
        nargs="+",
        metavar="N",
        default=argparse.SUPPRESS,
        help="thread counts to measure, as in --threads 1 2 (default: 1 and pycnn's own choice)",
    )
    add("--only", choices=SECTIONS, nargs="+", default=DEFAULT_SECTIONS, help="sections to run")
    add(
        "--batch-sizes",
        type=sizes,
        metavar="N,N",
        help="of training, inference and networks, as in 16,32,256,1000 (default: --batch, "
        "inference also 1; networks 1,16)",
    )
    add(
        "--networks",
        choices=networks,
        nargs="+",
        default=networks,
        help="that `networks` times, and whose convolutions sweep takes",
    )
    add("--parts", choices=PARTS, nargs="+", default=list(PARTS), help="of `networks`")
    add(
        "--recipes",
        choices=("lecture", "fast", "best"),
        nargs="+",
        default=["fast"],
        help="that accuracy trains",
    )
    add("--seeds", type=positive, default=10, metavar="N", help="of accuracy")
    add("--batch", type=positive, default=100, metavar="N", help="images in a batch")
    add("--repeats", type=positive, default=10, metavar="N", help="interleaved rounds")
    add("--quick", action="store_true", help="3 rounds of 5 calls: does it work, not how fast")
    add("--json", type=Path, metavar="FILE", help="also write all results to this file")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="also draw the results of sweep, roofline and accuracy as PNG",
    )
    add(
        "--peers-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter with the peers' packages, when it is not this one",
    )
    options = parser.parse_args()
    options.threads = sorted(set(getattr(options, "threads", [])))
    options.threads_given = bool(options.threads)
    options.calls = 20
    if options.quick:
        options.repeats, options.calls = min(options.repeats, 3), 5
    if not shutil.which(options.peers_python):
        parser.error(f"--peers-python {options.peers_python}: there is no such program")
    for name, path in (("json", options.json), ("plot", options.plot)):
        if path and not path.resolve().parent.is_dir():
            parser.error(f"--{name} {path}: there is no folder {path.resolve().parent}")
    if options.plot:
        if not set(PLOTTED) & set(options.only):
            parser.error(f"--plot draws {', '.join(PLOTTED)}: write --only {PLOTTED[0]}")
        try:
            plots.pyplot()
        except plots.MissingPlotError as error:
            parser.error(str(error))
    return options


def positive(text: str) -> int:
    """An integer of at least 1, or a usage error."""
    value = int(text) if text.strip().lstrip("+").isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return value


def sizes(text: str) -> list[int]:
    """Positive integers between commas, or a usage error."""
    return [positive(part) for part in text.split(",")]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written", file=sys.stderr)
        sys.exit(130)
