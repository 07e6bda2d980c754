"""`Trainer`: the loop against one written by hand, order, threads, data, sentences, stops."""

import math

import numpy as np
import pytest
from trainer_cases import CLASSES, StopAt, bits, make_data, make_model, make_trainer

import pycnn
from pycnn import callbacks, datasets, losses, ops, optim, schedules
from pycnn.augment import Augmentation
from pycnn.preprocessing import Normalization

TRAIN, VALIDATION = make_data(), make_data(13, seed=1)


def plain_trainer(**options):
    model = make_model(dropout=False)
    return pycnn.Trainer(model, optim.Adam(model.parameters(), 0.01), **options)


def test_fit_tells_the_model_the_shape_of_its_images():
    trainer = plain_trainer()
    assert trainer.model.input_shape is None
    trainer.fit(TRAIN, epochs=1, batch_size=10)
    assert trainer.model.input_shape == (6, 6, 1)


def test_fit_is_the_loop_that_one_writes_by_hand():
    schedule = schedules.Cosine(20)
    trainer = plain_trainer(schedule=schedule, seed=5, clip_norm=0.5)
    trainer.model.normalization = Normalization(0.4, 0.3)
    history = trainer.fit(TRAIN, VALIDATION, epochs=2, batch_size=10)

    model = make_model(dropout=False)
    optimizer, loss_function = optim.Adam(model.parameters(), 0.01), losses.SoftmaxCrossEntropy()
    images, labels = TRAIN
    step, rows = 0, []
    for epoch in range(2):
        order = np.random.default_rng([5, 1, epoch]).permutation(37)
        total, right = 0.0, 0
        for first in (0, 10, 20):  # the seven that are left over are dropped
            batch = order[first : first + 10]
            x = ops.gather_images(images, batch, mean=0.4, std=0.3)
            logits = model.forward(x)
            loss, dlogits = loss_function(logits, labels[batch])
            optimizer.zero_grad()
            model.backward(dlogits, input_gradient=False)
            optim.clip_grad_norm(optimizer.parameters, 0.5)
            optimizer.lr = 0.01 * schedule(step)
            optimizer.step()
            total, step = total + loss, step + 1
            right += np.count_nonzero(logits.argmax(axis=1) == labels[batch])
        rows.append((epoch, step, optimizer.lr, total / 3, right / 30))
    assert all(np.array_equal(a, model.state_dict()[n]) for n, a in trainer.state_arrays().items())
    names = ("epoch", "step", "lr", "loss", "accuracy")
    assert [tuple(row[name] for name in names) for row in history.rows] == rows
    assert (trainer.epoch, trainer.step, trainer.steps_done) == (2, 0, 6)
    assert trainer.optimizer.lr == 0.01


def test_evaluate_and_predict_agree():
    trainer = make_trainer()
    trainer.fit(TRAIN, VALIDATION, epochs=2, batch_size=10)
    trainer.evaluation_batch = 5
    images, labels = VALIDATION
    found = trainer.evaluate(VALIDATION)
    probabilities, classes = trainer.predict_proba(images), trainer.predict(images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (13, CLASSES)
    assert classes.dtype == np.int64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
    assert found["accuracy"] == np.mean(classes == labels)
    own = probabilities[np.arange(13), labels].astype(np.float64)
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert trainer.evaluate(VALIDATION) == found  # eval mode: no dropout, statistics stay
    floats = np.float32(images) * np.float32(1 / 255)
    np.testing.assert_array_equal(trainer.predict(floats), classes)
    assert trainer.evaluate(datasets.Split(images, np.uint8(labels))) == found
    assert trainer.evaluate([images, list(labels)]) == found
    assert trainer.predict(images[:0]).shape == (0,)
    assert trainer.predict_proba(images[:0]).shape == (0, CLASSES)
    assert trainer.model.training


def test_it_learns():
    trainer = make_trainer()
    trainer.fit(make_data(200), VALIDATION, epochs=8, batch_size=10)
    assert trainer.evaluate(VALIDATION)["accuracy"] > 0.9


class Batches(callbacks.Callback):
    """The images of each step, through labels that name them."""

    def __init__(self):
        self.seen = []

    def on_epoch_begin(self, trainer):
        self.seen.append([])

    def spy(self, monkeypatch):
        before = ops.gather_images

        def gather(images, batch, **how):
            self.seen[-1].append(batch.copy())
            return before(images, batch, **how)

        monkeypatch.setattr(ops, "gather_images", gather)


def test_the_order_of_images(monkeypatch):
    def orders(**options):
        batches = Batches()
        trainer = plain_trainer(callbacks=[batches], **options)
        batches.spy(monkeypatch)
        trainer.fit(TRAIN, epochs=3, batch_size=6)
        return [np.concatenate(epoch) for epoch in batches.seen]

    first = orders(seed=1)
    for order in first:
        assert len(order) == 36
        assert len(set(order)) == 36
        assert set(order) <= set(range(37))
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, orders(seed=1))
    assert not np.array_equal(first, orders(seed=2))


