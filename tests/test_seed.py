"""What layers and models draw when they are given no rng: the package's own sequence of seeds."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from train_command import ENVIRONMENT

import pycnn
from pycnn import init, layers, models


def weight(layer):
    return layer.weight.data.tobytes()


MAKERS = {
    "Conv2d": lambda: weight(layers.Conv2d(2, 3, 3)),
    "Linear": lambda: weight(layers.Linear(4, 5)),
    "Dropout": lambda: layers.Dropout().seed,
    "mnist_cnn": lambda: models.mnist_cnn().parameters()[0].data.tobytes(),
    "mnist_cnn, he": lambda: models.mnist_cnn(init="he").parameters()[0].data.tobytes(),
    "stages": lambda: models.stages((2,)).parameters()[0].data.tobytes(),
    "generator": lambda: init.generator(None).random(),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_maker
def test_what_has_no_rng_differs_from_one_to_the_next(make):
    assert len({make() for _ in range(4)}) == 4


def test_two_dropouts_have_masks_of_their_own():
    x = np.ones((1, 1000), np.float32)
    first, second = layers.Dropout(), layers.Dropout()
    assert not np.array_equal(first(x), second(x))


@every_maker
def test_seed_begins_anew(make):
    drawn = {}
    for seed in (3, 4, 3, np.int64(4)):
        pycnn.seed(seed)
        drawn.setdefault(int(seed), []).append((make(), make()))
    assert drawn[3][0] == drawn[3][1]
    assert drawn[4][0] == drawn[4][1]
    assert drawn[3][0] != drawn[4][0]


def test_an_rng_neither_takes_from_the_sequence_nor_depends_on_it():
    pycnn.seed(3)
    undisturbed = MAKERS["Linear"]()
    pycnn.seed(3)
    given = weight(layers.Linear(4, 5, rng=0))
    layers.Dropout(rng=np.random.default_rng(1))
    assert MAKERS["Linear"]() == undisturbed
    assert weight(layers.Linear(4, 5, rng=0)) == given


def test_a_program_gives_the_same_bits_again_and_seed_0_is_the_start():
    program = (
        "import sys, pycnn\n"
        "if len(sys.argv) > 1: pycnn.seed(int(sys.argv[1]))\n"
        "print([pycnn.layers.Conv2d(1, 2, 3).weight.data.tobytes().hex() for _ in range(3)])"
    )

    def printed(*arguments):
        command = [sys.executable, "-c", program, *arguments]
        run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        return run.stdout

    assert printed() == printed() == printed("0")
    assert printed("1") != printed()


def test_threads_never_get_one_seed_twice(monkeypatch):
    """Another thread comes between the two halves of every draw that no lock protects."""
    most = 8

    class Slow:
        children = 0

        def spawn(self, n):
            """As SeedSequence does: read the count of children, then raise it."""
            before = self.children
            threading.Event().wait(0.001)
            self.children = before + n
            return [np.random.SeedSequence(0, spawn_key=(before,))]

    monkeypatch.setattr(init, "_sequence", Slow())
    drawn, gate = [], threading.Barrier(most)

    def draw():
        gate.wait()
        drawn.extend(init.generator(None).random() for _ in range(5))

    threads = [threading.Thread(target=draw) for _ in range(most)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == len(drawn) == 5 * most


@pytest.mark.parametrize("wrong", [None, True, 1.5, "1", np.random.default_rng(0)])
def test_a_wrong_seed_is_a_sentence(wrong):
    with pytest.raises(TypeError, match=r"^seed: n is .*; expected an int\.$"):
        pycnn.seed(wrong)


def test_a_negative_seed_is_a_sentence():
    with pytest.raises(ValueError, match=r"^seed: n is -1; expected a seed of at least 0\.$"):
        pycnn.seed(-1)
