"""Checkpoints that are refused: of another run, damaged, or that could not be written."""

import numpy as np
import pytest
from test_checkpoint import OPTIMIZERS, OPTIONS, contents, fit, resumed, stopped_at
from trainer_cases import bits, make_model, make_trainer

import pycnn
from pycnn import callbacks, checkpoint, layers, losses, optim, schedules
from pycnn._formats import files as _files
from pycnn.augment import Augmentation


@pytest.fixture
def used(tmp_path):
    """A folder with a checkpoint after step 5."""
    stopped_at(5, tmp_path / "used")
    return tmp_path / "used"


def rewrite(path, change):
    tensors, metadata = _files.read_safetensors(path)
    change(tensors, metadata)
    _files.write_safetensors(path, tensors, metadata)


class Counter(callbacks.Callback):
    """One more callback with a state."""

    def load_state(self, state, arrays):
        pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_trainer(callbacks.Checkpoint("x"), seed=4), "with seed 3; expected 4"),
        (lambda: make_trainer(Counter()), "with callbacks with a state .*Checkpoint"),
        (lambda: make_trainer(ema=False), "with callbacks with a state .*Ema"),
        (
            lambda: make_trainer(callbacks.Checkpoint("x"), optimizer=OPTIMIZERS["adamw"]),
            "with an optimizer SGD; expected AdamW",
        ),
        (
            lambda: make_trainer(
                callbacks.Checkpoint("x"), optimizer=lambda p: optim.SGD(p, 0.1, momentum=0.9)
            ),
            "with lr 0.05; expected 0.1",
        ),
        (
            lambda: make_trainer(
                callbacks.Checkpoint("x"), optimizer=lambda p: optim.SGD(p, 0.05), **OPTIONS
            ),
            "with optimizer.momentum 0.9; expected 0.0",
        ),
        (
            lambda: make_trainer(callbacks.Checkpoint("x"), schedule=schedules.Constant()),
            "with schedule Warmup; expected Constant",
        ),
    ],
)
def test_a_checkpoint_of_another_run_changes_nothing(used, make, words):
    trainer = make()
    before, files = bits(trainer), contents(used)
    with pytest.raises(pycnn.FileError, match=words) as caught:
        checkpoint.load(trainer, used / "last.safetensors")
    assert str(caught.value).endswith("Nothing was loaded.")
    assert bits(trainer) == before
    assert (trainer.steps_done, trainer.resumed_from) == (0, None)
    assert contents(used) == files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"optimizer": lambda p: optim.SGD(p, 0.05, momentum=0.8)},
            "optimizer.momentum 0.9; expected 0.8",
        ),
        (
            {"schedule": schedules.Warmup(3, schedules.ReduceOnPlateau(0.4, 0))},
            "schedule.ReduceOnPlateau.factor 0.5; expected 0.4",
        ),
        (
            {"schedule": schedules.Warmup(2, schedules.ReduceOnPlateau(0.5, 0))},
            "schedule.steps 3; expected 2",
        ),
        (
            {"augmentation": Augmentation(shift=2.0, mixup=0.5)},
            "augmentation.shift 1.0; expected 2.0",
        ),
        ({"augmentation": None}, "augmentation {.*}; expected none"),
        ({"clip_norm": 1.0}, "clip_norm 2.0; expected 1.0"),
        ({"plain_epochs": 1}, "plain_epochs 0; expected 1"),
        (
            {"loss": losses.SoftmaxCrossEntropy(0.1)},
            "loss.label_smoothing 0.0; expected 0.1",
        ),
        ({"ema": 0.8}, r"callbacks.0 \(Ema\).decay 0.9; expected 0.8"),
    ],
)
def test_a_checkpoint_of_other_settings(used, change, words):
    options = {**OPTIONS, **change}
    average = [callbacks.Ema(options["ema"])] if "ema" in options else []
    options["ema"] = not average
    trainer = make_trainer(*average, callbacks.Checkpoint("x"), **options)
    before = bits(trainer)
    with pytest.raises(pycnn.FileError, match=f"a checkpoint of another run, with {words}, that"):
        checkpoint.load(trainer, used / "last.safetensors")
    assert bits(trainer) == before
    checkpoint.load(trainer, used / "last.safetensors", same_settings=False)
    assert trainer.steps_done == 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: optim.Adam(p, 0.1, (0.8, 0.9), 1e-7), {"betas": [0.8, 0.9], "eps": 1e-7}),
        (
            lambda p: optim.AdamW(p, 0.1, weight_decay=0.5),
            {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.5},
        ),
        (
            lambda p: optim.SGD(p, 0.1, 0.9, True, 0.5),
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.5},
        ),
        (
            lambda p: optim.RMSprop(p, 0.1, 0.9, 1e-7, 0.5, 0.25),
            {"alpha": 0.9, "eps": 1e-7, "momentum": 0.5, "weight_decay": 0.25},
        ),
        (schedules.Constant(), {}),
        (schedules.StepDecay(5, 0.5), {"every": 5, "gamma": 0.5}),
        (schedules.Cosine(end=0.1), {"total": None, "end": 0.1}),
        (
            schedules.OneCycle(9, 0.1, 0.2, 0.3, "cosine"),
            {"total": 9, "warmup": 0.1, "start": 0.2, "end": 0.3, "cosine": True},
        ),
        (
            schedules.ReduceOnPlateau(0.5, 1, 0.1, 0.2, "loss"),
            {"factor": 0.5, "patience": 1, "threshold": 0.1, "minimum": 0.2, "monitor": "loss"},
        ),
    ],
)
def test_the_settings_of_each_part(make, words):
    part = "schedule" if isinstance(make, schedules.Schedule) else "optimizer"
    trainer = make_trainer(**{part: make})
    fit(trainer, 1)  # which binds a schedule, and counts
    assert checkpoint.settings_of(trainer)[part] == words