def test_the_same_bits_on_any_thread_count():
    def run(threads):
        with pycnn.num_threads(threads):
            trainer = make_trainer(augmentation=Augmentation(shift=1.0), clip_norm=1.0)
            history = trainer.fit(TRAIN, VALIDATION, epochs=3, batch_size=8)
            return bits(trainer), history.rows

    first = run(1)
    assert run(2) == first
    assert run(3) == first


def test_plain_epochs_have_no_augmentation(monkeypatch):
    epochs = []

    def gather(self, images, indices, *, epoch, out, **options):
        epochs.append(epoch)
        out[...] = 0
        return out

    monkeypatch.setattr(Augmentation, "gather", gather)
    trainer = plain_trainer(augmentation=Augmentation(shift=1.0), plain_epochs=2)
    trainer.fit(TRAIN, VALIDATION, epochs=5, batch_size=18)
    assert epochs == [0, 0, 1, 1, 2, 2]


def test_clip_norm_bounds_the_step():
    model = make_model(dropout=False)
    before = model.state_dict()
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 1.0), clip_norm=1e-3)
    trainer.fit(TRAIN, epochs=1, batch_size=37)
    moved = sum(np.sum((p.data - before[n]) ** 2.0) for n, p in model.named_parameters())
    assert math.sqrt(moved) == pytest.approx(1e-3, rel=1e-2)


def test_history():
    trainer = plain_trainer()
    assert trainer.history["val_loss"] == []
    trainer.fit(TRAIN, VALIDATION, epochs=2, batch_size=10)
    trainer.fit(TRAIN, epochs=3, batch_size=10)  # no validation this time
    history = trainer.history
    assert len(history) == len(history.seconds) == 3
    assert history["epoch"] == [0, 1, 2]
    assert history["step"] == [3, 6, 9]
    assert [math.isnan(value) for value in history["val_accuracy"]] == [False, False, True]
    with pytest.raises(KeyError, match="'val_acc'; this run has epoch, step, lr, loss, accuracy,"):
        history["val_acc"]


def test_a_second_fit_goes_on():
    once, twice = plain_trainer(), plain_trainer()
    once.fit(TRAIN, VALIDATION, epochs=4, batch_size=10)
    twice.fit(TRAIN, VALIDATION, epochs=1, batch_size=10)
    twice.fit(TRAIN, VALIDATION, epochs=4, batch_size=10)
    assert bits(twice) == bits(once)
    assert twice.history.rows == once.history.rows
    assert twice.steps_of_fit == 9
    with pytest.warns(
        UserWarning, match=r"epochs is 4, and this trainer has done 4 .*epochs=5 for"
    ):
        twice.fit(TRAIN, VALIDATION, epochs=4, batch_size=10)
    assert bits(twice) == bits(once)


def test_a_changed_learning_rate_holds_from_the_next_fit():
    trainer = plain_trainer()
    trainer.fit(TRAIN, epochs=1, batch_size=10)
    trainer.optimizer.lr = 0.5
    trainer.fit(TRAIN, epochs=2, batch_size=10)
    assert trainer.history["lr"] == [0.01, 0.5]
    assert trainer.optimizer.lr == 0.5


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_stop_ends_the_run_after_the_step_and_fit_goes_on_there(step):
    trainer, whole = plain_trainer(callbacks=[StopAt(step)]), plain_trainer()
    trainer.fit(TRAIN, VALIDATION, epochs=3, batch_size=10)
    assert trainer.stop_reason == f"at {step}"
    assert trainer.steps_done == step
    assert len(trainer.history) == (step - 1) // 3  # no validation after a stop
    trainer.fit(TRAIN, VALIDATION, epochs=3, batch_size=10)
    whole.fit(TRAIN, VALIDATION, epochs=3, batch_size=10)
    assert trainer.stop_reason is None
    assert bits(trainer) == bits(whole)
    assert trainer.history.rows == whole.history.rows


