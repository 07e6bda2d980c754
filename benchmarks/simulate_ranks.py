"""What a step takes on many ranks: a closed model, and a simulation that it is checked against.

A step is compute(B / P) and then the sums: arrays of gradients, one after the other, each by the
recursive halving of `pycnn.ranks.exchange`. In level l = 1 .. log2 P a rank exchanges 1 / 2^l of an
array with its partner, which takes alpha + beta bytes, and adds it, gamma bytes; the way back takes
the same without additions. So the closed model of K arrays of n bytes together is

    T(P) = compute(B / P) + 2 K log2(P) alpha + (P - 1) / P n (2 beta + gamma)

(Rabenseifner 2004; Thakur, Rabenseifner & Gropp 2005). It knows ranks that all begin at once. The
simulation follows every message of every rank, so each may begin when its own computing ends, and a
message may be late. Both leave out overlap, and a network in which messages disturb each other.

python -m benchmarks.simulate_ranks prints the tables of docs/ranks.md.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .timing import table

BUCKET = 1 << 20  # as in pycnn.ranks: bytes that travel together


@dataclass(frozen=True)
class Link:
    """alpha: seconds that a message takes at least; beta: seconds a byte, both ways at once."""

    name: str
    alpha: float
    beta: float


@dataclass(frozen=True)
class Work:
    """A network: bytes of its gradients, and seconds that a rank computes for one image."""

    name: str
    gradients: int
    image: float

    @property
    def buckets(self) -> list[int]:
        """Bytes of the arrays that travel: as many as there are whole buckets, at least one."""
        count = max(1, self.gradients // BUCKET)
        return [self.gradients // count] * count


# Measured by `--only ranks` on an AMD EPYC (Zen 4, 2 cores), 2026-11-28; see docs/ranks.md, where
# the sources of the other two stand.
SHARED = Link("shared memory", 1.8e-6, 1 / 12.4e9)
LINKS = (SHARED, Link("10 GbE", 50e-6, 1 / 1.1e9), Link("InfiniBand HDR", 1.2e-6, 1 / 24e9))
GAMMA = 1 / 7.8e9
# One rank is one core of that machine. ResNet-50 is computed: 24.6 GFLOP an image at 118 GFLOP/s.
WORKS = (
    Work("lecture", 452_648, 0.2e-3),
    Work("ResNet-20", 1_089_896, 1.65e-3),
    Work("ResNet-50", 102_000_000, 0.208),
)


def levels(ranks: int) -> int:
    """log2 of a number of ranks, which is a power of two."""
    if ranks < 1 or ranks & (ranks - 1):
        raise ValueError(f"ranks is {ranks}; expected a power of two.")
    return ranks.bit_length() - 1


def sums(ranks: int, arrays: Sequence[int], link: Link, gamma: float) -> float:
    """Seconds of adding up arrays of so many bytes on ranks that begin at once: closed."""
    share = (ranks - 1) / ranks * sum(arrays)
    return 2 * len(arrays) * levels(ranks) * link.alpha + share * (2 * link.beta + gamma)


def step(ranks: int, batch: int, work: Work, link: Link, gamma: float) -> float:
    """T(P)."""
    return batch / ranks * work.image + sums(ranks, work.buckets, link, gamma)


def simulate(
    begin: Sequence[float],
    arrays: Sequence[int],
    link: Link,
    gamma: float,
    noise: Callable[[], float] = lambda: 0.0,
) -> list[float]:
    """When each rank has all sums.

    begin: when each has computed its gradients; noise: seconds that a message takes longer.
    """
    ranks = len(begin)
    count = levels(ranks)
    # Message by message what a rank does: (level, bytes, seconds of additions).
    plan = [
        (level, size / 2 ** (level + 1), 0.0 if back else gamma * size / 2 ** (level + 1))
        for size in arrays
        for back in (False, True)
        for level in (range(count - 1, -1, -1) if back else range(count))
    ]
    at = [0] * ranks  # the place in the plan
    free = list(begin)  # when a rank is done with what stands before it
    sent = [0.0] * ranks  # when its own message of this place has left
    early: list[dict[int, float]] = [{} for _ in range(ranks)]  # arrivals before their time
    events: list[tuple[float, int, int]] = []  # (arrival, rank, place)

    def post(rank: int) -> None:
        level, size, _ = plan[at[rank]]
        sent[rank] = free[rank] + link.alpha + link.beta * size
        heapq.heappush(events, (sent[rank] + noise(), rank ^ (1 << level), at[rank]))

    if plan:
        for rank in range(ranks):
            post(rank)
    while events:
        arrival, rank, place = heapq.heappop(events)
        early[rank][place] = arrival
        while at[rank] in early[rank]:
            arrival = early[rank].pop(at[rank])
            free[rank] = max(arrival, sent[rank]) + plan[at[rank]][2]
            at[rank] += 1
            if at[rank] == len(plan):
                break
            post(rank)
    return free


def jittered(ranks: int, seconds: float, jitter: float, rng: np.random.Generator) -> list[float]:
    """Computing times that differ: normal, with a deviation of `jitter` times the mean."""
    return (seconds * np.maximum(0.1, rng.normal(1.0, jitter, ranks))).tolist()


@dataclass(frozen=True)
class Jitter:
    """Deviation of what a rank computes, as a share; mean delay of a message, in alphas."""

    computing: float = 0.0
    messages: float = 0.0


def simulated_step(
    ranks: int, batch: int, work: Work, link: Link, gamma: float, jitter: Jitter, seed: int = 0
) -> tuple[float, float]:
    """(seconds of a step, seconds that the slowest rank computes)."""
    rng = np.random.default_rng(seed)
    begin = jittered(ranks, batch / ranks * work.image, jitter.computing, rng)
    mean = jitter.messages * link.alpha
    # drawn many at once: a call of the generator for each message takes longer than the rest
    delays = (float(d) for _ in itertools.count() for d in rng.exponential(mean, 1 << 14))
    noise = delays.__next__ if mean else lambda: 0.0
    return max(simulate(begin, work.buckets, link, gamma, noise)), max(begin)


def most_ranks(batch: int, work: Work, link: Link, gamma: float, efficiency: float = 0.5) -> int:
    """The most ranks, a power of two up to the batch, that use so much of their time to compute."""
    best = 1
    for power in range(1, int(math.log2(batch)) + 1):
        ranks = 1 << power
        if batch / ranks * work.image >= efficiency * step(ranks, batch, work, link, gamma):
            best = ranks
    return best


BATCH = 8192  # of the paper scaling
SMALL = {"lecture": 100, "ResNet-20": 128, "ResNet-50": 256}  # batches that people train with
EVEN, COMPUTING, BOTH = Jitter(), Jitter(0.05), Jitter(0.05, 1.0)


def scaling() -> str:
    """Milliseconds of the sums, and the share of a step that computes."""
    rows = []
    for work, link in itertools.product(WORKS, LINKS):
        found = [f"{1e3 * sums(p, work.buckets, link, GAMMA):.2f} ms" for p in (2, 32, 1024)]
        for ranks in (32, 128, 1024):
            computing = BATCH / ranks * work.image
            found.append(f"{computing / step(ranks, BATCH, work, link, GAMMA):.0%}")
        rows.append([work.name, link.name, *found])
    headers = ("network", "link", "2 ranks", "32", "1,024", "32 ranks", "128", "1,024")
    return table(headers, rows)


def limits() -> str:
    """Up to how many ranks at least half of a step computes, for three batches."""
    rows = []
    for work, link in itertools.product(WORKS, LINKS):
        batches = [factor * SMALL[work.name] for factor in (1, 8, 64)]
        found = [f"{most_ranks(b, work, link, GAMMA):,} of {b:,}" for b in batches]
        rows.append([work.name, link.name, *found])
    return table(("network", "link", "ranks of batch", "8 times", "64 times"), rows)


def checks() -> str:
    """Milliseconds of a step by the model, and by the simulation with and without jitter."""
    rows = []
    for work, link, ranks in itertools.product(WORKS, LINKS, (8, 1024)):
        closed = step(ranks, BATCH, work, link, GAMMA)
        found = [
            simulated_step(ranks, BATCH, work, link, GAMMA, jitter)
            for jitter in (EVEN, COMPUTING, BOTH)
        ]
        times = (closed, found[0][0], found[1][1], found[1][0], found[2][0])
        rows.append([work.name, link.name, f"{ranks:,}", *(f"{1e3 * t:,.2f}" for t in times)])
    headers = ("network", "link", "ranks", "model", "simulated", "slowest computes", "with it")
    return table((*headers, "and late messages"), rows)


def main() -> None:
    """Print the tables."""
    print(f"the sums, and the share of a step that computes, batch {BATCH:,}\n{scaling()}")
    print(f"\nranks up to which half of a step computes\n{limits()}")
    print(f"\nms of a step, batch {BATCH:,}; jitter of 5 %, delays of alpha\n{checks()}")


if __name__ == "__main__":
    main()
