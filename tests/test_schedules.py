"""Learning-rate schedules: closed forms, PyTorch's numbers, lengths from the run, sentences."""

import math
import warnings

import numpy as np
import pytest

from pycnn.schedules import (
    Constant,
    Cosine,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    Warmup,
)


def factors(schedule, count):
    return [schedule(step) for step in range(count)]


def test_constant():
    assert factors(Constant(), 3) == [1, 1, 1]


def test_step_decay():
    assert factors(StepDecay(2, 0.5), 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    epoch = StepDecay()
    epoch.bind(12, 3)
    np.testing.assert_allclose(factors(epoch, 7), [1, 1, 1, 0.7, 0.7, 0.7, 0.49], rtol=1e-15)
    given = StepDecay(2)
    given.bind(12, 3)
    assert given(2) == 0.7


def test_cosine():
    schedule = Cosine(4, end=0.2)
    half = math.sqrt(0.5)
    exact = [1, 0.2 + 0.4 * (1 + half), 0.6, 0.2 + 0.4 * (1 - half), 0.2, 0.2]
    np.testing.assert_allclose(factors(schedule, 6), exact, rtol=1e-14)


def test_one_cycle_is_a_triangle():
    schedule = OneCycle(10, warmup=0.5, start=0.2, end=0.1)
    exact = [0.2, 0.4, 0.6, 0.8, 1, 0.82, 0.64, 0.46, 0.28, 0.1, 0.1]
    np.testing.assert_allclose(factors(schedule, 11), exact, rtol=1e-14)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total", [1, 2, 10])
@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_one_cycle_of_any_length_stays_between_0_and_1(warmup, total, shape):
    found = factors(OneCycle(total, warmup=warmup, shape=shape), 2 * total)
    assert all(0 <= factor <= 1 for factor in found)


@pytest.mark.parametrize("warmup", [0.0, 0.2, 1.0])
def test_one_cycle_of_one_step_is_its_peak(warmup):
    assert OneCycle(1, warmup=warmup)(0) == 1
    schedule = OneCycle(warmup=warmup)
    schedule.bind(1, 1)
    assert schedule(0) == 1


def test_warmup_then_another():
    schedule = Warmup(4, Cosine())
    schedule.bind(14, 7)  # the cosine has the other ten steps
    assert factors(schedule, 5) == [0.25, 0.5, 0.75, 1, 1]
    assert schedule(9) == pytest.approx(0.5)
    assert schedule(14) == pytest.approx(0, abs=1e-15)
    assert factors(Warmup(2), 4) == [0.5, 1, 1, 1]


def rows(values, name="val_loss"):
    return [{name: value} for value in values]


def test_reduce_on_plateau():
    schedule = ReduceOnPlateau(factor=0.5, patience=1, threshold=0.1, minimum=0.2)
    found = []
    for row in rows([1.0, 0.95, 0.95, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]):
        schedule.observe(row)
        found.append(schedule(0))
    assert found == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_what_should_grow():
    schedule = ReduceOnPlateau(factor=0.5, patience=0, monitor="val_accuracy")
    found = []
    for row in rows([0.5, 0.6, 0.6, 0.7], "val_accuracy"):
        schedule.observe(row)
        found.append(schedule(0))
    assert found == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Warmup(3, s)])
def test_the_state_of_a_plateau_goes_round(wrap):
    values = [1, 0.5, 0.6, 0.6, math.nan, 0.6, 0.6]
    whole, first, second = (wrap(ReduceOnPlateau(0.5, patience=1)) for _ in range(3))
    for row in rows(values):
        whole.observe(row)
    for row in rows(values[:3]):
        first.observe(row)
    second.load_state(first.state())
    for row in rows(values[3:]):
        second.observe(row)
    assert whole(9) < 1
    assert second(9) == whole(9)
    assert second.state() == whole.state()


