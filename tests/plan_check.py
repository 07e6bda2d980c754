"""Plays a plan through, step by step: whoever reads must find what was written for him.

It knows places and steps, and nothing of how the plan has found them: not lives, not blocks' times.
"""

from pycnn.graph.plan import Place, Plan, is_view


class Arena:
    """Who has written which bytes, of one image."""

    def __init__(self, plan):
        self.plan = plan
        self.owners = {}  # (begin, end) -> the names of what lies there

    def where(self, place):
        block = self.plan.blocks[place.index]
        assert block.offset >= 0
        assert block.offset + block.size <= self.plan.bytes
        size = place.dtype.itemsize
        for extent in place.shape:
            size *= extent
        assert size <= block.size, "larger than its block"
        return block.offset, block.offset + block.size

    def write(self, place, name):
        if place.where != "arena":
            return
        begin, end = self.where(place)
        if begin == end:
            return
        self.owners = {
            (b, e): names for (b, e), names in self.owners.items() if e <= begin or end <= b
        }
        self.owners[begin, end] = {name}

    def read(self, place, name):
        if place.where != "arena":
            return
        begin, end = self.where(place)
        assert begin == end or name in self.owners.get((begin, end), ()), f"{name} is overwritten"

    def apart_or_same(self, place, read):
        """A result lies where an operand lies, number by number, or apart from it."""
        if place.where != "arena" or read.where != "arena":
            return
        (begin, end), (first, last) = self.where(place), self.where(read)
        assert end <= first or last <= begin or (begin, end) == (first, last), (
            "lies over an operand"
        )

    def call(self, place, name, other):
        """What lies there as `name` is `other` from now on as well."""
        self.read(place, name)
        if place.where == "arena" and self.where(place)[0] != self.where(place)[1]:
            self.owners[self.where(place)].add(other)


def forward(plan, arena):
    for i, step in enumerate(plan.steps):
        xs = [(plan.values[id(x)], ("value", id(x))) for x in step.inputs]
        ys = [(plan.values[id(y)], ("value", id(y))) for y in step.outputs]
        if is_view(step):
            arena.call(*xs[0], ys[0][1])
            continue
        for place, name in xs:
            arena.read(place, name)
        for place, name in ys:
            for read, _ in xs:
                arena.apart_or_same(place, read)
            arena.write(place, name)
        for k, kept in enumerate(plan.kept[i]):
            if isinstance(kept, Place):
                arena.write(kept, ("kept", i, k))
        for place, name in ys:  # none of them lies in another
            arena.read(place, name)
    for y in plan.program.outputs:
        arena.read(plan.values[id(y)], ("value", id(y)))


def backward(plan, arena, gradients):
    for _, place, adds in plan.output_gradients:
        name = next(
            ("gradient", id(v)) for v in plan.program.values if plan.gradients.get(id(v)) is place
        )
        (arena.read if adds else arena.write)(place, name)
    for g in gradients:
        step = plan.steps[g.index]
        for y, place in zip(step.outputs, g.dy, strict=True):
            name = "gradient", id(y)
            if place in g.zeros:
                arena.write(place, name)
            arena.read(place, name)
        if is_view(step):
            x, y = step.inputs[0], step.outputs[0]
            target = plan.gradients[id(x)]
            if not g.copies:
                arena.call(plan.gradients[id(y)], ("gradient", id(y)), ("gradient", id(x)))
            for _, to, adds in g.copies:
                assert to is target
                (arena.read if adds else arena.write)(to, ("gradient", id(x)))
            continue
        read = step.operation.reads
        for values, letter in ((step.inputs, "x"), (step.outputs, "y")):
            for v in values if letter in read else ():
                arena.read(plan.values[id(v)], ("value", id(v)))
        for k, kept in enumerate(plan.kept[g.index]):
            if isinstance(kept, Place):
                arena.read(kept, ("kept", g.index, k))
        written = []
        for k, (x, dx, total) in enumerate(zip(step.inputs, g.dx, g.adds, strict=True)):
            if dx is not None:
                name = ("part", g.index, k) if total is not None else ("gradient", id(x))
                for dy in g.dy:
                    arena.apart_or_same(dx, dy)
                arena.write(dx, name)
                written.append((dx, name))
        for place, name in written:
            arena.read(place, name)
        for x, total in zip(step.inputs, g.adds, strict=True):
            if total is not None:
                arena.read(total, ("gradient", id(x)))


def check(plan: Plan):
    for input_gradient in (False, True) if plan.training else (None,):
        arena = Arena(plan)
        forward(plan, arena)
        if input_gradient is not None:
            backward(plan, arena, plan.backward[input_gradient])
