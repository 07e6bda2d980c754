"""Optimizers cut over ranks, normalisation over all slots, and slots that meet halfway."""

import numpy as np
import pytest
from fake_mpi import pretend_mpi, run
from trainer_cases import bits, make_data

import pycnn
from pycnn import callbacks, optim, schedules
from pycnn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential
from pycnn.ranks import Ranks
from pycnn.ranks.turns import Turns


@pytest.fixture(autouse=True)
def mpi(monkeypatch):
    yield from pretend_mpi(monkeypatch)


def make_model():
    return Sequential(
        Conv2d(1, 3, 3, padding="same", rng=1), BatchNorm2d(3), ReLU(),
        Flatten(), Linear(6 * 6 * 3, 5, rng=2), BatchNorm1d(5), ReLU(), Linear(5, 4, rng=3),
    )  # fmt: skip


OPTIMIZERS = {
    "momentum": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, 0.01),
    "adamw": lambda p: optim.AdamW(p, 0.01, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5),
    "plain": lambda p: optim.SGD(p, 0.05),
}


def make_trainer(comm, optimizer="adamw", **options):
    model = make_model()
    return pycnn.Trainer(
        model, OPTIMIZERS[optimizer](model.parameters()), communicator=comm, slots=4, **options
    )


def fit(trainer, epochs=2, samples=42):
    trainer.fit(make_data(samples), make_data(9, seed=5), epochs=epochs, batch_size=14)
    return trainer


# ---- optimizers --------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sharded_optimizer_changes_no_byte(name, clip_norm):
    def rank(comm):
        options = {"clip_norm": clip_norm, "schedule": schedules.Cosine()}
        trainer = fit(make_trainer(comm, name, shard_optimizer=comm is not None, **options))
        trainer.gather()
        return bits(trainer)

    expected = rank(None)
    for size in (1, 2, 4):
        assert run(size, rank, delay=0.001) == [expected] * size


def test_a_rank_moves_its_own_moments_alone_until_they_are_gathered():
    whole = fit(make_trainer(None)).optimizer.state_dict()

    def rank(comm):
        trainer = fit(make_trainer(comm, shard_optimizer=True))
        before = trainer.optimizer.state_dict()
        trainer.gather()
        return before, trainer.optimizer.state_dict()

    found = run(4, rank)
    for name, exact in whole.items():
        if name == "step":
            continue
        owned = [before[name] != 0 for before, _ in found]
        assert (np.sum(owned, axis=0) == (exact != 0)).all()  # each number on one rank
        for mine, (before, gathered) in zip(owned, found, strict=True):
            np.testing.assert_array_equal(before[name][mine], exact[mine])
            np.testing.assert_array_equal(gathered[name], exact)


def test_its_checkpoints_are_those_of_one_process(tmp_path):
    def saved(comm, folder):
        saver = callbacks.Checkpoint(folder, every=2)
        fit(make_trainer(comm, shard_optimizer=True, callbacks=[saver]))
        return (folder / "last.safetensors").read_bytes()

    one = saved(None, tmp_path / "one")
    assert run(2, lambda comm: saved(comm, tmp_path / "two")) == [one] * 2

    def resumed(comm):
        trainer = make_trainer(comm, shard_optimizer=True)
        trainer.callbacks.append(callbacks.Checkpoint(tmp_path / "three"))
        pycnn.checkpoint.load(trainer, tmp_path / "two" / "last.safetensors")
        fit(trainer, epochs=3)
        trainer.gather()
        return bits(trainer)

    def whole():
        saver = callbacks.Checkpoint(tmp_path / "whole")
        return bits(fit(make_trainer(None, callbacks=[saver]), epochs=3))

    assert run(4, resumed) == [whole()] * 4


def test_an_optimizer_of_ones_own_is_not_cut():
    class Own(optim.Optimizer):
        def _update(self, i, t, param, grad):
            param -= self.lr * grad

    def rank(comm):
        model = make_model()
        with pytest.raises(TypeError, match="shard_optimizer=True with Own; expected SGD, Adam"):
            pycnn.Trainer(
                model, Own(model.parameters(), 0.1), communicator=comm, shard_optimizer=True
            )
        return True

    assert run(2, rank) == [True, True]


def test_switches_that_are_no_bool_are_refused():
    for name in ("shard_optimizer", "sync_batch_norm"):
        with pytest.raises(TypeError, match=f"{name} is 1; expected True or False"):
            make_trainer(None, **{name: 1})


# ---- normalisation over all slots --------------------------------------------------------------


def test_synchronised_normalisation_is_that_of_the_whole_batch():
    model = make_model()
    plain = fit(pycnn.Trainer(model, OPTIMIZERS["momentum"](model.parameters())))
    together = fit(make_trainer(None, "momentum", sync_batch_norm=True))
    by_slot = fit(make_trainer(None, "momentum"))
    exact = plain.state_arrays()
    for name, array in together.state_arrays().items():
        scale = np.abs(exact[name]).max()
        np.testing.assert_allclose(array, exact[name], rtol=1e-4, atol=2e-5 * scale + 1e-6)
    for name in ("1.running_mean", "5.running_mean"):
        assert np.abs(by_slot.state_arrays()[name] - exact[name]).max() > 1e-3  # so it can fail


def test_synchronised_normalisation_has_the_same_bytes_on_any_ranks():
    expected = bits(fit(make_trainer(None, sync_batch_norm=True)))

    def rank(comm):
        trainer = fit(make_trainer(comm, sync_batch_norm=True, shard_optimizer=True))
        trainer.gather()
        return bits(trainer)

    for size in (1, 2, 4):
        assert run(size, rank, delay=0.001) == [expected] * size


def test_each_calls_a_function_for_the_slots_that_share_gives():
    for sync in (False, True):
        mine, found = Ranks(slots=4, sync_batch_norm=sync), []
        mine.each(10, lambda slot, found=found: found.append((slot.number, slot.rows)))
        assert found == [(0, slice(0, 3)), (1, slice(3, 6)), (2, slice(6, 8)), (3, slice(8, 10))]
        assert mine.reduce([]) == ()


def test_share_is_refused_where_slots_meet():
    with pytest.raises(RuntimeError, match=r"^Ranks.share: with sync_batch_norm slots meet"):
        next(Ranks(slots=2, sync_batch_norm=True).share(4))


# ---- turns -------------------------------------------------------------------------------------


def test_turns_go_round_in_order():
    seen, turns = [], Turns(3, sum)

    def body(i):
        seen.append(("begin", i))
        seen.append(("met", i, turns.meet(i, 10**i)))
        seen.append(("again", i, turns.meet(i, i)))

    for _ in range(2):
        seen.clear()
        turns.run(body)
        assert seen == [
            *(("begin", i) for i in range(3)),
            *(("met", i, 111) for i in range(3)),
            *(("again", i, 3) for i in range(3)),
        ]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_in_one_turn_ends_all_and_is_raised(bad):
    turns = Turns(3, sum)

    def body(i):
        turns.meet(i, 1)
        if i == bad:
            raise ZeroDivisionError(str(i))
        turns.meet(i, 1)

    with pytest.raises(ZeroDivisionError, match=str(bad)):
        turns.run(body)
