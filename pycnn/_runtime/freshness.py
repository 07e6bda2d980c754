"""Tells a compiled `_pycnn` that is older than the sources beside this package, in one sentence."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pycnn._commands import signals

signals.answer_while_starting()  # here: pycnn imports this module first, the slow ones after it


def source_hash(csrc: Path) -> str:
    """The hash of a `csrc` folder: sorted names and contents, as CMakeLists.txt computes it."""
    listing = ""
    for path in sorted(csrc.rglob("*"), key=lambda p: p.relative_to(csrc).as_posix()):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            listing += f"{path.relative_to(csrc).as_posix()} {digest}\n"
    return hashlib.sha256(listing.encode()).hexdigest()


def check() -> None:
    """Import `_pycnn`; ImportError with a sentence if it is missing or stale."""
    root = Path(__file__).resolve().parents[2]
    csrc = root / "csrc"
    try:
        import _pycnn
    except ModuleNotFoundError as error:
        if error.name != "_pycnn":
            raise
        raise ImportError(
            "pycnn: the compiled module _pycnn is not installed in this environment; "
            "type: pip install . (in the root of the checkout)"
        ) from None
    if csrc.is_dir() and source_hash(csrc) != _pycnn.source_hash:
        raise ImportError(
            f"pycnn: the installed _pycnn ({_pycnn.__file__}) was built from other sources than "
            f"those in {csrc}; type: pip install {root}"
        )
