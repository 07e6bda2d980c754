"""The Trainer beyond classes: numbers, several labels, maps, weights of samples, metrics."""

import csv

import numpy as np
import pytest
from fake_mpi import pretend_mpi, run
from trainer_cases import StopAt, bits, make_data, make_model

import pycnn
from pycnn import callbacks, checkpoint, losses, metrics, optim, schedules
from pycnn.layers import Conv2d, Linear, ReLU, Sequential

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((120, 6)).astype(np.float32)
NUMBERS = (ROWS[:, :2] * ROWS[:, 2:3] + 5).astype(np.float32)  # two targets a row
LABELS = (ROWS @ RNG.standard_normal((6, 3)) > 0.5).astype(np.float32)  # three yes or no
WEIGHTS = RNG.integers(0, 4, 120).astype(np.float32)
MAPS = RNG.random((24, 5, 7, 2)).astype(np.float32)
PIXELS = np.where(RNG.random((24, 5, 7)) < 0.1, 255, MAPS.argmax(axis=3)).astype(np.uint8)


def dense(outputs, rng=0):
    return Sequential(Linear(6, 32, rng=rng), ReLU(), Linear(32, outputs, rng=rng + 1))


def trainer_of(model, loss, *more, lr=0.01, **options):
    optimizer = optim.Adam(model.parameters(), lr)
    return pycnn.Trainer(model, optimizer, loss, callbacks=more, **options)


@pytest.mark.parametrize("loss", [losses.MSE(), losses.L1(), losses.Huber(0.5)], ids=repr)
def test_a_regression_learns(loss):
    trainer = trainer_of(dense(2), loss, metrics=[metrics.MAE(), metrics.R2()])
    history = trainer.fit((ROWS, NUMBERS), (ROWS[:50], NUMBERS[:50]), epochs=60, batch_size=20)
    assert set(history.rows[0]) == {
        "epoch", "step", "lr", "loss", "mae", "r2", "val_loss", "val_mae", "val_r2"
    }  # fmt: skip
    assert history["val_r2"][-1] > 0.8
    found = trainer.predict(ROWS[:50])
    assert found.dtype == np.float32
    assert np.abs(found - NUMBERS[:50]).mean() == pytest.approx(history["val_mae"][-1], rel=1e-5)
    with pytest.raises(TypeError, match="outputs are no probabilities"):
        trainer.predict_proba(ROWS)


def test_several_labels_learn():
    loss = losses.BinaryCrossEntropy([1, 2, 1])
    f1 = metrics.F1(threshold=0)
    trainer = trainer_of(dense(3), loss, metrics=[f1, metrics.Recall(None, threshold=0)])
    history = trainer.fit((ROWS, LABELS), (ROWS, LABELS), epochs=40, batch_size=30)
    assert history["val_f1"][-1] > 0.95 > history["val_f1"][0]
    assert {"recall_0", "recall_1", "recall_2", "val_recall_2"} <= set(history.rows[0])
    said, p = trainer.predict(ROWS), trainer.predict_proba(ROWS)
    assert said.dtype == bool
    np.testing.assert_array_equal(said, p > 0.5)
    assert f1.compute() == history["val_f1"][-1]  # what the last evaluation left
    assert trainer.predict(ROWS[:0]).shape == (0, 3)


def test_maps_learn_and_ignored_pixels_count_for_nothing():
    model = Sequential(Conv2d(2, 8, 3, padding="same", rng=0), ReLU(), Conv2d(8, 2, 1, rng=1))
    matrix = metrics.ConfusionMatrix()
    measured = [metrics.Accuracy(), metrics.MeanIoU(), matrix]
    trainer = trainer_of(model, losses.SoftmaxCrossEntropy(ignore_index=255), metrics=measured)
    history = trainer.fit((MAPS, PIXELS), (MAPS[:7], PIXELS[:7]), epochs=30, batch_size=6)
    assert history["val_mean_iou"][-1] > 0.9
    assert "val_confusion" not in history.rows[0]
    counted = matrix.compute()
    assert counted.sum() == np.count_nonzero(PIXELS[:7] != 255)
    said = trainer.predict((MAPS[:7], PIXELS[:7]))
    assert said.shape == (7, 5, 7)
    right = (said == PIXELS[:7])[PIXELS[:7] != 255]
    assert right.mean() == history["val_accuracy"][-1] == np.trace(counted) / counted.sum()


