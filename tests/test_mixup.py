"""Mixup: who is mixed with whom, by how much, and on what that may not depend."""

import numpy as np
import pytest
from trainer_cases import bits, make_data, make_model

import pycnn
from pycnn import callbacks, losses, optim
from pycnn.augment import Augmentation, Mixup

IMAGES, LABELS = make_data(37)


class Seen:
    """The logits' labels and the samples of each step; the gradient of cross entropy."""

    def __init__(self):
        self.labels = []
        self.loss = losses.SoftmaxCrossEntropy()

    def __call__(self, logits, labels, weights=None):
        self.labels.append(labels.copy())
        return self.loss(logits, labels, weights)


class Look(callbacks.Callback):
    def __init__(self):
        self.x = []

    def on_step_end(self, trainer):
        self.x.append(trainer.x.copy())


def run(data, augmentation, epochs=1, **options):
    """(samples, labels) of all steps, and the trainer."""
    model, loss, look = make_model(dropout=False), Seen(), Look()
    fit = {"batch_size": 9} if isinstance(data, tuple) else {}
    trainer = pycnn.Trainer(
        model,
        optim.SGD(model.parameters(), 0.01),
        loss,
        callbacks=[look],
        seed=3,
        augmentation=augmentation,
        **options,
    )
    trainer.fit(data, epochs=epochs, **fit)
    return look.x, loss.labels, trainer


@pytest.mark.parametrize("kind", ["arrays", "gaps", "stream"])
def test_each_sample_is_mixed_with_the_next_one_of_its_batch(kind):
    """And the last one with the first; the share is that of the sample, images and labels alike."""
    data = IMAGES, LABELS
    if kind == "gaps":
        data = np.repeat(IMAGES, 2, axis=0)[::2], LABELS
    if kind == "stream":
        data = [(IMAGES[:9], LABELS[:9]), (IMAGES[9:37], LABELS[9:37])]
    plain, classes, _ = run(data, Augmentation(flip=0.5))
    mixed, rows, trainer = run(data, Augmentation(flip=0.5, mixup=0.7))
    assert len(plain) == len(mixed) > 1
    one = np.eye(4, dtype=np.float32)
    mixup = Mixup(0.7, 3, 0, lambda shape: 4)
    order = np.random.default_rng([3, 1, 0]).permutation(37)
    for step, (x, y, x0, y0) in enumerate(zip(mixed, rows, plain, classes, strict=True)):
        if kind == "stream":
            share = mixup.shares(len(x), step + 1)
        else:
            share = mixup.shares(37)[order[9 * step : 9 * step + 9]]
        s = share[:, None, None, None]
        np.testing.assert_allclose(x, s * x0 + (1 - s) * np.roll(x0, -1, axis=0), atol=1e-6)
        s = share[:, None]
        np.testing.assert_allclose(y, s * one[y0] + (1 - s) * np.roll(one[y0], -1, axis=0))
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.sum(axis=1), 1)
    assert 0 < trainer.history.rows[0]["accuracy"] < 1


def test_shares_have_the_beta_distribution_and_whole_rests():
    for alpha in (0.2, 1.0):
        shares = Mixup(alpha, 1, 2, lambda shape: 4).shares(20_000)
        assert shares.dtype == np.float32
        assert abs(shares.mean() - 0.5) < 0.01
        np.testing.assert_allclose(shares.var(), 0.25 / (2 * alpha + 1), rtol=0.03)
        np.testing.assert_array_equal(np.rint(shares * 65536) / 65536, shares)
    assert len({tuple(Mixup(0.5, *key, len).shares(9)) for key in ((1, 2), (2, 1), (1, 1))}) == 3
    assert (Mixup(0.5, 1, 1, len).shares(9, 1) != Mixup(0.5, 1, 1, len).shares(9)).any()


def test_rows_of_floats_are_mixed_as_they_are():
    x, labels = np.eye(3, dtype=np.float32), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 8.0]])
    x, y = Mixup(1.0, 0, 0, len).mix(x, labels.astype(np.float32), np.float32([0.25, 1.0]))
    np.testing.assert_array_equal(y, [[2.5, 3.5], [3.0, 4.0]])
    np.testing.assert_array_equal(x, [[0.25, 0.75, 0], [0, 1, 0]])


def test_classes_of_pixels_are_refused():
    model = pycnn.layers.Sequential(pycnn.layers.Conv2d(1, 4, 1, rng=0))
    trainer = pycnn.Trainer(
        model, optim.SGD(model.parameters(), 0.1), augmentation=Augmentation(mixup=0.5)
    )
    maps = np.zeros((9, 6, 6), np.int64)
    with pytest.raises(ValueError, match=r"mixes a class for each image, and labels are int64 "):
        trainer.fit((IMAGES[:9], maps), epochs=1, batch_size=9)


def test_weights_stay_with_their_samples():
    """A sample of weight 0 may be mixed into another one; as itself it teaches nothing."""
    weights = np.ones(37, np.float32)
    plain, _, one = run((IMAGES, LABELS), Augmentation(mixup=0.7))
    same, _, other = run((IMAGES, LABELS, weights), Augmentation(mixup=0.7))
    np.testing.assert_array_equal(plain, same)
    assert one.history.rows[0]["loss"] == pytest.approx(other.history.rows[0]["loss"])


def test_plain_epochs_and_no_mixup_have_class_numbers():
    _, labels, _ = run((IMAGES, LABELS), Augmentation(mixup=1.0), epochs=2, plain_epochs=1)
    assert [rows.ndim for rows in labels] == [2] * 4 + [1] * 4
    _, labels, _ = run((IMAGES, LABELS), Augmentation(shift=1.0))
    assert {rows.ndim for rows in labels} == {1}


def test_threads_change_no_bit():
    options = Augmentation(crop=1, flip=0.5, mixup=0.4)
    expected = bits(run((IMAGES, LABELS), options, epochs=3)[2])
    with pycnn.num_threads(3):
        assert bits(run((IMAGES, LABELS), options, epochs=3)[2]) == expected
