"""Names of temporary files, which say whose they are: what a killed process left can be removed.

A name holds the host, its boot, the process and the moment that process started: a process id alone
may since have gone to another program, and a folder may be shared with another machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from functools import cache
from pathlib import Path

PREFIX, SUFFIX = ".pycnn-", ".tmp"
_PROC = Path("/proc")


def temporary_name() -> str:
    """A new name: .pycnn-<host>-<boot>-<process>-<its start>-<random>.tmp."""
    process = os.getpid()
    owner = f"{_host()}-{_boot()}-{process}-{_started(process) or 0}"
    return f"{PREFIX}{owner}-{secrets.token_hex(6)}{SUFFIX}"


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete what writers on this machine left that have ended; what cannot be told stays.

    Files of other hosts and containers stay. A folder that cannot be read, or a file that another
    process removes meanwhile, is no error.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(PREFIX) and name.endswith(SUFFIX) and _is_dead(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def _is_dead(name: str) -> bool:
    """Whether the process of this name has certainly ended."""
    parts = name.removeprefix(PREFIX).removesuffix(SUFFIX).split("-")
    if len(parts) != 5 or not all(part.isascii() and part.isdigit() for part in parts[2:4]):
        return False  # of another program
    host, boot, process, start = parts[0], parts[1], int(parts[2]), int(parts[3])
    if host != _host() or process == 0 or "0" in (boot, _boot()):
        return False
    if boot != _boot():
        return True
    try:
        os.kill(process, 0)  # sends nothing; /proc may hide the processes of other users
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # one of another user
        pass
    return start != 0 and _started(process) not in (None, start)


def _started(process: int) -> int | None:
    """When the process started, in ticks since boot; None if /proc does not show it.

    The name in /proc/<id>/stat, the second field, may hold spaces and brackets: what follows the
    last bracket begins with field 3, and the start is field 22.
    """
    try:
        return int((_PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


@cache
def _host() -> str:
    """Of this machine, with the space of process ids and the clock of this container.

    The machine's id tells hosts of one name apart; in another container the same id is another
    process, or its start is another number.
    """
    parts = [os.uname().nodename]
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip())
    for space in ("pid", "time"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(_PROC / "self/ns" / space))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@cache
def _boot() -> str:
    """Of this boot of the machine: at the next one all processes are others."""
    try:
        text = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return "0"
    return text.replace("-", "").strip()[:12] or "0"
