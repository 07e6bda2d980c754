"""Names of classes, the same wherever they come in: data sets, models, files, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pycnn.ops.arrays import kind_of


def class_names(names: object, classes: int | None = None) -> tuple[str, ...] | None:
    """The names as a tuple, in the order of the labels; None stays None.

    classes: so many there are. Raises TypeError for what are no strings, ValueError for another
    number, an empty name and one that is there twice; the sentence begins with "class_names".
    """
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(
            f"class_names is {kind_of(names)}; expected strings, one a class: write "
            '("cat", "dog"), or None.'
        )
    found = tuple(names)
    for i, name in enumerate(found):
        if not isinstance(name, str):
            raise TypeError(
                f"class_names[{i}] is {name!r}, {kind_of(name)}; expected a string: write "
                "tuple(map(str, names))."
            )
        if not name.strip() or not name.isprintable():
            raise ValueError(
                f"class_names[{i}] is {name!r}; expected a name that can be printed on one line."
            )
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(
            f"class_names has {twice[0]!r} twice, as classes {found.index(twice[0])} and "
            f"{found.index(twice[0], found.index(twice[0]) + 1)}; expected a name of its own for "
            "each class."
        )
    if classes is not None and len(found) != classes:
        raise ValueError(
            f"class_names has {len(found)} names; expected {classes}, one a class, in the order of "
            "the labels."
        )
    return tuple(str(name) for name in found)  # NumPy's strings become Python's