def test_a_checkpoint_of_format_1_still_loads(used):
    def older(tensors, metadata):
        metadata["format"] = 1
        del metadata["settings"]

    whole = fit(resumed(used / "last.safetensors", used / "a"))
    rewrite(used / "last.safetensors", older)
    assert bits(fit(resumed(used / "last.safetensors", used / "b"))) == bits(whole)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: make_model(dropout=False), "a Dropout as layer 5; expected a Linear"),
        (
            lambda: layers.Sequential(layers.Conv2d(1, 5, 3, padding="same", bias=False)),
            r"layer 0 \(Conv2d\): out_channels 4; expected 5",
        ),
        (
            lambda: layers.Sequential(*[*make_model()][:-1]),
            "a Linear as layer 6; expected none",
        ),
        (
            lambda: layers.Sequential(*make_model(), layers.ReLU()),
            "none as layer 7; expected a ReLU",
        ),
        (lambda: make_model().astype(np.float64), "dtype float32; expected float64"),
    ],
)
def test_another_model(used, model, words):
    made = model()
    trainer = pycnn.Trainer(made, optim.SGD(made.parameters(), 0.05, momentum=0.9), seed=3)
    with pytest.raises(pycnn.FileError, match=rf"of another run, with {words}, that of this run."):
        checkpoint.load(trainer, used / "last.safetensors")


def newer(tensors, metadata):
    metadata["format"] = 4


def with_nan(tensors, metadata):
    tensors["optimizer.u.1"][0] = np.nan


def without_history(tensors, metadata):
    del metadata["history"]


def another_place(tensors, metadata):
    del metadata["position"]["epoch"]


def wrong_dropout(tensors, metadata):
    metadata["rng"] = {"5": [1]}


def without_weight(tensors, metadata):
    del tensors["model.0.weight"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (newer, "found a checkpoint of format 4; this pycnn reads up to 3: install a newer"),
        (with_nan, r"found NaN or infinity in optimizer.u.1; .* Go on from an earlier"),
        (without_history, "that lacks or adds history: damaged"),
        (
            another_place,
            "damaged checkpoint: position is {.*}; expected an object with data, epoch",
        ),
        (wrong_dropout, "does not fit this run: .*two ints"),
        (without_weight, "damaged checkpoint: the average has not the names and shapes of the mo"),
    ],
)
def test_damaged_checkpoints(used, change, words):
    path = used / "last.safetensors"
    rewrite(path, change)
    trainer = make_trainer(callbacks.Checkpoint(used), **OPTIONS)
    before = bits(trainer)
    with pytest.raises(pycnn.FileError, match=words):
        checkpoint.load(trainer, path)
    assert bits(trainer) == before
    assert trainer.steps_done == 0


