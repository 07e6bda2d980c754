"""How a batch is cut into slots, what is refused, and what ranks tell each other."""

import itertools

import numpy as np
import pytest
from fake_mpi import failures, filled, pretend_mpi, run

import pycnn
from pycnn import optim, ranks
from pycnn.layers import Dropout, Linear, Parameter, Sequential
from pycnn.layers.slot import CURRENT
from pycnn.ranks import Ranks


@pytest.fixture(autouse=True)
def mpi(monkeypatch):
    yield from pretend_mpi(monkeypatch)


# ---- how a batch is cut ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "slots", "sizes"),
    [(100, 8, [13] * 4 + [12] * 4), (8, 8, [1] * 8), (17, 4, [5, 4, 4, 4]), (9, 1, [9])],
)
def test_slots_lie_one_after_the_other_and_differ_by_one_at_most(samples, slots, sizes):
    places = Ranks(slots=slots).cut(samples)
    assert [stop - start for start, stop in places] == sizes
    assert [start for start, _ in places] == [0, *itertools.accumulate(sizes)][:-1]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ranks_share_a_batch(size):
    def rank(comm):
        mine = Ranks(comm, 8)
        part = mine.part(100)
        for slot in mine.share(np.zeros((100, 2))):
            assert slot.here == slice(slot.rows.start - part.start, slot.rows.stop - part.start)
            assert slot.samples == slot.rows.stop - slot.rows.start
            assert slot.weight == slot.samples / 100
            slot.note(slot.number, slot.rows.start, slot.rows.stop)
            slot.note(slot.weight)
        return part, [slot.numbers for slot in mine._slots], mine.reduce([])

    found = run(size, rank)
    assert [i for part, _, _ in found for i in range(100)[part]] == list(range(100))
    numbers = [row for _, rows, _ in found for row in rows]
    assert [row[0] for row in numbers] == list(range(8))
    assert [row[1:3] for row in numbers] == Ranks(slots=8).cut(100)
    assert {total for _, _, total in found} == {tuple(np.sum(numbers, axis=0).tolist())}
    assert found[0][2][3] == 1


# ---- sentences ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "advice"),
    [
        (0, "slots is 0; expected a power of two"),
        (-8, "slots is -8; expected a power of two"),
        (True, "slots is True"),
        (8.0, "slots is 8.0"),
        ("8", "slots is '8'"),
        (12, "slots is 12; .* write 8 or 16"),
    ],
)
def test_another_number_of_slots_is_refused(slots, advice):
    with pytest.raises(ValueError, match=f"^Ranks: {advice}"):
        Ranks(slots=slots)


@pytest.mark.parametrize(("size", "slots", "fit"), [(3, 8, "1, 2, 4, 8"), (4, 2, "1, 2")])
def test_ranks_that_do_not_divide_the_slots_are_refused_on_each(size, slots, fit):
    expected = (
        f"Ranks: {size} ranks and {slots} slots; expected ranks that divide the slots: {fit}. "
        "Start as many, or give more slots."
    )
    found = failures(size, lambda comm: Ranks(comm, slots))
    assert [(type(error), str(error)) for error in found] == [(ValueError, expected)] * size


def test_what_is_no_communicator_is_refused():
    with pytest.raises(TypeError, match=r"^Ranks: communicator is an int; expected one of mpi4py"):
        Ranks(4)


def test_a_batch_smaller_than_the_slots_is_refused_before_anything_is_sent():
    expected = "Ranks: a batch of 7 samples and 8 slots; expected at least one sample a slot"
    found = failures(2, lambda comm: next(Ranks(comm, 8).share(7)))
    assert all(str(error).startswith(expected) for error in found)
    with pytest.raises(ValueError, match=r"^Ranks: arrays of 7, 8 samples; expected as many"):
        next(Ranks(slots=2).share((np.zeros(8), np.zeros(7))))
    with pytest.raises(TypeError, match=r"^Ranks: batch is .*None.*; expected a number of samples"):
        next(Ranks(slots=2).share(None))


def test_a_share_that_was_not_computed_to_its_end_is_refused():
    mine = Ranks(slots=4)
    with pytest.raises(RuntimeError, match=r"^Ranks.reduce: 0 of 4 slots were computed"):
        mine.reduce([])
    for slot in mine.share(4):
        if slot.number == 1:
            break
    assert CURRENT.get() is None
    with pytest.raises(RuntimeError, match=r"^Ranks.reduce: 1 of 4 slots were computed"):
        mine.reduce([])
    sum(1 for _ in mine.share(4))
    assert mine.reduce([]) == ()
    with pytest.raises(RuntimeError, match="0 of 4 slots"):  # not a second time
        mine.reduce([])


