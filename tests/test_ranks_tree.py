"""The tree of sums against an explicit one: in one process, and on ranks that are threads here.

Every message takes a random time, so these tests permute arrival.
"""

import numpy as np
import pytest
from fake_mpi import failures, filled, pretend_mpi, run

from pycnn.layers import Parameter
from pycnn.ranks import Ranks
from pycnn.ranks import gradients as rooms
from pycnn.ranks.tree import tree_sum

SIZES = (1, 2, 3, 7, 1000)  # of parameters: halves of these differ by one


@pytest.fixture(autouse=True)
def mpi(monkeypatch):
    yield from pretend_mpi(monkeypatch)


def explicit(parts):
    """Neighbours first: the picture in tree.py."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return explicit(parts[:half]) + explicit(parts[half:])


def tree_job(gradients, overlap=True, slots=None):
    """A rank's program: gradients[batch][slot] = [(parameter, array), ...], in backward's order."""
    slots = slots or len(gradients[0])

    def rank(comm):
        shapes = {n: a.shape for batch in gradients for slot in batch for n, a in slot}
        kind = gradients[0][0][0][1].dtype
        parameters = {
            name: Parameter(np.zeros(shape, kind), name) for name, shape in shapes.items()
        }
        mine, found = Ranks(comm, slots, overlap=overlap), []
        for batch in gradients:
            for parameter in parameters.values():
                parameter.zero_grad()
            for slot in mine.share(slots):
                for name, array in batch[slot.number]:
                    filled(parameters[name], array)
            mine.reduce(parameters.values())
            empty = {name for name, parameter in parameters.items() if parameter.grad is None}
            found.append({n: p.grad.tobytes() for n, p in parameters.items() if n not in empty})
        return found

    return rank


def expected_of(gradients):
    """What `tree_job` should find: a slot that does not touch a parameter adds zeros to its sum."""
    shapes, found = {}, []
    for batch in gradients:
        shapes |= {name: array.shape for slot in batch for name, array in slot}
        sums = {}
        for name, shape in shapes.items():
            parts = []
            for slot in batch:
                uses = [array for other, array in slot if other == name]
                kind = batch[0][0][1].dtype
                parts.append(sum(uses[1:], uses[0]) if uses else np.zeros(shape, kind))
            sums[name] = explicit(parts).tobytes()
        found.append(sums)
    return found


def drawn(rng, shape, kind=np.float32):
    """Numbers of many magnitudes, whose sum depends on the order."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(kind)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("each", [1, 2, 4, 8])
def test_sums_follow_the_tree(rng, monkeypatch, size, each):
    monkeypatch.setattr(rooms, "BUCKET", 40)  # so several messages
    slots = size * each
    gradients = [
        [[(count, drawn(rng, count)) for count in SIZES] for _ in range(slots)] for _ in range(2)
    ]
    found = run(size, tree_job(gradients), delay=0.002)
    if slots == 1:  # plain training
        assert found[0][0][1000] == gradients[0][0][-1][1].tobytes()
        return
    assert found == [expected_of(gradients)] * size
    assert run(size, tree_job(gradients, overlap=False), delay=0.002) == found
    if slots > 2:
        in_turn = sum(slot[-1][1] for slot in gradients[0])
        assert in_turn.tobytes() != found[0][0][1000]


@pytest.mark.parametrize("count", SIZES)
def test_one_small_parameter_alone(rng, count):
    gradients = [[[("p", drawn(rng, count, np.float64))] for _ in range(8)]]
    for size in (1, 2, 8):
        assert run(size, tree_job(gradients)) == [expected_of(gradients)] * size
    parts = [slot[0][1] for slot in gradients[0]]
    assert tree_sum(parts).tobytes() == expected_of(gradients)[0]["p"]


