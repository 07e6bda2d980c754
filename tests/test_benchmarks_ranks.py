"""The benchmark of ranks, without a clock and without MPI: the model, its simulation, the sums."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the checkout, not installed

from benchmarks import bench_ranks, networks, simulate_ranks  # noqa: E402
from benchmarks.simulate_ranks import Jitter, Link, Work  # noqa: E402
from pycnn.ranks import gradients  # noqa: E402

LINK, GAMMA = Link("a link", 1e-3, 1e-6), 3e-6


def test_the_model_of_four_ranks_by_hand():
    # Two arrays of 800 bytes: 400 + 200 bytes there, added, and back, each in 2 levels.
    each = 2 * (1e-3 + 400e-6) + 2 * (1e-3 + 200e-6) + 600 * 3e-6
    assert simulate_ranks.sums(4, [800, 800], LINK, GAMMA) == pytest.approx(2 * each)
    assert simulate_ranks.sums(1, [800], LINK, GAMMA) == 0
    work = Work("small", 800, 0.01)
    assert simulate_ranks.step(4, 100, work, LINK, GAMMA) == pytest.approx(0.25 + each)
    with pytest.raises(ValueError, match="ranks is 6; expected a power of two"):
        simulate_ranks.sums(6, [800], LINK, GAMMA)


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_the_simulation_is_the_model_where_all_begin_at_once(count):
    for arrays in ([1000], [4000, 300, 70]):
        done = simulate_ranks.simulate([0.5] * count, arrays, LINK, GAMMA)
        expected = 0.5 + simulate_ranks.sums(count, arrays, LINK, GAMMA)
        assert done == pytest.approx([expected] * count, rel=1e-9)


def test_the_slowest_rank_bounds_the_step():
    """All wait for it and nobody for more: the sums of the others are its sums too."""
    work = Work("small", 3_000_000, 1.0)
    for seed in range(3):
        found, slowest = simulate_ranks.simulated_step(16, 64, work, LINK, GAMMA, Jitter(0.1), seed)
        assert slowest > 1.05 * 4.0
        expected = slowest + simulate_ranks.sums(16, work.buckets, LINK, GAMMA)
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_rank_that_is_early_waits_for_its_partner_alone():
    begin = [0.0, 0.0, 5.0, 0.0]
    done = simulate_ranks.simulate(begin, [800], LINK, 0.0)
    assert done == pytest.approx([5.0 + simulate_ranks.sums(4, [800], LINK, 0.0)] * 4)
    # In one level, rank 0 and 1 know nothing of rank 2: only the second level waits.
    first = simulate_ranks.simulate(begin[:2], [800], LINK, 0.0)
    assert max(first) < 0.01


def test_late_messages_cost_more_than_their_mean():
    """A level waits for the latest of many messages."""
    work = Work("small", 800, 0.01)
    even, _ = simulate_ranks.simulated_step(64, 64, work, LINK, GAMMA, Jitter())
    late, _ = simulate_ranks.simulated_step(64, 64, work, LINK, GAMMA, Jitter(0.0, 1.0))
    assert late > even + 2 * 6 * LINK.alpha


def test_most_ranks():
    work = Work("small", 800, 0.01)
    # 128 images: 1.28 s / P of computing; sums below 1 s / P up to some ranks.
    best = simulate_ranks.most_ranks(128, work, LINK, GAMMA)
    for count, enough in ((best, True), (2 * best, False)):
        computing = 1.28 / count
        assert (computing >= 0.5 * simulate_ranks.step(count, 128, work, LINK, GAMMA)) is enough
    assert simulate_ranks.most_ranks(16, work, Link("none", 0.0, 0.0), 0.0) == 16


def test_buckets_are_those_of_the_package():
    assert simulate_ranks.BUCKET == gradients.BUCKET
    assert Work("small", 1000, 0.0).buckets == [1000]
    assert Work("large", 5 << 20, 0.0).buckets == [1 << 20] * 5


def test_what_overlap_hides():
    found = {"with": [1.04, 1.5], "without": [1.1, 1.4], "no sums": [1.0, 1.2]}
    hidden = bench_ranks.hidden(found)
    assert hidden["hidden_min"] == pytest.approx(0.6)
    assert hidden["sums_min_s"] == pytest.approx(0.1)
    assert hidden["left_min_s"] == pytest.approx(0.04)
    # In pairs: 0.04 and 0.3 with overlap, 0.1 and 0.2 without.
    assert hidden["hidden_median"] == pytest.approx(1 - 0.17 / 0.15)


def test_resnet18_is_torchvisions():
    model = networks.make("resnet18")
    arrays = dict(model.named_arrays())
    assert sum(p.data.size for p in model.parameters()) == 11_689_512
    assert {"layer2.0.downsample.0.weight", "layer4.1.bn2.running_var"} <= set(arrays)
    assert model.forward(np.ones((1, 40, 33, 3), np.float32)).shape == (1, 1000)


@pytest.mark.slow
def test_steps_over_a_slow_link_take_as_long_as_its_messages():
    pytest.importorskip("mpi4py", reason="the extra `mpi` is not installed")
    job = {"job": "overlap", "network": "lecture", "batch": 16, "slots": 2, "threads": 1}
    # One bucket: half of the gradients there and back, of some 0.45 MB, so 40 and some 22 ms.
    started = bench_ranks.command({**job, "mpi": True, "steps": 3, "link": (20e-3, 50e-9)})
    found = bench_ranks.answer(started)
    assert [len(seconds) for seconds in found.values()] == [3, 3, 3]
    for name in ("with", "without"):
        assert 0.05 < min(found[name]) - min(found["no sums"]) < 0.2


def test_a_job_that_fails_is_told_by_its_last_line():
    failing = [sys.executable, "-c", "import sys; sys.exit('one\\ntwo')"]
    with pytest.raises(bench_ranks.JobError, match=r"^two$"):
        bench_ranks.answer(failing)
