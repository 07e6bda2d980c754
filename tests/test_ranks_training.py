"""Training in slots: against plain training, and on ranks that are threads here."""

import numpy as np
import pytest
from fake_mpi import failures, pretend_mpi, run
from tolerance import assert_within, gamma
from trainer_cases import StopAt, bits, make_data, make_trainer

from pycnn import callbacks, losses, ops, optim, schedules
from pycnn.augment import Augmentation
from pycnn.layers import BatchNorm1d, BatchNorm2d, Dropout, Linear, Sequential
from pycnn.preprocessing import Normalization
from pycnn.ranks import Ranks


@pytest.fixture(autouse=True)
def mpi(monkeypatch):
    yield from pretend_mpi(monkeypatch)


def one_batch(model, mine, x, labels):
    """(the loss, what each slot has put out), with gradients in the parameters."""
    loss_function = losses.SoftmaxCrossEntropy()
    found = []
    for slot in mine.share(x):
        logits = model(x[slot.rows])
        loss, dlogits = loss_function(logits, labels[slot.rows])
        model.backward(slot.scaled(dlogits), input_gradient=False)
        slot.note(loss * slot.weight)
        found.append(logits.copy())
    (loss,) = mine.reduce(model.parameters())
    return loss, found


# ---- against plain training --------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "slots"), [(16, 8), (10, 4), (100, 8), (7, 2)])
def test_slots_give_the_gradient_of_the_mean_of_the_batch(rng, samples, slots):
    """Of unequal slots too. dlogits of a sample differs by the roundings of its two factors."""
    x = rng.standard_normal((samples, 5)).astype(np.float32)
    labels = rng.integers(3, size=samples)
    model = Sequential(Linear(5, 3, rng=rng))
    plain, _ = one_batch(model, Ranks(slots=1), x, labels)
    expected = [parameter.grad.copy() for parameter in model.parameters()]
    logits = model(x)
    _, dlogits = losses.SoftmaxCrossEntropy()(logits, labels)
    model.zero_grad()
    loss, found = one_batch(model, Ranks(slots=slots), x, labels)
    assert len(found) == slots
    terms = np.abs(x).T @ np.abs(dlogits), np.abs(dlogits).sum(axis=0)
    for parameter, exact, total in zip(model.parameters(), expected, terms, strict=True):
        # both sums round, so twice; 4: the factor 1 / n of each, the weight, and its product
        assert_within(parameter.grad, exact, 2 * gamma(samples + 4) * total)
        assert np.abs(parameter.grad).max() > 0
    assert loss == pytest.approx(plain, rel=samples * 2.0**-23)


def test_a_trainer_in_slots_learns_as_one_without():
    data = make_data(40)
    rows = []
    for slots in (None, 4):
        trainer = make_trainer(ema=False, slots=slots)
        rows.append(trainer.fit(data, data, epochs=3, batch_size=10).rows)
    assert rows[0] != rows[1]
    assert abs(rows[0][-1]["loss"] - rows[1][-1]["loss"]) < 0.5
    assert rows[1][-1]["loss"] < rows[1][0]["loss"]


