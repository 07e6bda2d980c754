"""Ranks as threads of one process, with messages that take their time.

A communicator here has what `pycnn.ranks` uses of mpi4py's. A sent array is read only when its
message arrives, after a random delay, and an array that waits for a message holds NaN until then:
who writes or reads too early gets other numbers.
"""

import random
import sys
import threading
import time
import types

import numpy as np

import pycnn

LIMIT = 60.0  # seconds; a test that waits as long has failed in any case


class World:
    """What the communicators of all ranks share; `machines`: the machine of each rank."""

    def __init__(self, size, delay=0.0, seed=0, machines=None):
        self.size, self.delay, self.seed = size, delay, seed
        self.machines = [0] * size if machines is None else machines
        self.lock = threading.Lock()
        self.copies = {}
        self.arrived, self.places = {}, [None] * size
        self.barrier = threading.Barrier(size)
        self.aborted = []
        self.messages = 0

    def copy(self, name, ranks):
        """The same new world for every rank that asks for this name."""
        with self.lock:
            if name not in self.copies:
                machines = [self.machines[rank] for rank in ranks]
                self.copies[name] = World(len(ranks), self.delay, (self.seed, name), machines)
            return self.copies[name]

    def box(self, key):
        """(the event of a message's arrival, where it then is)."""
        with self.lock:
            return self.arrived.setdefault(key, (threading.Event(), []))

    def stop(self):
        """Nobody waits any longer: a rank has failed."""
        self.barrier.abort()
        with self.lock:
            copies, boxes = list(self.copies.values()), list(self.arrived.values())
        for event, _ in boxes:
            event.set()
        for world in copies:
            world.stop()


class Request:
    """Of a message; `finish` is called once, when it has arrived."""

    def __init__(self, event, finish):
        self._event, self._finish = event, finish

    def Test(self):
        done = self._event.is_set()
        if done and self._finish is not None:
            self._finish()
            self._finish = None
        return done

    def Wait(self):
        assert self._event.wait(LIMIT), "a message never came"
        self.Test()


class FakeComm:
    """The communicator of one rank."""

    def __init__(self, world, rank):
        self.world, self.rank, self.size = world, rank, world.size
        self._random = random.Random(str((world.seed, rank)))
        self._sent, self._received, self._copies = {}, {}, 0

    def _late(self):
        return self._random.uniform(0, self.world.delay)

    def _key(self, counts, source, target, tag):
        count = counts[source, target, tag] = counts.get((source, target, tag), 0) + 1
        return source, target, tag, count

    def Isend(self, array, target, tag):
        assert array.flags.c_contiguous
        event, place = self.world.box(self._key(self._sent, self.rank, target, tag))
        self.world.messages += 1

        def arrive():
            place.append(array.copy())
            event.set()

        if self.world.delay:
            threading.Timer(self._late(), arrive).start()
        else:
            arrive()
        return Request(event, None)

    def Irecv(self, array, source, tag):
        assert array.flags.c_contiguous
        event, place = self.world.box(self._key(self._received, source, self.rank, tag))
        array.fill(np.nan)

        def take():
            assert place, "another rank has failed"
            (message,) = place
            assert (message.size, message.dtype) == (array.size, array.dtype)
            array[...] = message

        return Request(event, take)

    def allgather(self, value):
        time.sleep(self._late())
        self.world.places[self.rank] = value
        self.world.barrier.wait(LIMIT)
        everyone = list(self.world.places)
        self.world.barrier.wait(LIMIT)
        return everyone

    def bcast(self, value, root=0):
        return self.allgather(value)[root]

    def Allgather(self, own, everyone):
        parts = self.allgather(own.copy())
        everyone[...] = np.concatenate(parts)

    def Bcast(self, array, root=0):
        assert array.dtype == np.uint8
        array[...] = self.allgather(array.copy())[root]

    def Dup(self):
        self._copies += 1
        world = self.world.copy(("Dup", self._copies), range(self.size))
        return FakeComm(world, self.rank)

    def Split_type(self, kind):
        self._copies += 1
        mine = self.world.machines[self.rank]
        ranks = [r for r in range(self.size) if self.world.machines[r] == mine]
        world = self.world.copy(("Split_type", self._copies, mine), ranks)
        return FakeComm(world, ranks.index(self.rank))

    def Free(self):
        pass

    def Abort(self, code):
        self.world.aborted.append((self.rank, code))


def run(size, function, **options):
    """[function(communicator of rank r) for r in 0 .. size - 1], all at once."""
    world = World(size, **options)
    results, errors = [None] * size, []

    def work(rank):
        try:
            results[rank] = function(FakeComm(world, rank))
        except BaseException as error:  # of a test: told to its own thread
            errors.append(error)
            world.stop()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def failures(size, function, **options):
    """The exception that each rank ends with, or None."""

    def caught(comm):
        try:
            function(comm)
        except Exception as error:
            return error
        return None

    return run(size, caught, **options)


def pretend_mpi(monkeypatch):
    """For a fixture: ranks as threads find a module mpi4py, and leave this process as it was."""
    names = types.SimpleNamespace(COMM_TYPE_SHARED=object())
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=names))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pycnn.num_threads(1):  # so that no rank sets it
        yield


def filled(parameter, value):
    """One backward of this parameter."""
    parameter.add_gradient(lambda out: np.copyto(out, value))
