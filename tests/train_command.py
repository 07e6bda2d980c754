"""Runs `python -m pycnn.train` for its tests."""

import os
import subprocess
import sys

import _pycnn

import pycnn

COMMAND = [sys.executable, "-m", "pycnn.train"]
ROOT = os.path.dirname(os.path.dirname(pycnn.__file__))
PLACES = [ROOT, os.path.dirname(_pycnn.__file__)]  # of the modules that this process tests
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PLACES)}


def command(*options, cwd=None, **kwargs):
    return subprocess.run(
        [*COMMAND, *map(str, options)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


def small(folder, *options):
    return ("--data-dir", folder, "--validation-size", 20, "--batch-size", 10, *options)