def test_lengths_that_are_not_known():
    for schedule in (StepDecay(), Cosine(), OneCycle(), Warmup(1, Cosine())):
        with pytest.raises(RuntimeError, match=r"is not known; pass it, or call bind"):
            schedule(1)
    with pytest.raises(NotImplementedError, match="must define __call__"):
        Schedule()(0)
    with pytest.raises(ValueError, match="val_loss', which this run does not measure"):
        ReduceOnPlateau().observe({"loss": 1.0})


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert StepDecay(np.int64(2))(2) == 0.7


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: StepDecay(0), ValueError, "every is 0; expected a whole number, 1 or more"),
        (lambda: StepDecay(1.5), ValueError, "every is 1.5"),
        (lambda: StepDecay(True), ValueError, "every is True"),
        (lambda: StepDecay(1, 2), ValueError, "gamma is 2; expected 0 to 1"),
        (lambda: StepDecay(1, "x"), ValueError, "gamma is 'x'"),
        (lambda: Cosine(4, math.nan), ValueError, "end is nan; expected 0 to 1"),
        (lambda: OneCycle(shape="cos"), ValueError, "shape is 'cos'; expected \"linear\" or"),
        (lambda: OneCycle(warmup=20), ValueError, "warmup is 20; expected 0 to 1"),
        (lambda: Warmup(3, 1.0), TypeError, "then is 1.0; expected a schedule"),
        (lambda: ReduceOnPlateau(1.0), ValueError, "factor is 1.0; expected between 0 and 1"),
        (lambda: ReduceOnPlateau(0.0), ValueError, "factor is 0.0; expected between 0 and 1"),
        (lambda: ReduceOnPlateau(patience=-1), ValueError, "patience is -1"),
    ],
)
def test_wrong_numbers(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="compares with torch, which is not installed")


LR = 0.3
PEERS = {
    "step": (StepDecay(3, 0.7), lambda s, o: s.StepLR(o, 3, 0.7)),
    "cosine": (Cosine(20), lambda s, o: s.CosineAnnealingLR(o, 20)),
    "cosine_end": (Cosine(20, 0.1), lambda s, o: s.CosineAnnealingLR(o, 20, 0.1 * LR)),
    **{
        f"one_cycle_{shape}_{warmup}": (
            OneCycle(20, warmup=warmup, start=0.1, end=1e-3, shape=shape),
            lambda s, o, warmup=warmup, strategy=strategy: s.OneCycleLR(
                o, LR, 20, pct_start=warmup, anneal_strategy=strategy,
                div_factor=10, final_div_factor=100, cycle_momentum=False,
            ),
        )
        for shape, strategy in (("linear", "linear"), ("cosine", "cos"))
        for warmup in (0.2, 0.33, 0.5, 1.0)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_schedules_are_torchs(torch, name):
    """Torch multiplies its lr step by step, so it rounds a few times a step."""
    ours, make = PEERS[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = make(torch.optim.lr_scheduler, optimizer)
    for step in range(20):
        lr = optimizer.param_groups[0]["lr"]
        assert LR * ours(step) == pytest.approx(lr, rel=1e-12, abs=1e-14), step
        optimizer.step()
        if step < 19:
            theirs.step()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_plateau_is_torchs(torch, rng, mode):
    name = "val_loss" if mode == "min" else "val_accuracy"
    ours = ReduceOnPlateau(0.5, 2, threshold=0.01, minimum=0.01, monitor=name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=2, threshold=0.01, min_lr=0.01 * LR
    )
    for epoch in range(60):
        value = float(1 + 0.2 * rng.random() + (-1 if mode == "min" else 1) * 0.01 * epoch)
        ours.observe({name: value})
        theirs.step(value)
        lr = optimizer.param_groups[0]["lr"]
        assert LR * ours(epoch) == pytest.approx(lr, rel=1e-12), epoch
    assert ours(0) < 0.1


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_one_cycle_of_one_step_is_at_the_peak_and_then_at_its_end(shape):
    schedule = OneCycle(total=1, end=0.25, shape=shape)
    assert [schedule(step) for step in range(3)] == [1.0, 0.25, 0.25]
