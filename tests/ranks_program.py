"""What the ranks of test_ranks_mpi.py run: small trainings, of which rank 0 prints a check sum.

    mpiexec -n 4 python ranks_program.py 60 lecture,best "1 mixed" "2 avx2"

steps; networks; runs, each with a number of threads and an instruction set, or all of them in turn
over the ranks (mixed). Without mpiexec it is one process without MPI. Prints JSON: the check sum of
everything by run and network. All ranks must have the same, or it fails.
"""

import hashlib
import json
import os
import sys

import numpy as np

import pycnn
from pycnn import callbacks, optim, recipes, schedules
from pycnn.ranks import gradients, tree

IMAGES, BATCH, SLOTS = 50, 10, 8  # slots of one and two images


def data(shape, count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8), np.arange(count) % 10


def trainer_of(name, steps, comm):
    """(the trainer, the shape of an image, the lengths of its fit)."""
    each = min(steps // 2, IMAGES // BATCH)
    if name != "resnet20":
        settings = {"slots": SLOTS, "seed": 5, "epochs": steps // each, "batch_size": BATCH}
        recipe = recipes.get(name).with_settings({**settings, "epoch_share": each * BATCH / IMAGES})
        trainer = recipe.make_trainer(IMAGES, communicator=comm)
        return trainer, (28, 28, 1), recipe.lengths(IMAGES)
    model = pycnn.models.resnet20(rng=1)
    optimizer = optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    trainer = pycnn.Trainer(
        model,
        optimizer,
        schedule=schedules.ReduceOnPlateau(0.5, 0),
        callbacks=[callbacks.Ema(0.9)],
        clip_norm=1.0,
        communicator=comm,
        slots=SLOTS,
        seed=2,
    )
    lengths = {"epochs": steps // each, "batch_size": BATCH, "steps_per_epoch": each}
    return trainer, (8, 8, 3), lengths


def batches(x, labels):
    """One epoch of a list, with sizes of its own."""
    for first, stop in ((0, 9), (9, 25), (25, 33)):
        yield x[first:stop], labels[first:stop]


def everything(name, steps, comm):
    """Each byte that a training ends with."""
    trainer, shape, lengths = trainer_of(name, steps, comm)
    train, validation = data(shape, IMAGES, 0), data(shape, 23, 1)
    trainer.evaluation_batch = 4
    history = trainer.fit(train, validation, **lengths)
    assert trainer.steps_done == steps
    state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    state |= {f"average of {name}": array for name, array in trainer.evaluated_state().items()}
    parts = [name.encode() + array.tobytes() for name, array in state.items()]
    parts += [repr(history.rows).encode(), repr(trainer.evaluate(validation)).encode()]
    streamed = trainer.evaluate(list(batches(*train)))
    parts += [repr(streamed).encode(), repr(trainer.model.rng_state()).encode()]
    for x in (train[0], [x for x, _ in batches(*train)]):
        parts += [trainer.predict(x).tobytes(), trainer.predict_proba(x).tobytes()]
    return parts


def sums_of_mpi():
    """Slots of a rank in turn, ranks by MPI's own sum: what everyone else does."""
    from mpi4py import MPI

    class ByMpi:
        def __init__(self, comm, array, tag, space, *, whole):
            self.tag = tag
            comm.Allreduce(MPI.IN_PLACE, array, op=MPI.SUM)

        def advance(self):
            return True

    gradients.Sum = ByMpi
    tree._trailing_ones = lambda number: int(number > 0)


def main(steps, networks, *runs):
    comm = None
    if "PMI_RANK" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    if "PYCNN_TEST_MPI_SUM" in os.environ:
        sums_of_mpi()
    rank = 0 if comm is None else comm.rank
    isas = [name for name in pycnn.available_isas() if name != "baseline"]
    found = {}
    for run in runs:
        threads, isa = run.split()
        if isa != "as-it-is":
            pycnn.use_isa(isas[rank % len(isas)] if isa == "mixed" else isa)
        with pycnn.num_threads(int(threads)):
            for name in networks.split(","):
                total = hashlib.sha256(b"|".join(everything(name, int(steps), comm))).hexdigest()
                everyone = [total] if comm is None else comm.allgather(total)
                assert set(everyone) == {total}, f"{run} {name}: ranks end with other bytes"
                found[f"{run} {name}"] = total
    used = [pycnn.isa()] if comm is None else comm.allgather(pycnn.isa())
    if rank == 0:
        print(json.dumps({"isas": used, "sums": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