def test_infinities_nans_and_signs_of_zeros_come_through():
    columns = np.ones((8, 6), np.float32)
    columns[:, 0] = -0.0
    columns[:, 1] = -0.0
    columns[5, 1] = 0.0
    columns[6, 2] = np.inf
    columns[1, 3], columns[6, 3] = np.inf, -np.inf
    columns[2, 4] = np.nan
    columns[:, 5] = 3e38
    with np.errstate(all="ignore"):
        expected = explicit(list(columns))
    assert np.signbit(expected[0])
    assert not np.signbit(expected[1])
    assert np.isnan(expected[3:5]).all()
    assert np.isinf(expected[[2, 5]]).all()
    for size in (1, 2, 4, 8):
        found = run(size, tree_job([[[("p", row)] for row in columns]]))
        for (batch,) in found:
            sums = np.frombuffer(batch["p"], np.float32)
            np.testing.assert_array_equal(sums, expected)
            assert (np.signbit(sums) == np.signbit(expected))[[0, 1, 2, 5]].all()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_parameters_that_some_slots_leave_out_or_use_twice(rng, size):
    uses = ["aab", "ab", "ba", "a", "b", "aabb", "b", "a"]  # by slot
    if size > 1:  # the order of first use is that of each rank
        uses = ["aab", "ab", "ab", "a", "ab", "aabb", "ab", "b" if size == 2 else "a"]
    count = {"a": 7, "b": 1000}
    gradients = [[[(n, drawn(rng, count[n])) for n in slot] for slot in uses] for _ in range(2)]
    found = run(size, tree_job(gradients, overlap=False), delay=0.002)
    assert found == [expected_of(gradients)] * size


@pytest.mark.parametrize("slots", [2, 4, 8])
def test_a_parameter_that_comes_up_in_a_later_slot(rng, slots):
    for first in range(slots):
        names = ["a" if number < first else "ba" for number in range(slots)]
        gradients = [[[(n, drawn(rng, 5)) for n in slot] for slot in names]] * 2
        assert tree_job(gradients)(None) == expected_of(gradients)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("overlap", [False, True])
def test_networks_that_change_between_batches(rng, size, overlap):
    uses = ["a", "ca", "c", "aca", "a"]  # by batch
    gradients = [[[(n, drawn(rng, 9)) for n in names] for _ in range(8)] for names in uses]
    found = run(size, tree_job(gradients, overlap), delay=0.002)
    assert found == [expected_of(gradients)] * size


def test_a_gradient_for_numbers_that_are_under_way_is_refused():
    a, b = (Parameter(np.zeros(4, np.float32)) for _ in range(2))

    def changing(comm):
        mine = Ranks(comm, 4)
        for slot in mine.share(4):
            filled(a, 1)
            if slot.number % 2:
                filled(b, 1)

    def twice(comm):
        mine = Ranks(comm, 4)
        for slot in mine.share(4):
            filled(a, 1)
            if slot.number % 2:
                filled(a, 1)

    for program in (changing, twice):
        for error in failures(2, program):
            assert isinstance(error, RuntimeError)
            assert "expected the same network in each slot: write overlap=False" in str(error)


def test_reduce_adds_to_the_gradient_there_is(rng):
    parameter, mine = Parameter(np.zeros(5, np.float32)), Ranks(slots=4)
    values = drawn(rng, (2, 4, 5))
    for batch in values:
        for slot in mine.share(4):
            filled(parameter, batch[slot.number])
        mine.reduce([parameter])
    both = explicit(list(values[0])) + explicit(list(values[1]))
    assert parameter.grad.tobytes() == both.tobytes()


def test_ranks_whose_slots_use_parameters_in_another_order(rng):
    uses = ["a", "ba", "ba", "ba"]  # so rank 0 meets a first, and rank 1 meets b
    gradients = [[[(n, drawn(rng, 3)) for n in slot] for slot in uses]]
    assert tree_job(gradients)(None) == expected_of(gradients)
    for error in failures(2, tree_job(gradients, overlap=False)):
        assert "used other parameters in another order" in str(error)


def test_a_share_that_is_left_within_its_last_slot_is_refused():
    parameter, mine = Parameter(np.zeros(3, np.float32)), Ranks(slots=2)
    for slot in mine.share(2):
        if slot.number == 1:
            filled(parameter, 1)
            break
    with pytest.raises(RuntimeError, match="to its end"):
        mine.reduce([parameter])
