"""Trainer: NaN, losses of one's own and batches that do not fit, as sentences."""

import math

import numpy as np
import pytest
from trainer_cases import make_data, make_model

import pycnn
from pycnn import callbacks, losses, optim
from pycnn.layers import Conv2d, Sequential

TRAIN = make_data()
IMAGES, LABELS = TRAIN


def plain_trainer(*arguments, lr=0.01, **options):
    model = make_model(dropout=False)
    return pycnn.Trainer(model, optim.SGD(model.parameters(), lr), *arguments, **options)


def with_nan():
    x = IMAGES.astype(np.float32) / 255
    x[5, 2, 3] = np.nan
    return x, LABELS


def test_nan_in_the_data_ends_a_run_at_its_step():
    trainer = plain_trainer()
    step = next(
        i for i in range(3) if 5 in np.random.default_rng([0, 1, 0]).permutation(37)[10 * i :][:10]
    )
    expected = f"the loss is nan at epoch 0, step {step}; expected a finite number: x holds NaN or"
    with pytest.raises(callbacks.Diverged, match=expected):
        trainer.fit(with_nan(), epochs=1, batch_size=10)
    assert not trainer.fitting


def test_a_large_rate_ends_a_run():
    with pytest.raises(
        callbacks.Diverged, match=r"the loss is \S+ at epoch \d, .* try a smaller lr"
    ):
        plain_trainer(lr=1e30).fit(TRAIN, epochs=5, batch_size=10)


def test_the_guard_can_be_turned_off_and_stands_once():
    trainer = plain_trainer(nan_guard=False)
    assert math.isnan(trainer.fit(with_nan(), epochs=1, batch_size=37)["loss"][0])
    assert trainer.callbacks == []
    guard = callbacks.NanGuard()
    assert plain_trainer(None, None, [guard]).callbacks == [guard]
    assert [type(one) for one in plain_trainer().callbacks] == [callbacks.NanGuard]


def squared(logits, labels):
    error = logits - np.eye(4, dtype=np.float32)[labels]
    return np.float32(np.mean(error**2)), 2 * error / error.size


@pytest.mark.parametrize("make", [tuple, list])
def test_a_loss_of_one_s_own(make):
    trainer = plain_trainer(lambda *pair: make(squared(*pair)))
    history = trainer.fit(TRAIN, TRAIN, epochs=1, batch_size=10)
    assert 0 < history["val_loss"][0] < 10
    assert type(trainer.loss) is float


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (
            lambda z, y: 0.5,
            TypeError,
            r"the loss <lambda> returned the number 0.5; expected a pair",
        ),
        (
            lambda z, y: np.float32(2),
            TypeError,
            r"returned the number np.float32\(2.0\); expected a",
        ),
        (lambda z, y: None, TypeError, "returned None; expected a pair"),
        (lambda z, y: (1.0, z, z), TypeError, "returned a tuple; expected a pair"),
        (
            lambda z, y: ("a", z),
            TypeError,
            "returned a str as its loss; expected a number, the mean",
        ),
        (lambda z, y: (z, z), TypeError, r"float32 \(10, 4\) as its loss; expected a number"),
        (
            lambda z, y: (1.0, 2.0),
            TypeError,
            r"a float as its gradient; expected float32 \(10, 4\)",
        ),
        (lambda z, y: (1.0, np.float64(z)), TypeError, r": write dlogits.astype\(np.float32\)"),
        (lambda z, y: (1.0, z[:3]), ValueError, r"shape \(3, 4\); expected \(10, 4\), that of the"),
    ],
)
def test_a_loss_that_returns_something_else(loss, error, message):
    trainer = plain_trainer(loss)
    before = trainer.model.state_dict()
    with pytest.raises(error, match=message):
        trainer.fit(TRAIN, epochs=1, batch_size=10)
    with pytest.raises(error, match="Trainer: the loss <lambda> returned"):
        trainer.evaluate((IMAGES[:10], LABELS[:10]))
    statistics = {name for name in before if "running" in name}
    for name in before.keys() - statistics:
        np.testing.assert_array_equal(trainer.model.state_dict()[name], before[name])


def generator():
    yield TRAIN
    yield TRAIN