def test_stop_breaks_off_a_validation_but_no_other_evaluation():
    class Stop(callbacks.Callback):
        results = ()

        def on_evaluation_begin(self, trainer):
            if trainer.epoch == 1:
                trainer.stop("now")

        def on_evaluation_end(self, trainer, result):
            self.results = (*self.results, result)

        def on_pause(self, trainer):
            self.at_end = trainer.evaluate(VALIDATION)  # of the caller's own: not broken off

    stop = Stop()
    trainer = plain_trainer(callbacks=[stop])
    trainer.fit(TRAIN, VALIDATION, epochs=3, batch_size=10)
    assert len(trainer.history) == 1
    assert (trainer.epoch, trainer.step) == (1, 3)
    assert stop.results[0] is not None
    assert stop.results[1] is None
    assert 0 <= stop.at_end["accuracy"] <= 1
    assert trainer.model.training


def test_an_error_leaves_the_learning_rate_and_the_mode():
    def fails(logits, labels):
        raise RuntimeError("no loss")

    trainer = plain_trainer(loss=fails, schedule=schedules.OneCycle())
    with pytest.raises(RuntimeError, match="no loss"):
        trainer.fit(TRAIN, epochs=1, batch_size=10)
    assert trainer.optimizer.lr == 0.01
    assert not trainer.fitting


IMAGES, LABELS = TRAIN
BAD_DATA = [
    (3, TypeError, r"train is an int; expected a split of load_mnist, \(x, labels\), or batches"),
    ((IMAGES,), TypeError, "train is a tuple; expected"),
    (IMAGES, TypeError, r"train is uint8 \(37, 6, 6, 1\) without labels; expected a split"),
    ({"x": IMAGES}, TypeError, "train is a dict; expected a split"),
    (
        (IMAGES.astype(float), LABELS),
        TypeError,
        r"train x is float64 \(37, 6, 6, 1\); .*float32\)\.",
    ),
    ((np.int64(IMAGES), LABELS), TypeError, r"or float32: write x.astype\(np.uint8\)\.$"),
    (
        (np.int64(IMAGES[:, 0, :, 0]), LABELS),
        TypeError,
        r"\(np.float32\), or x.astype\(np.uint8\) for bytes",
    ),
    ((IMAGES[..., 0], LABELS), ValueError, r"3 axes; expected 4: .* x\[..., None\] for C = 1"),
    ((IMAGES[:, 0, 0, 0], LABELS), ValueError, r"x is uint8 \(37,\); .* write x\[:, None\] for"),
    (
        (IMAGES.tolist(), LABELS),
        TypeError,
        r"train x is a list; .* write np.asarray\(x, np.float32",
    ),
    ((IMAGES, LABELS[1:]), ValueError, r"labels are int64 \(36,\); expected integers \[37\]"),
    ((IMAGES, np.eye(4)[LABELS]), TypeError, r"write labels.argmax\(axis=1\)"),
    ((IMAGES, np.eye(4, dtype=int)[LABELS]), ValueError, r"write labels.argmax\(axis=1\)"),
    ((IMAGES, LABELS + 0.5), TypeError, r"labels are float64 \(37,\); .* one for each sample\.$"),
    ((IMAGES, LABELS + 0.0), TypeError, r"labels are float64 .*: write labels.astype\(np.int64\)"),
    ((IMAGES, LABELS[:, None] > 0), TypeError, r"bool \(37, 1\); .*write labels.astype\(np.int64"),
    (
        (IMAGES, LABELS[:, None, None]),
        ValueError,
        r"labels are int64 \(37, 1, 1\); .*each sample\.",
    ),
    ((IMAGES, None), TypeError, r"train labels are None; expected integers \[37\]"),
    ((IMAGES, ["a"] * 37), TypeError, r"train labels are a list; expected integers \[37\]"),
    ((IMAGES, [[1], [2, 3]]), TypeError, r"train labels are a list; expected integers \[37\]"),
    ((None, LABELS), TypeError, r"train x is None; expected a NumPy array \[n, ...\]"),
    (datasets.Split(IMAGES.astype(float), LABELS), TypeError, "x is float64"),
    ((IMAGES, LABELS + 1), ValueError, "go from 1 to 4; expected 0 to 3, .* write labels - 1 if 1"),
    ((IMAGES, LABELS - 1), ValueError, "go from -1 to 2; expected 0 to 3, .* from 0, or make a"),
    ((IMAGES, LABELS * 2), ValueError, "go from 0 to 6; expected 0 to 3, a class of the model's 4"),
    ((IMAGES.repeat(2, axis=3), LABELS), ValueError, "expected"),
]


