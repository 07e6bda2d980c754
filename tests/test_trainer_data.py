"""Data of any kind: rows, maps, memory maps, and batches of the user's own."""

import tracemalloc
import warnings

import numpy as np
import pytest
from trainer_cases import CLASSES, StopAt, bits, make_data, make_model, make_trainer

import pycnn
from pycnn import callbacks, checkpoint, datasets, optim, schedules
from pycnn.augment import Augmentation
from pycnn.layers import Flatten, Linear, Sequential
from pycnn.preprocessing import Normalization

TRAIN, VALIDATION = make_data(), make_data(13, seed=1)
IMAGES, LABELS = TRAIN


def plain_trainer(model=None, **options):
    model = model or make_model(dropout=False)
    return pycnn.Trainer(model, optim.Adam(model.parameters(), 0.01), **options)


def linear(features=36):
    return Sequential(Flatten(), Linear(features, CLASSES, rng=0))


@pytest.mark.parametrize("shape", [(36,), (6, 6), (3, 12), (2, 3, 3, 2), (6, 6, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_samples_of_any_shape(shape, dtype):
    """All of them are the same numbers to Flatten, so all give the same bits."""

    def run(shape):
        trainer = plain_trainer(linear())
        trainer.model.normalization = Normalization(0.4, 0.3)
        x = IMAGES if dtype == np.uint8 else IMAGES.astype(np.float32) / 255
        trainer.fit((x.reshape(-1, *shape), LABELS), epochs=2, batch_size=10)
        assert trainer.model.input_shape == shape
        found = trainer.evaluate((x.reshape(-1, *shape), LABELS))
        return bits(trainer), found, trainer.predict(x.reshape(-1, *shape)).tolist()

    assert run(shape) == run((6, 6, 1))


def test_whole_numbers_in_rows_are_no_bytes():
    trainer = plain_trainer(linear())
    trainer.fit((IMAGES.reshape(-1, 36).astype(np.float32), LABELS), epochs=1, batch_size=10)
    assert trainer.steps_done == 3


@pytest.mark.parametrize("labels", [LABELS[:, None], LABELS[:, None].tolist(), np.uint8(LABELS)])
def test_labels_as_a_column(labels):
    """Not by argmax, which makes all of them class 0."""
    column, flat = plain_trainer(), plain_trainer()
    column.fit((IMAGES, labels), (IMAGES, labels), epochs=2, batch_size=10)
    flat.fit(TRAIN, TRAIN, epochs=2, batch_size=10)
    assert bits(column) == bits(flat)
    assert column.history.rows == flat.history.rows


@pytest.mark.parametrize("order", ["C", "F", "unaligned"])
def test_memory_maps_are_never_read_whole(tmp_path, order):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (4000, 24, 24, 1)).astype(np.float32) / 255  # 9.2 MB
    labels = np.arange(len(x)) % CLASSES
    if order == "unaligned":
        (tmp_path / "x").write_bytes(b"-" + x.tobytes())
        mapped = np.memmap(tmp_path / "x", np.float32, "r", 1, x.shape)
    else:
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert mapped.flags.aligned == (order != "unaligned")
    whole, part = (plain_trainer(linear(576)) for _ in range(2))
    tracemalloc.start()
    try:
        part.fit((mapped, labels), (mapped, labels), epochs=1, batch_size=50)
        classes = part.predict(mapped)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2  # 1000 samples for the check sum, 500 in an evaluation
    whole.fit((x, labels), (x, labels), epochs=1, batch_size=50)
    assert bits(part) == bits(whole)
    assert part.history.rows == whole.history.rows
    np.testing.assert_array_equal(classes, whole.predict(x))


def test_augmentation_of_arrays_with_gaps(tmp_path):
    wide = np.repeat(IMAGES, 2, axis=2)[:, :, ::2]
    runs = [plain_trainer(augmentation=Augmentation(shift=1.0)) for _ in range(3)]
    for trainer, x in zip(runs, (IMAGES, wide), strict=False):
        trainer.fit((x, LABELS), epochs=1, batch_size=10)
    assert bits(runs[0]) == bits(runs[1])
    np.save(tmp_path / "x.npy", np.asfortranarray(IMAGES))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(ValueError, match="augmentation with a memory map that is not in C order"):
        runs[2].fit((mapped, LABELS), epochs=1, batch_size=10)


@pytest.mark.parametrize("x", [IMAGES[..., 0], IMAGES.reshape(-1, 36)])
def test_augmentation_needs_images(x):
    trainer = plain_trainer(linear(), augmentation=Augmentation(shift=1.0))
    with pytest.raises(ValueError, match=r"augmentation distorts images \[n, H, W, C\], and train"):
        trainer.fit((x, LABELS), epochs=1, batch_size=10)
    with pytest.raises(ValueError, match=r"augmentation distorts images \[n, H, W, C\], and train"):
        trainer.fit([(x, LABELS)], epochs=1)
    assert trainer.steps_done == 0


class Tensor:
    """What a DataLoader of PyTorch gives: an array only by `__array__`."""

    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype)


def rows_of(epoch):
    """The order of a Trainer with seed 0, in batches of 10."""
    order = np.random.default_rng([0, 1, epoch]).permutation(37)
    return [order[first : first + 10] for first in (0, 10, 20)]


def of_epoch(epoch):
    for rows in rows_of(epoch):
        yield IMAGES[rows], LABELS[rows]


class Loader:
    """Batches of tensors, as lists, in the order of `set_epoch`; its len is known."""

    def __init__(self, wrap=Tensor):
        self.wrap = wrap

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 3

    def __iter__(self):
        return ([self.wrap(x), self.wrap(y)] for x, y in of_epoch(self.epoch))


def counted():
    """A function without the epoch, called anew for each of them."""
    calls = iter(range(100))
    return lambda: of_epoch(next(calls))


STREAMS = {
    "function of the epoch": lambda: of_epoch,
    "function": counted,
    "set_epoch": Loader,
    "optional epoch": lambda: lambda epoch=9: list(of_epoch(epoch)),
    "columns": lambda: lambda epoch: ((x, y[:, None]) for x, y in of_epoch(epoch)),
    "floats": lambda: lambda e: ((np.float32(x) * np.float32(1 / 255), y) for x, y in of_epoch(e)),
    "other order": lambda: lambda e: ((np.asfortranarray(x), y) for x, y in of_epoch(e)),
}


@pytest.mark.parametrize("name", STREAMS)
def test_batches_of_the_user_s_give_the_bits_of_arrays(name):
    arrays, stream = (plain_trainer() for _ in range(2))
    for trainer in (arrays, stream):
        trainer.model.normalization = Normalization(0.4, 0.3)
    arrays.fit(TRAIN, VALIDATION, epochs=3, batch_size=10)
    validation = [(VALIDATION[0][:500], VALIDATION[1][:500])]
    history = stream.fit(STREAMS[name](), validation, epochs=3)
    assert bits(stream) == bits(arrays)
    for row, other in zip(history.rows, arrays.history.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-12)
    assert (stream.epoch, stream.steps_done, stream.steps_per_epoch) == (3, 9, 3)
    assert stream.model.input_shape == (6, 6, 1)


def test_batches_of_different_sizes_count_by_sample():
    sizes = [IMAGES[:3], IMAGES[3:20], IMAGES[20:]]
    labels = [LABELS[:3], LABELS[3:20], LABELS[20:]]
    log = callbacks.LearningRateLog()
    trainer = plain_trainer(callbacks=[log])
    history = trainer.fit(list(zip(sizes, labels, strict=True)), epochs=1)
    mean = np.dot(log.losses, [3, 17, 17]) / 37
    assert history["loss"][0] == pytest.approx(mean, rel=1e-12)
    assert history["loss"][0] != pytest.approx(np.mean(log.losses), rel=1e-6)
    found = trainer.evaluate(list(zip(sizes, labels, strict=True)))
    assert found == pytest.approx(trainer.evaluate(TRAIN), rel=1e-6)
    parts = [[(x, np.zeros(len(x), int)) for x in sizes], sizes, iter(sizes), lambda: iter(sizes)]
    for part in (*parts, (IMAGES, LABELS), datasets.Split(IMAGES, LABELS), [Tensor(IMAGES)]):
        classes = trainer.predict_proba(part).argmax(axis=1) if part is not parts[2] else None
        classes = trainer.predict(part) if classes is None else classes
        np.testing.assert_array_equal(classes, trainer.predict(IMAGES))


def test_steps_per_epoch_ends_an_epoch_of_arrays():
    arrays, stream = (plain_trainer(schedule=schedules.OneCycle()) for _ in range(2))
    history = arrays.fit(TRAIN, epochs=2, batch_size=10, steps_per_epoch=2)
    other = stream.fit(of_epoch, epochs=2, steps_per_epoch=2)
    assert bits(arrays) == bits(stream)
    for row, expected in zip(history.rows, other.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-12)
    assert (arrays.steps_done, arrays.steps_per_epoch) == (4, 2)
    with pytest.raises(pycnn.FileError, match=r"of 10; expected the .* of 10, 2 an epoch that"):
        arrays.fit(TRAIN, epochs=3, batch_size=10)


def test_steps_per_epoch_cuts_an_endless_function():
    def endless():
        while True:
            yield IMAGES[:5], LABELS[:5]

    schedule = schedules.OneCycle()
    trainer = plain_trainer(schedule=schedule)
    trainer.fit(endless, epochs=2, steps_per_epoch=4)
    assert trainer.history["step"] == [4, 8]
    assert trainer.history["lr"][1] == 0.01 * schedules.OneCycle(8)(7)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.OneCycle(),
        schedules.Cosine(),
        schedules.StepDecay(),
        schedules.Warmup(2, schedules.Cosine()),
    ],
)
def test_a_schedule_over_a_run_of_unknown_length(schedule):
    trainer = plain_trainer(schedule=schedule)
    with pytest.raises(
        ValueError, match=r"schedule \w+ needs the number of steps.*_per_epoch=\.\."
    ):
        trainer.fit(of_epoch, epochs=2)
    assert trainer.steps_done == 0
    trainer.fit(Loader(), epochs=2)  # which has a len
    assert trainer.steps_done == 6