def test_an_error_in_a_slot_leaves_nothing_behind():
    parameter, mine = Parameter(np.zeros(3, np.float32)), Ranks(slots=2)

    def fails():
        for slot in mine.share(2):
            filled(parameter, 5)
            slot.note(1 / slot.number)

    with pytest.raises(ZeroDivisionError):
        fails()
    assert CURRENT.get() is None
    assert parameter.grad is None
    for slot in mine.share(2):
        filled(parameter, slot.number + 1)
    mine.reduce([parameter])
    assert parameter.grad.tolist() == [3, 3, 3]


def test_slots_that_note_other_numbers_are_refused():
    mine = Ranks(slots=2)
    for slot in mine.share(2):
        slot.note(*[1.0] * (slot.number + 1))
    with pytest.raises(ValueError, match=r"^Ranks: slots have noted 1 and 2 numbers; expected as"):
        mine.reduce([])


def test_parameters_of_two_types_are_refused():
    def mixed():
        for _ in Ranks(slots=2).share(2):
            for kind in (np.float32, np.float64):
                filled(Parameter(np.zeros(2, kind)), 0)

    with pytest.raises(TypeError, match=r"^Ranks: the parameters are float32, float64; expected"):
        mixed()


def test_other_facts_name_the_rank_on_each():
    found = failures(4, lambda comm: Ranks(comm, 4).same({"seed": [int(comm.rank == 2), "x"]}))
    expected = (
        'Ranks: rank 2 has seed [1, "x"], and rank 0 has [0, "x"]; expected the same on all ranks.'
    )
    assert list(map(str, found)) == [expected] * 4
    assert failures(4, lambda comm: Ranks(comm, 4).same({"seed": 0})) == [None] * 4


# ---- what ranks tell each other ----------------------------------------------------------------


def test_all_begin_with_the_numbers_of_rank_0():
    def rank(comm):
        model = Sequential(Linear(3, 2, rng=comm.rank), Dropout(0.5, rng=comm.rank))
        optimizer = optim.Adam(model.parameters())
        for _ in range(comm.rank + 1):
            model.backward(np.ones_like(model(np.full((4, 3), comm.rank, np.float32))))
            optimizer.step()
        before = model.state_dict(), model.rng_state(), optimizer.state_dict()
        Ranks(comm, 2).broadcast(model, optimizer)
        return before, (model.state_dict(), model.rng_state(), optimizer.state_dict())

    (first, _), (other, after) = run(2, rank)
    for mine, theirs, now in ((first[0], other[0], after[0]), (first[2], other[2], after[2])):
        assert any(mine[name].tobytes() != theirs[name].tobytes() for name in mine)
        assert all(mine[name].tobytes() == now[name].tobytes() for name in mine)
    assert first[1] == after[1] != other[1]


def test_things_of_all_ranks_come_in_their_order():
    def rank(comm):
        mine = Ranks(comm, 4)
        collected = mine.collect([f"{i}" for i in range(comm.rank, 6, 4)], 6)
        gathered = mine.gather(np.full((2, 3), comm.rank, np.int16))
        wish = mine.first_of(None), mine.first_of(f"of {comm.rank}" if comm.rank > 1 else None)
        with mine.alone():
            assert (mine.rank, mine.size, mine.collect([7], 1)) == (0, 1, [7])
        return collected, gathered.tolist(), wish, mine.rank

    found = run(4, rank, delay=0.002)
    rows = [[number] * 3 for number in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert [f[:3] for f in found] == [(list("012345"), rows, (None, "of 2"))] * 4
    assert [f[3] for f in found] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("bound", "cpus", "share"),
    [([{0, 1}] * 4, 2, (2, 2)), ([{0}, {1}, {2}, {3}], 1, (2, 2)), ([{0, 1, 2, 3}] * 4, 2, (2, 4))],
)
def test_ranks_of_one_machine_share_its_cores(monkeypatch, bound, cpus, share):
    told = []
    together = ranks.together
    monkeypatch.setattr(together.machine, "share_with", lambda *given: told.append(given))
    monkeypatch.setattr(together.machine, "available_cpus", lambda: cpus)
    places = iter(bound)
    monkeypatch.setattr(together.os, "sched_getaffinity", lambda _: next(places))
    run(4, lambda comm: Ranks(comm, 4), machines=["x", "y", "y", "x"])
    assert told == [share] * 4


def test_a_number_of_threads_that_was_set_stays(monkeypatch):
    machine = ranks.together.machine
    for name in ("PYCNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine._pycnn, "available_cpus", lambda: 8)
    monkeypatch.setattr(machine, "_ranks_here", 1)
    monkeypatch.setattr(machine, "_chosen", False)
    for ranks_here, cores, threads in ((2, 8, 4), (3, 8, 2), (16, 8, 1), (1, 99, 8)):
        machine.share_with(ranks_here, cores)
        assert pycnn.get_num_threads() == threads
    machine.share_with(2, 8)
    assert "threads: 4 in each of 2 ranks of this machine" in pycnn.show_config()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    machine.share_with(4, 8)
    assert pycnn.get_num_threads() == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    pycnn.set_num_threads(5)
    machine.share_with(2, 8)
    assert pycnn.get_num_threads() == 5