@pytest.mark.parametrize(("data", "error", "message"), BAD_DATA)
def test_data_that_does_not_fit(data, error, message):
    trainer = plain_trainer()
    with pytest.raises(error, match=message):
        trainer.fit(data, epochs=1, batch_size=10)
    assert trainer.steps_done == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a whole number, 1 or more"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 38}, "batch_size is 38; expected at most 37"),
        ({"validation": (IMAGES[:0], LABELS[:0])}, "validation has no samples"),
    ],
)
def test_numbers_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        plain_trainer().fit(TRAIN, **{"epochs": 1, "batch_size": 10, **options})
    with pytest.raises(ValueError, match="data has no samples"):
        plain_trainer().evaluate((IMAGES[:0], LABELS[:0]))


def test_whole_numbers_of_numpy():
    trainer = plain_trainer(seed=np.int64(1))
    trainer.fit(TRAIN, epochs=np.int32(1), batch_size=np.int64(10))
    assert trainer.steps_done == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": (IMAGES[1:], LABELS[1:])}, "got 36 training samples in batches of 10"),
        ({"data": (IMAGES, LABELS[::-1])}, "got other samples or labels, 37 training samples"),
        ({"data": (255 - IMAGES, LABELS)}, "got other samples or labels"),
        ({"batch_size": 9}, "got 37 training samples in batches of 9; expected the 37 training"),
    ],
)
def test_a_run_has_one_set_of_data(change, words):
    trainer = plain_trainer()
    trainer.fit(TRAIN, epochs=1, batch_size=10)
    options = {"data": TRAIN, "epochs": 2, "batch_size": 10, **change}
    with pytest.raises(pycnn.FileError, match=words):
        trainer.fit(options.pop("data"), **options)


MODEL = make_model()
ADAM = optim.Adam(MODEL.parameters())


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((MODEL[0], ADAM), {}, TypeError, "expected a layers.Module"),
        ((MODEL, 0.1), {}, TypeError, "optimizer is 0.1; expected one of optim"),
        ((make_model(), ADAM), {}, ValueError, r"not the model's; .* optim.Adam\(model.param"),
        ((MODEL, ADAM), {"schedule": 0.5}, TypeError, "schedule is 0.5; expected one of sched"),
        ((MODEL, ADAM), {"callbacks": [print]}, TypeError, "expected callbacks.Callback"),
        ((MODEL, ADAM), {"callbacks": [callbacks.NanGuard]}, TypeError, "callbacks.Callback"),
        ((MODEL, ADAM), {"augmentation": 1}, TypeError, "augmentation is 1; expected"),
        ((MODEL, ADAM), {"seed": -1}, ValueError, "seed is -1; expected a whole number, 0"),
        ((MODEL, ADAM), {"plain_epochs": 0.5}, ValueError, "plain_epochs is 0.5"),
        ((MODEL, ADAM), {"clip_norm": 0}, ValueError, "clip_norm is 0; expected a number above 0"),
        ((MODEL, ADAM), {"clip_norm": math.nan}, ValueError, "clip_norm is nan"),
        ((MODEL, ADAM), {"clip_norm": "1"}, ValueError, "clip_norm is '1'"),
        ((MODEL, ADAM), {"nan_guard": 1}, TypeError, "nan_guard is 1; expected True or False"),
        ((MODEL, ADAM), {"loss": "mse"}, TypeError, r"loss is 'mse'; expected a function \(logits"),
        (
            (MODEL, ADAM),
            {"loss": losses.SoftmaxCrossEntropy},
            TypeError,
            r"=SoftmaxCrossEntropy\(\)",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, options, error, message):
    with pytest.raises(error, match=message):
        pycnn.Trainer(*arguments, **options)
