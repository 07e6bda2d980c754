"""Which epoch counts as the best: ties, another folder, min_delta, and a plateau's memory."""

import numpy as np
import pytest
from trainer_cases import make_data, make_trainer

from pycnn import callbacks, checkpoint, schedules
from pycnn.callbacks import Callback

TRAIN, VALIDATION = make_data(), make_data(13, seed=1)


class Script(Callback):
    """Makes the rows of the History say this, before the others see them."""

    def __init__(self, values, name="val_accuracy"):
        self.values, self.name = values, name

    def on_epoch_end(self, trainer, row):
        row[self.name] = self.values[row["epoch"]]


def run(values, *stock, epochs=None, path=None):
    trainer = make_trainer(
        Script(values), *stock, ema=False, schedule=schedules.Constant(), optimizer=None
    )
    if path is not None:
        checkpoint.load(trainer, path)
    trainer.fit(TRAIN, VALIDATION, epochs=epochs or len(values), batch_size=12)
    return trainer


def best_epoch(folder):
    return checkpoint.read(folder / "best.safetensors")[1]["position"]["epoch"]


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.5, 0.6, 0.6, 0.6], 2), ([0.5, 0.5], 1), ([0.6, 0.5, 0.6], 1), ([0.5, 0.6, 0.7], 3)],
)
def test_the_first_of_equal_epochs_is_the_best_checkpoint(tmp_path, values, best):
    run(values, callbacks.Checkpoint(tmp_path))
    assert best_epoch(tmp_path) == best


def test_a_run_that_goes_on_in_another_folder_has_a_best_there(tmp_path):
    """The best of the first folder, 0.9, is not in the second: there the first epoch is."""
    values = [0.9, 0.4, 0.5, 0.45]
    run(values, callbacks.Checkpoint(tmp_path / "a"), epochs=1)
    last = tmp_path / "a" / "last.safetensors"
    run(values, callbacks.Checkpoint(tmp_path / "b"), path=last)
    assert best_epoch(tmp_path / "b") == 3
    run(values, callbacks.Checkpoint(tmp_path / "a"), path=last)
    assert best_epoch(tmp_path / "a") == 1


@pytest.mark.parametrize(
    ("values", "min_delta", "epochs", "best"),
    [
        ([0.5, 0.625, 0.625, 0.9], 0.125, 3, 0.5),  # no more than min_delta better: no gain
        ([0.5, 0.5625, 0.6875, 0.75, 0.8125], 0.125, 5, 0.6875),  # against the best, not the last
        ([0.5, 0.5, 0.5, 0.9], 0.0, 3, 0.5),
        ([0.5, 0.5625, 0.625, 0.75, 0.75], 0.0, 5, 0.75),
    ],
)
def test_min_delta(values, min_delta, epochs, best):
    """All are multiples of 1/16, or far from a tie: differences are exact."""
    stopper = callbacks.EarlyStopping(2, min_delta=min_delta)
    trainer = run(values, stopper)
    assert (trainer.epoch, stopper.best) == (epochs, best)


LOSSES = [1.0, 0.5, 0.6, 0.45, 0.44, 0.7, 0.7, 0.4, 0.41, 0.42, 0.43, 0.39, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: schedules.Warmup(3, s)])
@pytest.mark.parametrize("cut", range(1, len(LOSSES)))
def test_a_plateau_s_memory_goes_on_wherever_it_is_cut(wrap, cut):
    """Factor, best and count each decide a later epoch, so none may be lost or mixed up."""

    def factors(schedule, values):
        found = []
        for value in values:
            schedule.observe({"val_loss": value})
            found.append(schedule(9))
        return found

    whole, first, second = (
        wrap(schedules.ReduceOnPlateau(0.5, 1, threshold=0.05)) for _ in range(3)
    )
    expected = factors(whole, LOSSES)
    assert len(set(expected)) == 5
    assert factors(first, LOSSES[:cut]) == expected[:cut]
    second.load_state(first.state())
    assert second(9) == first(9)
    assert factors(second, LOSSES[cut:]) == expected[cut:]


def test_a_plateau_s_state_by_its_parts():
    schedule = schedules.ReduceOnPlateau(0.5, patience=1)
    for value in (1.0, 2.0, 2.0, 0.75, 3.0):
        schedule.observe({"val_loss": value})
    assert schedule.state() == {"factor": 0.5, "best": 0.75, "bad": 1}


def test_restored_weights_are_those_of_the_first_best_epoch():
    states = []

    class Record(Callback):
        def on_epoch_end(self, trainer, row):
            states.append(trainer.model.state_dict())

    stopper = callbacks.EarlyStopping(3, restore_best=True)
    trainer = run([0.5, 0.75, 0.75, 0.75, 0.75], Record(), stopper)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, states[1][name])