def test_rows_of_targets_are_classes_too():
    soft = (0.9 * np.eye(4)[make_data()[1]] + 0.025).astype(np.float32)
    images = make_data()[0]
    plain, given = (trainer_of(make_model(dropout=False), None) for _ in range(2))
    plain.fit(make_data(), epochs=1, batch_size=37)
    given.fit((images, soft), epochs=1, batch_size=37)
    assert given.history["accuracy"] == plain.history["accuracy"]
    assert given.history["loss"] != plain.history["loss"]


def steps_of(data, loss, batch_size, **options):
    """The weights after three steps, and the last row."""
    model = dense(3)
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 0.1), loss, **options)
    trainer.fit(data, epochs=3, batch_size=batch_size)
    return np.concatenate([p.data.reshape(-1) for p in model.parameters()]), trainer.history.rows


CLASSES = LABELS.argmax(axis=1)
CASES = {
    "classes": (CLASSES, losses.SoftmaxCrossEntropy(class_weights=[1, 5, 0.5], ignore_index=1)),
    "labels": (LABELS, losses.BinaryCrossEntropy()),
    "numbers": (NUMBERS[:, [0, 1, 1]], losses.Huber()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_whole_weight_is_that_many_samples(name):
    targets, loss = CASES[name]
    times = WEIGHTS.astype(int)
    repeated = np.repeat(ROWS, times, 0), np.repeat(targets, times, 0)
    expected, rows = steps_of(repeated, loss, len(repeated[0]))
    found, weighted = steps_of((ROWS, targets, WEIGHTS), loss, len(ROWS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for row, other in zip(rows, weighted, strict=True):
        for column in set(row) - {"epoch", "step", "lr"}:
            assert row[column] == pytest.approx(other[column], rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_slots_weigh_what_their_samples_weigh(name):
    """Without weights too where the loss has some: a slot may hold few labels that count."""
    targets, loss = CASES[name]
    for data in ((ROWS, targets), (ROWS, targets, WEIGHTS)):
        expected, rows = steps_of(data, loss, 40)
        found, in_slots = steps_of(data, loss, 40, slots=8)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert in_slots[-1]["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-5)


def test_weights_on_any_ranks_give_the_same_bytes(monkeypatch):
    mpi = pretend_mpi(monkeypatch)
    next(mpi)
    targets, loss = CASES["classes"]

    def rank(comm):
        model = dense(3)
        measured = [metrics.Accuracy(), metrics.F1(None), metrics.ConfusionMatrix()]
        trainer = trainer_of(model, loss, communicator=comm, slots=8, metrics=measured)
        trainer.evaluation_batch = 50  # three batches: one rank of four has none
        data = ROWS, targets, WEIGHTS
        trainer.fit(data, data, epochs=2, batch_size=30)
        return bits(trainer), trainer.history.rows, measured[2].compute().tolist()

    expected = rank(None)
    for size in (2, 4):
        assert run(size, rank) == [expected] * size
    mpi.close()


def test_the_mean_of_an_evaluation_weighs_its_batches():
    targets, loss = CASES["classes"]
    trainer = trainer_of(dense(3), loss)
    trainer.evaluation_batch = 7
    in_parts = trainer.evaluate((ROWS, targets, WEIGHTS))
    trainer.evaluation_batch = 500
    whole = trainer.evaluate((ROWS, targets, WEIGHTS))
    assert in_parts == pytest.approx(whole, rel=1e-6)
    counts = targets != 1
    right = (trainer.predict(ROWS) == targets)[counts]
    share = (right * WEIGHTS[counts]).sum() / WEIGHTS[counts].sum()
    assert whole["accuracy"] == pytest.approx(share)


def test_the_mean_of_an_epoch_weighs_its_steps():
    """Without a step worth the name it is the evaluation's, whose batches are others."""
    targets, loss = CASES["classes"]
    trainer = trainer_of(dense(3), loss, lr=1e-12)
    history = trainer.fit((ROWS, targets, WEIGHTS), epochs=1, batch_size=24)
    assert history.rows[0]["loss"] == pytest.approx(
        trainer.evaluate((ROWS, targets, WEIGHTS))["loss"]
    )


def test_where_nothing_weighs_anything_nothing_moves():
    model = dense(3)
    before = model.state_dict()
    trainer = pycnn.Trainer(model, optim.SGD(model.parameters(), 0.1), slots=4)
    trainer.fit((ROWS, CLASSES, 0 * WEIGHTS), epochs=1, batch_size=30)
    assert trainer.history["loss"] == trainer.history["accuracy"] == [0.0]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# ---- files, logs, callbacks ----------------------------------------------------------------------


def batches(epoch):
    for rows in np.array_split(np.random.default_rng(epoch).permutation(120), 5):
        yield ROWS[rows], CASES["classes"][0][rows], WEIGHTS[rows]


@pytest.mark.parametrize("train", [(ROWS, CASES["classes"][0], WEIGHTS), batches])
def test_a_weighted_run_goes_on_bit_for_bit(tmp_path, train):
    def make(*more):
        measured = [metrics.F1(zero_division=float("nan")), metrics.TopK(2)]
        saves = callbacks.Checkpoint(tmp_path / f"{len(more)}", monitor="val_f1")
        return trainer_of(dense(3), CASES["classes"][1], saves, *more, metrics=measured)

    lengths = {"epochs": 3, **({"steps_per_epoch": 5} if callable(train) else {"batch_size": 24})}
    whole = make()
    whole.fit(train, (ROWS, CASES["classes"][0]), **lengths)
    part = make(StopAt(8))
    part.fit(train, (ROWS, CASES["classes"][0]), **lengths)
    resumed = make()
    resumed.callbacks = [callbacks.Checkpoint(tmp_path / "1", monitor="val_f1")]
    checkpoint.load(resumed, tmp_path / "1" / "last.safetensors")
    resumed.fit(train, (ROWS, CASES["classes"][0]), **lengths)
    assert bits(resumed) == bits(whole)
    assert resumed.history.rows == whole.history.rows
    saves = callbacks.Checkpoint(tmp_path)
    other = trainer_of(dense(3), CASES["classes"][1], saves, metrics=[metrics.F1()])
    with pytest.raises(pycnn.FileError, match=r"metrics .*; expected .*F1.*, that of this run"):
        checkpoint.load(other, tmp_path / "1" / "last.safetensors")


def test_weights_are_a_part_of_the_data_of_a_run():
    trainer = trainer_of(dense(3), None)
    trainer.fit((ROWS, CLASSES, WEIGHTS), epochs=1, batch_size=40)
    with pytest.raises(pycnn.FileError, match="got other samples or labels"):
        trainer.fit((ROWS, CLASSES, WEIGHTS + 1), epochs=2, batch_size=40)


def test_the_best_epoch_is_that_of_the_monitored_metric(tmp_path):
    """Of an error the smallest, of F1 the largest; logs have the columns."""
    saves = callbacks.Checkpoint(tmp_path / "run", monitor="val_mae")
    stops = callbacks.EarlyStopping(2, "val_mae")
    log = callbacks.CsvLog(tmp_path / "log.csv")
    plateau = schedules.ReduceOnPlateau(0.5, 0, monitor="val_r2")
    trainer = trainer_of(
        dense(2), losses.MSE(), saves, stops, log, lr=0.05, schedule=plateau,
        metrics=[metrics.MAE(), metrics.R2()],
    )  # fmt: skip
    history = trainer.fit((ROWS, NUMBERS), (ROWS, NUMBERS), epochs=12, batch_size=20)
    best = trainer_of(dense(2), losses.MSE(), metrics=[metrics.MAE()])
    best.model.load_state_dict(pycnn.load_model(tmp_path / "run" / "best.safetensors").state_dict())
    assert best.evaluate((ROWS, NUMBERS))["mae"] == min(history["val_mae"]) == stops.best
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_r2"]) for row in rows] == history["val_r2"]
    with pytest.raises(ValueError, match="EarlyStopping looks at the validation"):
        trainer_of(dense(2), losses.MSE(), callbacks.EarlyStopping(2, "val_mae")).fit(
            (ROWS, NUMBERS), epochs=1
        )


# ---- sentences -----------------------------------------------------------------------------------


def two_arguments(outputs, labels):
    return losses.SoftmaxCrossEntropy()(outputs, labels)


MODEL = Sequential(Conv2d(2, 3, 1, rng=0))


@pytest.mark.parametrize(
    ("model", "loss", "data", "error", "words"),
    [
        (dense(2), losses.MSE(), (ROWS, NUMBERS.astype(float)), TypeError,
         r"labels are float64 \(120, 2\); expected float32 .* write labels.astype\(np.float32\)"),
        (dense(2), losses.MSE(), (ROWS, NUMBERS[:9]), ValueError, "as many as samples"),
        (dense(2), losses.MSE(), (ROWS, NUMBERS[:, 0]), ValueError,
         r"float32 \(120, 1\), and the model makes \(None, 2\); expected a number for each"),
        (dense(2), losses.BinaryCrossEntropy(), (ROWS, LABELS), ValueError, "number for each of"),
        (dense(3), None, (ROWS, CLASSES, WEIGHTS.astype(float)), TypeError,
         r"weights are float64 \(120,\); .* write weights.astype\(np.float32\)"),
        (dense(3), None, (ROWS, CLASSES, WEIGHTS[:3]), TypeError, r"expected float32 \[120\]"),
        (dense(3), None, (ROWS, CLASSES, WEIGHTS - 1), ValueError, "weights hold -1.0; expected"),
        (dense(3), two_arguments, (ROWS, CLASSES, WEIGHTS), TypeError,
         "two_arguments takes two arguments; expected a third one"),
        (MODEL, None, (MAPS, PIXELS[:, :4]), ValueError, r"a class for each pixel, \(24, 5, 7\)"),
        (MODEL, None, (MAPS, PIXELS), ValueError, "labels go from 0 to 255; expected 0 to 2"),
        (MODEL, None, (MAPS, PIXELS[:, 0, 0]), ValueError, "or give a class for each pixel"),
        (MODEL, losses.SoftmaxCrossEntropy(ignore_index=0), (MAPS, PIXELS), ValueError,
         "labels go from 1 to 255"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_a_sentence(model, loss, data, error, words):
    for form in (data, [data]):  # as arrays and as a batch
        with pytest.raises(error, match=words):
            trainer_of(model, loss).fit(form, epochs=1)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (metrics.F1(), TypeError, "expected a list of pycnn.metrics"),
        ([metrics.F1], TypeError, "expected a list of pycnn.metrics"),
        ([metrics.F1(), metrics.F1()], ValueError, "the name 'f1', which is taken; .*other_f1"),
        ([metrics.MAE(name="loss")], ValueError, "the name 'loss', which is taken"),
    ],
)
def test_metrics_that_are_none_are_a_sentence(given, error, words):
    with pytest.raises(error, match=words):
        trainer_of(dense(3), None, metrics=given)


def test_a_checkpoint_of_format_2_goes_on(tmp_path):
    """Its sums were the losses and the right answers; of arrays the rest is known."""
    from pycnn._formats import files

    def make(*more, folder=tmp_path):
        return trainer_of(dense(3), None, callbacks.Checkpoint(folder), *more)

    make(StopAt(4)).fit((ROWS, CLASSES), epochs=2, batch_size=40)
    path = tmp_path / "last.safetensors"
    tensors, metadata = files.read_safetensors(path)
    sums = metadata["position"]["sums"]
    metadata["position"]["sums"] = [sums["loss"][0], sums["accuracy"][0]]
    metadata["format"] = 2
    files.write_safetensors(path, tensors, metadata)
    whole = trainer_of(dense(3), None)
    whole.fit((ROWS, CLASSES), epochs=2, batch_size=40)
    resumed = make()
    checkpoint.load(resumed, path)
    resumed.fit((ROWS, CLASSES), epochs=2, batch_size=40)
    assert resumed.history.rows == whole.history.rows
    metadata["position"]["data"] = [3]
    files.write_safetensors(path, tensors, metadata)
    with pytest.raises(pycnn.FileError, match="an older pycnn has saved it within an epoch of"):
        checkpoint.load(make(), path)
