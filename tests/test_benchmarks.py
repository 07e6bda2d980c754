"""The benchmarks' own parts, as far as they need no clock: shapes, tables, JSON, errors."""

import json
import subprocess
import sys
from pathlib import Path

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn import datasets, ops

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is a folder of the checkout, not installed

from benchmarks import (  # noqa: E402
    __main__,
    augmentation_picture,
    bench_inference,
    bench_neighbour,
    bench_parity,
    bench_roofline,
    bench_sweep,
    bench_training,
    plots,
    recorder,
    shapes,
)
from benchmarks.peers import contest, network, peer_pycnn, worker  # noqa: E402


def test_every_network_is_complete():
    counts = {name: len(convolutions) for name, convolutions in shapes.NETWORKS.items()}
    assert counts == {
        "lenet5": 3, "lecture": 3, "resnet20": 8, "vgg11": 7, "resnet18": 11, "mobilenet": 19,
        "alexnet": 5, "resnet50": 23, "resnext": 7, "mobilenetv2": 30,
    }  # fmt: skip
    strings = {name: [str(c) for c in found] for name, found in shapes.NETWORKS.items()}
    assert strings["lenet5"] == [
        "28x28x1->6 5x5", "14x14x6->16 5x5 valid", "5x5x16->120 5x5 valid",
    ]  # fmt: skip
    assert strings["resnet18"][:4] == [
        "224x224x3->64 7x7/2", "56x56x64->64 3x3", "56x56x64->128 3x3/2", "56x56x64->128 1x1/2",
    ]  # fmt: skip
    assert strings["resnext"][1] == "56x56x256->256 g32 3x3/2"
    assert strings["mobilenetv2"][5:7] == ["56x56x96->24 1x1", "56x56x24->144 1x1"]
    assert strings["mobilenet"][-2:] == ["7x7x1024->1024 dw 3x3", "7x7x1024->1024 1x1"]