BATCHES = [
    (
        generator(),
        ValueError,
        2,
        "a generator, which is empty after one epoch, and 2 epochs are to",
    ),
    ([], TypeError, 2, "train is a list; expected a split"),
    ("text", TypeError, 2, "train is a str; expected a split"),
    (iter([]), ValueError, 1, "gave no batches in epoch 0; expected at least one"),
    (lambda: iter([]), ValueError, 2, "gave no batches in epoch 0; expected at least one"),
    (lambda: 3, TypeError, 2, "train returned an int; expected batches: a generator function"),
    (lambda a, b: TRAIN, TypeError, 2, "a function of 2 arguments; expected none, or the number"),
    ((i for i in [3]), TypeError, 1, "train gave an int; expected batches, each a pair"),
    (lambda: [IMAGES], TypeError, 2, r"train gave uint8 \(37, 6, 6, 1\); expected batches"),
    (
        [(IMAGES, LABELS[1:])] * 3,
        ValueError,
        2,
        r"labels are int64 \(36,\); expected integers \[37",
    ),
    ([(IMAGES, LABELS + 0.5)], TypeError, 2, "train labels are float64"),
    ([(IMAGES * 1.0, LABELS)], TypeError, 2, "x in a batch of train is float64"),
    ([(IMAGES[:0], LABELS[:0])], ValueError, 2, "a batch of train has no samples"),
    ([(IMAGES, LABELS + 1)], ValueError, 2, "labels go from 1 to 4; expected 0 to 3"),
    ([(np.float32(IMAGES), LABELS)], ValueError, 2, "with whole numbers up to 2"),
    ([(IMAGES[..., 0], LABELS)], ValueError, 2, "3 axes; expected 4"),
]


@pytest.mark.parametrize(("data", "error", "epochs", "message"), BATCHES)
def test_batches_that_do_not_fit(data, error, epochs, message):
    trainer = plain_trainer()
    with pytest.raises(error, match=message):
        trainer.fit(data, epochs=epochs)
    assert trainer.steps_done == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train": [TRAIN], "batch_size": 10},
            "batch_size is 10, and train gives batches .* leave",
        ),
        (
            {"train": TRAIN, "batch_size": 10, "steps_per_epoch": 4},
            "steps_per_epoch is 4; expected at most 3, the batches of 10 in the 37 training sam",
        ),
        (
            {"train": TRAIN, "steps_per_epoch": 1.5},
            "steps_per_epoch is 1.5; expected a whole number",
        ),
        ({"train": [TRAIN], "steps_per_epoch": 0}, "steps_per_epoch is 0; expected a whole number"),
        ({"train": generator, "steps_per_epoch": 3}, "gave 2 batches in epoch 0; expected 3, its"),
        ({"train": TRAIN, "validation": generator()}, "validation is a generator, which is empty"),
        ({"train": TRAIN, "validation": lambda: iter([])}, "data gave no batches; expected at lea"),
        ({"train": TRAIN, "validation": (IMAGES, LABELS + 1)}, "validation labels go from 1 to 4"),
    ],
)
def test_options_that_do_not_fit_the_data(options, message):
    with pytest.raises(ValueError, match=message):
        plain_trainer().fit(**options, epochs=2)


def test_a_generator_lasts_for_one_epoch():
    trainer, batches = plain_trainer(), generator()
    trainer.fit(batches, epochs=1)
    assert trainer.steps_done == 2
    with pytest.raises(
        ValueError, match=r"no batches in epoch 1; .* the generator function itself"
    ):
        trainer.fit(batches, epochs=2)


def test_a_model_whose_output_is_no_row():
    model = Sequential(Conv2d(1, 4, 3))
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 0.1), losses.SoftmaxCrossEntropy())
    with pytest.raises(ValueError, match=r"makes \(None, 4, 4, 4\) of samples .* with Flatten\(\)"):
        trainer.fit(TRAIN, epochs=1, batch_size=10)


def test_predictions_of_what_is_no_data():
    trainer = plain_trainer()
    with pytest.raises(
        TypeError, match=r"x is an int; expected an array \[n, ...\], or an iterable"
    ):
        trainer.predict(3)
    with pytest.raises(TypeError, match=r"x in a batch of x is float64 \(37, 6, 6, 1\)"):
        trainer.predict([IMAGES * 1.0])
    with pytest.raises(TypeError, match=r"x is float64 \(37, 6, 6, 1\)"):
        trainer.predict_proba(IMAGES * 1.0)
    with pytest.raises(ValueError, match="labels go from 1 to 4; expected 0 to 3"):
        trainer.evaluate([(IMAGES, LABELS + 1)])
