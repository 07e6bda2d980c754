"""Callbacks of `pycnn.Trainer`; to write one, see `Callback`."""

from pycnn.callbacks.checkpoint import Checkpoint
from pycnn.callbacks.ema import Ema
from pycnn.callbacks.logs import CsvLog, JsonLog, LearningRateLog, LectureLog, ProgressBar
from pycnn.callbacks.stops import EarlyStopping, TargetAccuracy, TimeLimit
from pycnn.trainer.callback import Callback
from pycnn.trainer.guard import Diverged, NanGuard

__all__ = [
    "Callback",
    "Checkpoint",
    "CsvLog",
    "Diverged",
    "EarlyStopping",
    "Ema",
    "JsonLog",
    "LearningRateLog",
    "LectureLog",
    "NanGuard",
    "ProgressBar",
    "TargetAccuracy",
    "TimeLimit",
]
