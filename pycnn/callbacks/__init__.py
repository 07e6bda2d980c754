"""Callbacks of `pycnn.Trainer`; to write one, see `Callback`."""

from pycnn.callbacks.base import Callback
from pycnn.callbacks.checkpoint import Checkpoint
from pycnn.callbacks.ema import Ema
from pycnn.callbacks.logs import CsvLog, JsonLog, LearningRateLog, LectureLog, ProgressBar
from pycnn.callbacks.stops import Diverged, EarlyStopping, NanGuard, TargetAccuracy, TimeLimit

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
