"""The section `networks` of the benchmarks, as far as it needs no clock and no peer."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the checkout, not installed

from benchmarks import bench_networks, networks, plots  # noqa: E402
from benchmarks.peers import peer_pycnn, sizes, worker  # noqa: E402


def contestants(**seconds):
    return {
        name.replace("_", " "): {"version": "1", "min_s": s, "median_s": 2 * s}
        for name, s in seconds.items()
    }


@pytest.fixture
def rows():
    found = []
    for what, network, batch, mine, first, second in (
        ("step", "resnet20", 128, 0.1, 0.2, None),
        ("answer", "vgg11", 1, 0.1, 0.4, 0.3),
        ("answer", "alexnet", 1, 0.1, 0.2, 0.075),
        ("answer", "vgg11", 16, None, 0.2, 0.1),
    ):
        names = [one.name for one in bench_networks.CONTESTANTS[what]]
        times = zip(names, (mine, first, second), strict=False)
        took = contestants(**{n.replace(" ", "_"): s for n, s in times if s})
        row = {"what": what, "network": network, "batch": batch, "rounds": 3, "difference": 1e-6}
        found.append({**row, "contestants": took, **bench_networks.ratios(took)})
    return found


def test_a_ratio_is_the_fastest_peers(rows):
    assert [row["ratio_min"] for row in rows] == pytest.approx([2.0, 3.0, 0.75, None])
    summary = bench_networks.summary(rows)
    assert set(summary) == {"step", "answer, batch 1"}
    one = summary["answer, batch 1"]
    assert one["geometric_mean_min"] == pytest.approx(1.5)
    assert one["worst"] == pytest.approx(0.75)
    assert (one["worst_network"], one["cases"]) == ("alexnet", 2)
    assert json.loads(json.dumps(summary)) == summary


def test_the_table_tells_what_is_missing(rows):
    text = bench_networks.text("answer", rows[1:], 2)
    lines = [line.split() for line in text.splitlines() if line.startswith(("vgg11", "alexnet"))]
    assert [line[:3] for line in lines] == [
        ["vgg11", "1", "100.00"], ["alexnet", "1", "100.00"], ["vgg11", "16", "-"],
    ]  # fmt: skip
    assert "geometric mean 1.50 of minima" in text
    assert "worst 0.75 (alexnet)" in text


def test_differences_are_shares_of_the_largest_value():
    replies = {str(i): {"values": {"answer": v}} for i, v in enumerate(([4.0, -8.0], [4.0, -7.0]))}
    assert bench_networks.largest_difference(replies, "answer") == pytest.approx(1 / 8)


def test_the_plot_is_drawn(rows, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    plots.networks({"rows": rows, "threads": 2}, tmp_path / "networks.png")
    assert (tmp_path / "networks.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", sizes.STEPS)
def test_every_step_has_its_network(name):
    N, H, W, C = sizes.STEPS[name][1]
    shape = networks.make(name).output_shape((N, H, W, C))
    classes = sizes.CLASSES.get(name, 1000)
    assert shape == ((N, H, W, classes) if name == "unet" else (N, classes))
    images, labels = sizes.step_data(name)
    assert (images.shape, labels.max() < classes) == ((N, H, W, C), True)
    assert labels.shape == shape[:-1]


def test_a_contestant_steps(monkeypatch):
    """The loss of the same batch falls; a worker answers with it."""
    monkeypatch.setitem(sizes.STEPS, "resnet20", ("", (4, 8, 8, 3)))
    images, labels = sizes.step_data("resnet20")
    step = peer_pycnn.network_step(networks.make("resnet20"), images, labels)
    cases = worker.Cases(lambda job: {job["what"]: (step, lambda loss: np.array([loss]))})
    reply = cases({"build": {"what": "step"}})
    first = reply["values"]["step"][0]
    assert len(cases({"direction": "step", "samples": 2, "sample_s": 1e-3})["seconds"]) == 2
    assert step() < first