def test_every_point_comes_once():
    for quick in (False, True):
        found = [(p.convolution, p.batch) for p in shapes.points(quick=quick)]
        assert len(found) == len(set(found))
        assert {c for c, _ in found} == {c for n in shapes.NETWORKS.values() for c in n}
    batches = {}
    for point in shapes.points():
        batches.setdefault(point.convolution, set()).add(point.batch)
    small = {c for name in shapes.SMALL_NETWORKS for c in shapes.NETWORKS[name]}
    once = {p.convolution for p in shapes.points() if p.network == "mobilenetv2"}
    for convolution, sizes in batches.items():
        expected = {1} if convolution in once else {1, 16, 100} if convolution in small else {1, 16}
        assert sizes == expected


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_consecutive_layers_fit(name):
    """What one gives another takes, but for pools (in LeNet-5, the lecture, VGG and the stems)."""
    found = shapes.NETWORKS[name]
    inputs = [(c.size, c.C) for c in found]
    for convolution in found[:-1]:
        size = convolution.output_size
        sizes = {size, size // 2}
        assert any((s, convolution.OC) in inputs for s in sizes), str(convolution)


def test_flop_and_output_shape_are_pycnns():
    for point in shapes.points():
        c = point.convolution
        explained = pycnn.explain_conv2d(
            c.input_shape(point.batch),
            c.weight_shape,
            stride=c.stride,
            padding=c.padding,
            groups=c.groups,
        )
        assert explained.output_shape == c.output_shape(point.batch)
        assert explained.flop == c.flop(point.batch)


def test_a_contestants_convolution_is_ops():
    convolution = shapes.Convolution(9, 4, 4, kernel=3, stride=2, padding=1, groups=4)
    job = json.loads(json.dumps(convolution.as_job(2)))
    arrays = worker.conv_arrays(job)
    before = pycnn.get_num_threads()
    try:
        directions = peer_pycnn.convolution(job, arrays, 1, "")
        compiled = peer_pycnn.convolution(job, arrays, 1, "compiled")
    finally:
        pycnn.set_num_threads(before)
    assert tuple(directions) == shapes.DIRECTIONS
    assert tuple(compiled) == ("forward",)
    options = {"stride": 2, "padding": 1, "groups": 4}
    x, weight, bias, dy = (arrays[name] for name in ("x", "weight", "bias", "dy"))
    expected = (
        ops.conv2d(x, weight, bias, **options),
        ops.conv2d_backward_input(dy, weight, x.shape, **options),
        ops.conv2d_backward_weight(x, dy, weight.shape, **options),
    )
    for (call, read), array in zip(directions.values(), expected, strict=True):
        np.testing.assert_array_equal(read(call()), array)
    call, read = compiled["forward"]
    np.testing.assert_array_equal(read(call()), expected[0])
    assert worker.sampled(expected[0]) == worker.sampled(expected[0].copy())
    assert worker.sampled(expected[0]) != worker.sampled(expected[0] + 1)


@pytest.fixture
def sweep_rows():
    rows = []
    for i, point in enumerate(shapes.points(["lenet5"])):
        for direction in shapes.DIRECTIONS:
            row = bench_sweep.Row(point, direction, "direct", 4)
            row.theirs, row.ours = [2e-3, 3e-3, 7e-3], [1e-3 * (i + 1)] * 3
            rows.append(row)
    return [row.as_json(peak=100.0) for row in rows]


def test_the_sweeps_json_has_its_keys(sweep_rows):
    assert json.loads(json.dumps(sweep_rows[0])) == {
        "network": "lenet5", "shape": "28x28x1->6 5x5", "batch": 1, "direction": "forward",
        "convolution": {
            "size": 28, "C": 1, "OC": 6, "kernel": 5, "stride": 1, "padding": 2, "groups": 1,
        },
        "algorithm": "direct", "rounds": 4,
        "pytorch_min_s": 2e-3, "pytorch_median_s": 3e-3,
        "pycnn_min_s": 1e-3, "pycnn_median_s": 1e-3, "ratio_min": 2.0, "ratio_median": 3.0,
        "gflops": pytest.approx(2 * 28 * 28 * 25 * 6 / 1e-3 / 1e9),
        "share_of_peak": pytest.approx(2 * 28 * 28 * 25 * 6 / 1e-3 / 1e11),
    }  # fmt: skip


def test_the_sweeps_summary_and_text(sweep_rows):
    summary = bench_sweep.summary(sweep_rows)
    assert tuple(summary) == (*shapes.DIRECTIONS, "all")
    # Nine points: their ratios are 2/1, 2/2, ... 2/9.
    expected = 2 / np.prod(np.arange(1.0, 10.0)) ** (1 / 9)
    assert summary["all"]["geometric_mean_min"] == pytest.approx(expected)
    assert summary["forward"]["below_one"] == 7
    assert summary["all"]["cases"] == 27
    assert summary["all"]["worst"] == pytest.approx(2 / 9)
    contest = {"threads": 2, "versions": {"pycnn": "0"}, "seconds": 1.0, "rows": sweep_rows}
    text = bench_sweep.text({**contest, "comparison": "somebody", "summary": summary}, 4)
    lines = text.splitlines()
    assert sum(line.startswith("lenet5 ") for line in lines) == 27 + 10
    worst = lines[lines.index("The worst 10") + 3 :]
    assert all("  0.22  " in line for line in worst[:3])
    assert "  0.25  " in worst[3]


def test_a_slow_convolution_gets_fewer_rounds_but_some():
    assert bench_sweep.rounds_for(1e-4, 10) == 10
    assert 2 < bench_sweep.rounds_for(0.3, 10) < 10
    assert bench_sweep.rounds_for(60.0, 10) == bench_sweep.LEAST_ROUNDS


def test_fewer_rounds_are_told():
    point = shapes.points(["lecture"])[0]
    rows = [bench_sweep.Row(point, "forward", "direct", n, [1.0], [2.0]) for n in (2, 10)]
    notes = bench_sweep._notes(rows, 10, [0.0], {"pycnn": [0.0]})
    assert len(notes) == 1
    assert "1 of 2 cases had fewer than 10 rounds" in notes[0]
    notes = bench_sweep._notes(rows[1:], 10, [0.5], {"pycnn": [0.03]})
    assert [note.split(" ")[0] for note in notes] == ["WARNING:", "WARNING:"]


def test_the_recorder_sees_a_step_and_leaves_no_trace():
    functions = {name: f for name, f in vars(_pycnn).items() if callable(f)}
    images = np.random.default_rng(0).random((2, 4, 28, 28, 1), np.float32)
    labels = np.zeros((2, 4), np.int32)
    before = pycnn.get_num_threads()
    try:
        step = peer_pycnn.training(network.lecture_parameters(), images, labels, 1, "")
        with recorder.recording(recorder.Recorder()) as seen:
            seen.describing = True
            loss = step(0)
    finally:
        pycnn.set_num_threads(before)
    assert {name: f for name, f in vars(_pycnn).items() if callable(f)} == functions
    assert isinstance(loss, float)
    assert len(seen.operators) == len(seen.seconds) == len(seen.names)
    assert {"softmax_cross_entropy", "adam_all"} <= set(seen.names)
    # Forward and both gradients of each layer, without that of the images.
    assert sum(o.flop for o in seen.operators) == network.step_flop(4)
    adam = [o for o in seen.operators if o.name == "adam_all"]
    sizes = [4 * int(np.prod(shape)) for shape in network.parameter_shapes()]
    assert sum(o.read_bytes for o in adam) == 4 * sum(sizes)
    assert sum(o.written_bytes for o in adam) == 3 * sum(sizes)


def test_an_operators_arrays_are_told():
    x, y = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    told = recorder.describe("relu_backward", (y, x, x.copy()))
    assert told == recorder.Operator("relu_backward", "2x3 <- 2x3 *2", 48, 24, 0.0)
    result = np.ones((2, 10), np.float32)
    a, b = np.ones((2, 2048), np.float32), np.ones((2048, 10), np.float32)
    product = recorder.describe("matmul", (a, b, False, False, None), result)
    assert (product.written_bytes, product.flop) == (80, 2.0 * 2 * 2048 * 10)


@pytest.fixture
def roofline_report():
    operator = recorder.Operator("relu", "2x3 <- 2x3", 24, 24, 1000.0)
    peak = {1: 100.0, 2: 200.0}
    seconds = {n: [1e-3 / n, 2e-3 / n] for n in peak}
    return {
        "batch": 100, "isa": "avx2", "clock_ghz": 2.0, "fma_peak_gflops": peak,
        "copy_gbytes_per_s": {1: 10.0, 2: 15.0},
        "operators": [bench_roofline._operator_json(operator, seconds, 100, 2.0, peak)],
        "step": {
            n: bench_roofline._step_json([[s] for s in seconds[n]], [3e-3], 1e6, peak[n])
            for n in peak
        },
    }  # fmt: skip


def test_the_rooflines_json_and_table(roofline_report):
    row = roofline_report["operators"][0]
    assert set(row) == {
        "name", "arrays", "read_bytes", "written_bytes", "flop", "held_by", "threads",
    }  # fmt: skip
    assert set(row["threads"][1]) == {
        "min_s", "median_s", "cycles_per_image", "gflops", "share_of_peak", "gbytes_per_s",
    }  # fmt: skip
    assert row["threads"][1]["cycles_per_image"] == pytest.approx(20000.0)
    assert roofline_report["step"][1]["between_min_s"] == pytest.approx(2e-3)
    lines = bench_roofline.text(roofline_report).splitlines()
    assert [line.split("  ")[0] for line in lines[-4:]] == [
        "relu", "all operators", "the step", "between operators",
    ]  # fmt: skip
    without_clock = {**roofline_report, "clock_ghz": None}
    assert " - " in bench_roofline.text(without_clock)


def test_neighbours_summary():
    seconds = {"1 thread, quiet": [1.0, 3.0], "2 threads, quiet": [1.0], "2 threads, busy": [5.0]}
    result = bench_neighbour.summary(seconds)
    assert result["ratio"] == 2.5
    assert result["conditions"]["1 thread, quiet"] == {
        "mean_s": 2.0, "median_s": 2.0, "max_s": 3.0, "steps": 2,
    }  # fmt: skip
    assert bench_neighbour.text("pycnn", result, 100).endswith(": 2.50")


def test_the_neighbour_sleeps_outside_of_its_block():
    state = Path("/proc/self/stat")
    if not state.exists():
        pytest.skip("needs /proc")
    neighbour = bench_neighbour.Neighbour(sorted(bench_neighbour.os.sched_getaffinity(0)))
    try:
        with neighbour:
            assert neighbour._process.poll() is None
    finally:
        neighbour.close()
    assert neighbour._process.poll() is not None


def test_inference_at_its_better_thread_count():
    times = [("pycnn", 1, 1.0), ("pycnn", 2, 2.0), ("peer", 1, 9.0), ("peer", 2, 3.0)]
    contests = [{"name": n, "threads": t, "min_s": s, "median_s": s} for n, t, s in times]
    better = bench_inference.at_better_thread_count(contests)
    assert better["peer"] == {"min": 3.0, "median": 3.0, "min_threads": 2, "median_threads": 2}
    assert better["pycnn"]["min_threads"] == 1
    assert bench_inference.at_better_thread_count(contests[2:]) == {}


def test_blocks_of_training_are_shorter_for_large_batches():
    calls = [bench_training.calls_of(batch, 20) for batch in (1, 16, 100, 256, 1000)]
    assert calls == [200, 125, 20, 8, 3]


def options(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return __main__.parse_options()


def test_options(monkeypatch, tmp_path):
    parsed = options(monkeypatch, "--only", "training", "--batch-sizes", "16,32")
    assert parsed.batch_sizes == [16, 32]
    assert not parsed.threads_given
    monkeypatch.setattr(plots, "pyplot", lambda: None)
    png = tmp_path / "a.png"
    parsed = options(monkeypatch, "--only", "sweep", "--plot", str(png), "--threads", "2")
    assert parsed.threads_given
    assert __main__.plot_of("sweep", parsed) == png
    parsed = options(monkeypatch, "--only", "sweep", "roofline", "--plot", str(png))
    assert __main__.plot_of("roofline", parsed) == tmp_path / "a-roofline.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-sizes", "16,x"], "'x' is not an integer of at least 1"),
        (["--plot", "a.png"], "--plot draws sweep, roofline, accuracy"),
        (["--only", "sweep", "--plot", "/no/such/a.png"], "there is no folder /no/such"),
        (["--only", "sweep", "--networks", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_wrong_options_are_usage_errors(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        options(monkeypatch, *arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_matplotlib_is_told_before_anything_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plots.MissingPlotError, match=r"pip install 'pycnn\[plot\]'"):
        plots.pyplot()
    with pytest.raises(SystemExit):
        options(monkeypatch, "--only", "sweep", "--plot", str(tmp_path / "a.png"))
    assert "pip install 'pycnn[plot]'" in capsys.readouterr().err


def test_plots_are_drawn(sweep_rows, roofline_report, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    contest = {"comparison": "somebody", "threads": 2, "rows": sweep_rows[:1]}  # forward alone
    plots.ratios([contest, {**contest, "rows": sweep_rows}], tmp_path / "sweep.png")
    bench_roofline.draw(roofline_report, tmp_path / "roofline.png")
    for name in ("sweep.png", "roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_picture_of_augmentation_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    augmentation_picture.draw(tmp_path / "new" / "picture.png")
    written = (tmp_path / "new" / "picture.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    assert int.from_bytes(written[16:20], "big") == 800
    assert len(written) < 150_000


def test_a_picture_without_matplotlib_is_refused_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sys, "argv", ["augmentation_picture", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit) as ended:
        augmentation_picture.main()
    assert ended.value.code == 1
    assert "pip install 'pycnn[plot]'" in capsys.readouterr().err


def test_a_missing_peer_is_told(tmp_path):
    with (
        contest.Worker(contest.Contestant("no one", "peer_nobody"), sys.executable,
                       "convolution", 1) as nobody,
        pytest.raises(contest.WorkerError, match=r"not installed: .*peer_nobody"),
    ):  # fmt: skip
        nobody.prepare()


def test_help_names_every_section():
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for section in __main__.SECTIONS:
        assert section in run.stdout


@pytest.mark.slow
def test_parity_trains_with_the_kernels_that_it_names():
    split = datasets.load_mnist().train
    few = datasets.Split(split.images[:300], split.labels[:300])
    curves = {}
    for algorithm in ("auto", "direct", "naive"):
        model = bench_parity.network(3, algorithm)
        assert ("conv_pool" in model.plan()) == (algorithm == "auto")
        curves[algorithm] = bench_parity.train(model, few, 3, 1, 2)
    assert all(len(curve) == 2 for curve in curves.values())
    np.testing.assert_allclose(curves["direct"], curves["auto"], rtol=1e-4)
    np.testing.assert_allclose(curves["naive"], curves["auto"], rtol=1e-4)
    before = pycnn.get_precision()
    with bench_parity.precision("exact"):
        assert pycnn.get_precision() == "exact"
    assert pycnn.get_precision() == before


def test_parity_prints_every_seed():
    choices = {"auto": {"accuracies": [0.98, 0.99], "seconds": 3.0}}
    curves = {"auto": [2.0, 1.5], "naive": [2.0, 1.25]}
    naive = {"steps": 2, "losses": curves, "largest_difference": 0.25}
    text = bench_parity.text({"epochs": 2, "choices": choices, "naive": naive})
    assert "98.00, 99.00" in text
    assert "0.71" in text  # the standard deviation
    assert "differ by 0.25 at most" in text
