"""A small Trainer with everything that has a state, for the tests of the training loop."""

import numpy as np

import pycnn
from pycnn import callbacks, optim, schedules
from pycnn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential

CLASSES = 4


def make_data(count=37, seed=0):
    """(uint8 [n, 6, 6, 1], int64 [n]); images of one class are alike."""
    rng = np.random.default_rng(seed)
    prototypes = np.random.default_rng(99).integers(0, 256, (CLASSES, 6, 6, 1))
    labels = np.arange(count) % CLASSES
    images = prototypes[labels] // 2 + rng.integers(0, 128, (count, 6, 6, 1))
    return images.astype(np.uint8), labels


def make_model(seed=0, dropout=True):
    rng = np.random.default_rng(seed)
    layers = [
        Conv2d(1, 4, 3, padding="same", bias=False, rng=rng), MaxPool2d(2), BatchNorm2d(4), ReLU(),
        Flatten(), *([Dropout(0.3, rng=rng)] if dropout else []), Linear(36, CLASSES, rng=rng),
    ]  # fmt: skip
    return Sequential(*layers)


def make_trainer(*more, seed=3, model_seed=0, schedule=None, optimizer=None, ema=True, **options):
    """Ema, momentum, BatchNorm, Dropout and a plateau: all of it must come back from a file."""
    model = make_model(model_seed)
    make = optimizer or (lambda parameters: optim.SGD(parameters, 0.05, momentum=0.9))
    schedule = schedule or schedules.Warmup(3, schedules.ReduceOnPlateau(0.5, 0))
    first = [callbacks.Ema(0.9)] if ema else []
    return pycnn.Trainer(
        model, make(model.parameters()), schedule=schedule, callbacks=[*first, *more], seed=seed,
        **options,
    )  # fmt: skip


def bits(trainer):
    """All of the model's and the optimizer's numbers."""
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    return {name: array.tobytes() for name, array in state.items()}


class StopAt(callbacks.Callback):
    """Ends the run after this step of all epochs."""

    def __init__(self, step):
        self.at = step

    def on_step_end(self, trainer):
        if trainer.steps_done == self.at:
            trainer.stop(f"at {self.at}")
