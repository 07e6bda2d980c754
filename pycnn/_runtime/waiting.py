"""How OpenMP's threads wait between two regions: the environment that libgomp reads, and no more.

Note [Waiting]: libgomp reads its wait policy once, when it is loaded, and it is loaded with
`_pycnn`. By default its threads spin for milliseconds, which ruins a step as soon as another
process wants a CPU; asleep at once, each region pays for a wake-up. A spin of 20000 turns, some
0.2 ms, loses nothing when quiet, and with yielding (Note [Yielding] in ops/runtime/parallel.cpp)
little beside a neighbour (docs/kernels.md, Threads, has the figures). So GOMP_SPINCOUNT is set
while `_pycnn` is imported and taken back at once: the caller and its children see the environment
as it was.

What the user has set wins, and then nothing yields. Where libgomp was there before pycnn (PyTorch
brings the same one), its policy is fixed and pycnn only yields; `show_config` says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_SPIN_COUNT = "20000"


def libgomp_is_loaded() -> bool:
    """Whether this process holds the libgomp that `_pycnn` will use.

    A copy under another name (libgomp-<hash>.so, as some wheels have it) is another library.
    """
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return any("/libgomp.so." in line for line in file)
    except OSError:
        return False


@contextlib.contextmanager
def short_spin() -> Iterator[str]:
    """Import `_pycnn` inside; yields who decides how threads wait: "user", "other" or "pycnn"."""
    if any(os.environ.get(name) for name in VARIABLES):
        yield "user"
    elif libgomp_is_loaded():
        yield "other"
    else:
        before = os.environ.get("GOMP_SPINCOUNT")  # it may be there and empty
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
        try:
            yield "pycnn"
        finally:
            if before is None:
                del os.environ["GOMP_SPINCOUNT"]
            else:
                os.environ["GOMP_SPINCOUNT"] = before


_YIELDS = "after late regions pycnn runs on one thread for 2 to 256 ms"
EXPLANATIONS = {
    "user": "as the environment said at import",
    "other": (f"another library loaded libgomp first, so threads spin as it pleases; {_YIELDS}"),
    "pycnn": f"threads spin {_SPIN_COUNT} turns, then sleep; {_YIELDS}",
}