def test_without_slots_nothing_changes():
    data = make_data()
    found = []
    for options in ({}, {"slots": 1}, {"slots": None}):
        trainer = make_trainer(**options)
        trainer.fit(data, data, epochs=2, batch_size=10)
        found.append((bits(trainer), trainer.history.rows))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(
    ("kind", "axes"), [(BatchNorm2d, (3, 2)), (BatchNorm1d, ())], ids=["images", "vectors"]
)
def test_running_statistics_take_a_step_for_each_slot_in_order(rng, uses, size, kind, axes):
    x = rng.standard_normal((10, *axes, 5)).astype(np.float32) * 3 + 1

    def rank(comm):
        norm = kind(5, momentum=0.25)
        norm.weight.data[...] = [1, 2, 3, 4, 5]
        mine = Ranks(comm, 4)
        for batch in range(2):
            for slot in mine.share(x):
                y = x[slot.rows]
                for _ in range(uses):
                    y = norm(y)
            assert norm.running_mean.any() == (batch == 1)  # nothing moves before the end
            mine.reduce(norm.parameters())
        return norm.running_mean, norm.running_var

    expected = np.zeros(5, np.float32), np.ones(5, np.float32)
    for _ in range(2):
        for start, stop in Ranks(slots=4).cut(10):
            y = x[start:stop]
            for _ in range(uses):
                moved = np.zeros(5, np.float32), np.zeros(5, np.float32)
                y, _, _ = ops.batch_norm(
                    y, np.arange(1, 6, dtype=np.float32), np.zeros(5, np.float32),
                    running_mean=moved[0], running_var=moved[1], momentum=0.25,
                )  # fmt: skip
                for array, step in zip(expected, moved, strict=True):
                    array[...] = array * np.float32(0.75) + step
    for found in run(size, rank, delay=0.001):
        assert [array.tobytes() for array in found] == [array.tobytes() for array in expected]


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_masks_of_dropout_are_numbered_by_batch_and_slot(uses, size):
    x = np.ones((10, 60), np.float32)

    def rank(comm):
        dropout = Dropout(0.5, rng=3)
        dropout.calls = 100
        mine, found = Ranks(comm, 4), []
        for _ in range(2):
            for slot in mine.share(x):
                outs = [dropout(x[slot.rows]).copy() for _ in range(uses)]
                found.append((slot.number, outs))
            before = dropout.calls
            mine.reduce([])
            assert dropout.calls == before + 4 * uses
        return dropout.seed, found

    found = run(size, rank)
    for batch in range(2):
        for number, (start, stop) in enumerate(Ranks(slots=4).cut(10)):
            each = 4 // size
            seed, outs = found[number // each]
            shown, masks = outs[batch * each + number % each]
            assert shown == number
            for use in range(uses):
                calls = 100 + batch * 4 * uses + use * 4 + number
                expected = ops.dropout(x[start:stop], 0.5, seed=seed, calls=calls)
                assert masks[use].tobytes() == expected.tobytes()


# ---- the same bytes on any ranks ---------------------------------------------------------------


class Once(callbacks.Callback):
    """Keeps the loss of each step."""

    def __init__(self):
        self.losses = []

    def on_step_end(self, trainer):
        self.losses.append(trainer.loss)


def trained(size, train, options=None, lengths=None, delay=0.0, make=make_trainer):
    """What each rank ends with; size None: one process without a communicator."""
    data = make_data(23, seed=1)

    def rank(comm):
        seen = Once()
        trainer = make(seen, communicator=comm, slots=8, **(options or {}))
        trainer.evaluation_batch = 5
        history = trainer.fit(train, data, **(lengths or {"epochs": 2, "batch_size": 11}))
        evaluated = trainer.evaluate(data), trainer.evaluate([data, make_data(4)])
        probabilities = trainer.predict_proba(data[0]), trainer.predict_proba([data[0], data[0]])
        return (
            bits(trainer),
            {name: array.tobytes() for name, array in trainer.evaluated_state().items()},
            history.rows,
            seen.losses,
            evaluated,
            trainer.predict(data[0]).tobytes(),
            [array.tobytes() for array in probabilities],
            trainer.model.rng_state(),
            trainer.stop_reason,
        )

    return [rank(None)] if size is None else run(size, rank, delay=delay)


RUNS = {
    "momentum, batch norm, dropout, average, plateau": {},
    "adam, augmentation, clipping": {
        "optimizer": optim.AdamW,
        "augmentation": Augmentation(shift=1, rotation=20, flip=0.5, mixup=0.5),
        "plain_epochs": 1,
        "clip_norm": 0.1,
        "schedule": schedules.Cosine(),
        "model_seed": 4,
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_with_the_same_bytes_on_any_ranks(name):
    train = make_data(40)
    (expected,) = trained(None, train, RUNS[name])
    for size in (1, 2, 4, 8):
        assert trained(size, train, RUNS[name], delay=0.002) == [expected] * size


def test_streams_have_the_same_bytes_on_any_ranks():
    def batches(epoch):
        for count in (8, 21, 9):
            yield make_data(count, seed=10 * epoch + count)

    lengths = {"epochs": 2, "steps_per_epoch": 3}
    for options in ({}, {"augmentation": Augmentation(mixup=0.5)}):
        (expected,) = trained(None, batches, options, lengths)
        for size in (2, 8):
            assert trained(size, batches, options, lengths, delay=0.001) == [expected] * size


def test_a_stream_with_a_batch_smaller_than_the_slots_is_refused_on_each_rank():
    batches, validation = [make_data(9), make_data(7)], make_data(5)

    def rank(comm):
        make_trainer(communicator=comm).fit(batches, validation, epochs=1)

    for error in failures(2, rank):
        assert isinstance(error, ValueError)
        assert str(error).startswith("Ranks: a batch of 7 samples and 8 slots; expected at least")


def test_a_stop_that_one_rank_wishes_stops_all_after_the_same_step():
    def rank(comm):
        more = [StopAt(5)] if comm is None or comm.rank == 1 else []
        trainer = make_trainer(*more, communicator=comm, slots=4)
        trainer.fit(make_data(40), make_data(9), epochs=3, batch_size=10)
        return bits(trainer), trainer.steps_done, trainer.stop_reason

    assert run(4, rank, delay=0.002) == [rank(None)] * 4
    assert rank(None)[1:] == (5, "at 5")


@pytest.mark.parametrize(
    ("what", "option"),
    [
        ("seed", {"seed": 4}),
        ("lr", {"optimizer": lambda p: optim.SGD(p, 0.04, momentum=0.9)}),
        ("optimizer", {"optimizer": lambda p: optim.SGD(p, 0.05, momentum=0.8)}),
        ("schedule", {"schedule": schedules.Warmup(4, schedules.ReduceOnPlateau(0.5, 0))}),
        ("clip_norm", {"clip_norm": 2.0}),
        ("augmentation", {"augmentation": Augmentation(shift=1)}),
        ("plain_epochs", {"plain_epochs": 1}),
    ],
)
def test_other_settings_on_one_rank_are_a_sentence_on_each(what, option):
    def rank(comm):
        trainer = make_trainer(communicator=comm, **(option if comm.rank == 2 else {}))
        trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)

    for error in failures(4, rank):
        assert isinstance(error, ValueError)
        assert str(error).startswith(f"Ranks: rank 2 has {what} ")
        assert str(error).endswith("; expected the same on all ranks.")


@pytest.mark.parametrize("other", ["samples", "labels", "count", "batch_size", "epochs"])
def test_other_data_on_one_rank_is_a_sentence_on_each(other):
    def rank(comm):
        odd = comm.rank == 1
        x, labels = make_data(37 + (odd and other == "count"))
        if odd and other == "samples":
            x[3, 2, 1, 0] ^= 1
        if odd and other == "labels":
            labels = labels[::-1].copy()
        lengths = {"epochs": 2, "batch_size": 10}
        lengths |= {other: 1 + lengths[other]} if odd and other in lengths else {}
        make_trainer(communicator=comm).fit((x, labels), (x, labels), **lengths)

    for error in failures(2, rank):
        assert str(error).startswith("Ranks: rank 1 has ")


@pytest.mark.parametrize("what", ["loss", "normalization"])
def test_other_parts_on_one_rank(what):
    def rank(comm):
        trainer = make_trainer(communicator=comm, slots=4, ema=False)
        if comm.rank == 1 and what == "loss":
            trainer.loss_function = losses.SoftmaxCrossEntropy(0.2)
        if comm.rank == 1 and what == "normalization":
            trainer.model.normalization = Normalization(0.5, 0.25)
        trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)

    for error in failures(2, rank):
        assert str(error).startswith("Ranks: rank 1 has ")