@pytest.mark.parametrize(
    "schedule",
    [schedules.OneCycle(9), schedules.StepDecay(4), schedules.ReduceOnPlateau(monitor="loss")],
)
def test_a_schedule_with_a_length_of_its_own(schedule):
    trainer = plain_trainer(schedule=schedule)
    trainer.fit(of_epoch, epochs=2)
    assert trainer.steps_done == 6


@pytest.mark.parametrize("make", [lambda: of_epoch, Loader, lambda: list(of_epoch(0))])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_of_batches_goes_on_bit_for_bit(tmp_path, make, step):
    """With the epoch's number, its batches can be asked for again; a list has no other."""
    options = {"schedule": schedules.StepDecay(2), "augmentation": Augmentation(shift=1.0)}
    whole = make_trainer(**options)
    whole.fit(make(), VALIDATION, epochs=2)
    first = make_trainer(callbacks.Checkpoint(tmp_path), StopAt(step), **options)
    first.fit(make(), VALIDATION, epochs=2)
    assert first.steps_done == step
    second = make_trainer(callbacks.Checkpoint(tmp_path), **options)
    checkpoint.load(second, tmp_path / "last.safetensors")
    second.fit(make(), VALIDATION, epochs=2)
    assert bits(second) == bits(whole)
    assert second.history.rows == whole.history.rows


