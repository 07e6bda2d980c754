"""Callbacks: what their constructors refuse, as sentences."""

import math

import pytest
from trainer_cases import make_model

import pycnn
from pycnn import callbacks, optim
from pycnn.callbacks import Callback


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: callbacks.Ema(1.0), "decay is 1.0; expected at least 0 and below 1"),
        (lambda: callbacks.Ema("a"), "decay is 'a'; expected at least 0 and below 1"),
        (lambda: callbacks.EarlyStopping(min_delta="a"), "min_delta is 'a'; expected 0 or more"),
        (lambda: callbacks.TargetAccuracy("a"), "accuracy is 'a'; expected a share above 0"),
        (lambda: callbacks.TimeLimit("a"), "seconds is 'a'; expected a number above 0"),
        (lambda: callbacks.EarlyStopping(monitor=3), "monitor is 3; expected"),
        (lambda: callbacks.EarlyStopping(0), "patience is 0; expected a whole number of epochs"),
        (lambda: callbacks.EarlyStopping(min_delta=-1), "min_delta is -1; expected 0 or more"),
        (lambda: callbacks.TargetAccuracy(99), "accuracy is 99; .* 0.99, not 99"),
        (lambda: callbacks.TimeLimit(0), "seconds is 0; expected a number above 0"),
        (lambda: callbacks.TimeLimit(math.nan), "seconds is nan"),
        (lambda: callbacks.JsonLog("x", 0), "JsonLog: every is 0; expected a whole number"),
        (lambda: callbacks.LectureLog(True), "LectureLog: every is True"),
        (lambda: callbacks.Checkpoint("x", 0), "Checkpoint: every is 0; expected a whole number"),
        (lambda: callbacks.Checkpoint("x", "1"), "Checkpoint: every is '1'"),
    ],
)
def test_wrong_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: callbacks.CsvLog(3), "CsvLog: path is 3; expected a name: a text or a pathlib"),
        (lambda: callbacks.JsonLog(3), "JsonLog: path is 3; expected a name"),
        (lambda: callbacks.Checkpoint(None), "Checkpoint: folder is None; expected a name"),
        (
            lambda: pycnn.Trainer(
                model := make_model(), optim.SGD(model.parameters(), 0.1), callbacks=Callback()
            ),
            r"callbacks is <.*>; expected a list: write callbacks=\[\.\.\.\]",
        ),
    ],
)
def test_wrong_kinds(make, message):
    with pytest.raises(TypeError, match=message):
        make()