def put(place, value):
    """Change one part of the metadata: "position.epoch"."""

    def change(tensors, metadata):
        *folders, name = place.split(".")
        for folder in folders:
            metadata = metadata[int(folder) if folder.isdigit() else folder]
        if isinstance(metadata, list):
            metadata[int(name)] = value
        else:
            metadata[name] = value

    return change


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("average", 7, "average is 7; expected the number of a callback, or null"),
        ("average", True, "average is True"),
        ("average", 1, "the average has not the names and shapes of the model"),
        ("base_lr", "x", "base_lr is 'x'; expected a finite number, not negative"),
        ("callbacks", {}, "callbacks is {}; expected a list of"),
        ("callbacks.0", ["Ema"], "callbacks is .*; expected a list of"),
        ("history", [{"a": "b"}], r"history is \[{'a': 'b'}\]; expected a list of rows of numbers"),
        ("history", [], "history has 0 rows after 1 epochs"),
        ("model", [], r"model is \[\]; expected an object"),
        ("optimizer", 3, "optimizer is 3; expected a name"),
        ("position", 3, "position is 3; expected an object with data, epoch"),
        (
            "position.data",
            3,
            r"position.data is 3; expected \[samples, sum, sum, batch size\], the same and",
        ),
        ("position.data", [37, 1, 1, 10, 4], r"position.data is \[37, 1, 1, 10, 4\]; expected"),
        ("position.data", [37, 1, 1, 10, 2], "position has 5 steps done at epoch 1, step 2 of 2"),
        ("position.data", None, "position has 5 steps done at epoch 1, step 2 of 0"),
        ("position.epoch", -4, "position.epoch is -4; expected a whole number, 0 or more"),
        ("position.epoch", 2, "position has 5 steps done at epoch 2, step 2 of 3"),
        ("position.evaluation_batch", 0, "position.evaluation_batch is 0; expected a whole number"),
        ("position.step", "x", "position.step is 'x'; expected a whole number, 0 or more"),
        ("position.steps_done", 10**30, "position.steps_done is 10+; expected a whole number"),
        ("position.sums", [], r"position.sums is \[\]; expected two finite numbers"),
        ("recipe", [], r"recipe is \[\]; expected an object"),
        ("rng", 3, "rng is 3; expected an object"),
        ("schedule", "x", r"schedule is 'x'; expected \[name, state\]"),
        ("schedule.1.factor", "x", "does not fit this run: ReduceOnPlateau: factor is 'x'"),
        ("callbacks.1.1.best", "x", "does not fit this run: Checkpoint: best is 'x'"),
        ("seed", -1, "seed is -1; expected a whole number, 0 or more"),
        ("settings", 3, "settings is 3; expected an object"),
    ],
)
def test_damaged_metadata(used, place, value, words):
    path = used / "last.safetensors"
    rewrite(path, put(place, value))
    with pytest.raises(pycnn.FileError, match=words):
        checkpoint.load(make_trainer(callbacks.Checkpoint(used), **OPTIONS), path)


class Own(layers.ReLU):
    """A layer that files have no name for."""


class Keeps(callbacks.Callback):
    """Without load_state."""

    def state(self):
        return {"a": 1}


class Odd(Counter):
    def state(self):
        return {"a": {1}}


class OddArrays(Counter):
    def arrays(self):
        return {"a": [1.0]}


def with_own_layer(*more):
    model = layers.Sequential(*make_model(), Own())
    return pycnn.Trainer(model, optim.SGD(model.parameters(), 0.1), callbacks=more)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_own_layer, "layer 7 is a Own, a kind that files have no name for"),
        (lambda c: make_trainer(c, Keeps()), r"Keeps: has state\(\) but no load_state"),
        (
            lambda c: make_trainer(c, Odd()),
            r"Odd.state\(\) is {'a': \{1\}}, which JSON cannot hold",
        ),
        (lambda c: make_trainer(c, OddArrays()), r"OddArrays.arrays\(\) is .* expected a dict of"),
    ],
)
def test_what_cannot_be_saved_is_said_before_the_first_step(tmp_path, make, words):
    trainer = make(callbacks.Checkpoint(tmp_path / "runs"))
    with pytest.raises(TypeError, match=words):
        fit(trainer)
    assert trainer.steps_done == 0
    assert not (tmp_path / "runs").exists()