def test_a_run_of_batches_that_cannot_go_on(tmp_path):
    trainer = make_trainer(callbacks.Checkpoint(tmp_path), StopAt(2), schedule=schedules.Constant())
    trainer.fit(counted(), epochs=2)
    expected = r"goes on after epoch 0, step 2, and train cannot be asked .* \(def batches\(epoch\)"
    with pytest.raises(ValueError, match=expected):
        trainer.fit(counted(), epochs=2)
    trainer = make_trainer(callbacks.Checkpoint(tmp_path), schedule=schedules.Constant())
    checkpoint.load(trainer, tmp_path / "last.safetensors")
    with pytest.raises(ValueError, match=expected):
        trainer.fit(counted(), epochs=2)
    with pytest.raises(
        pycnn.FileError, match=r"got 37 training samples .* batches of unknown numb"
    ):
        trainer.fit(TRAIN, epochs=2)
    trainer.fit(of_epoch, epochs=2)
    assert trainer.steps_done == 6


def test_augmentation_of_batches_differs_by_batch():
    """Equal samples in two batches are distorted in two ways, and again the same way."""
    seen = []
    batch = IMAGES[:4], LABELS[:4]

    class Look(callbacks.Callback):
        def on_step_end(self, trainer):
            seen.append(trainer.x.copy())

    for _ in range(2):
        trainer = plain_trainer(augmentation=Augmentation(shift=2.0), callbacks=[Look()])
        trainer.fit([batch, batch], epochs=1)
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[:2], seen[2:])


def test_a_dataloader_of_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    data = torch.utils.data.TensorDataset(torch.tensor(IMAGES), torch.tensor(LABELS))
    loader = torch.utils.data.DataLoader(data, batch_size=10)
    trainer, arrays = plain_trainer(schedule=schedules.OneCycle()), plain_trainer()
    trainer.fit(loader, loader, epochs=2)
    assert trainer.steps_done == 8
    arrays.fit([(IMAGES[i : i + 10], LABELS[i : i + 10]) for i in range(0, 37, 10)], epochs=2)
    assert trainer.history["accuracy"][0] == pytest.approx(arrays.history["accuracy"][0], abs=0.2)
    assert trainer.predict(loader).shape == (37,)
