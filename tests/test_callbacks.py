"""Callbacks: the order of calls, and what each stock callback promises."""

import csv
import json
import math

import numpy as np
import pytest
from trainer_cases import StopAt, bits, make_data, make_model, make_trainer

import pycnn
from pycnn import callbacks, checkpoint, optim, schedules
from pycnn.callbacks import Callback

TRAIN, VALIDATION = make_data(), make_data(13, seed=1)
HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def trainer_with(*stock, **options):
    return make_trainer(*stock, ema=False, schedule=schedules.Constant(), **options)


def fit(trainer, epochs=2, validation=VALIDATION):
    return trainer.fit(TRAIN, validation, epochs=epochs, batch_size=12)


def recorder(calls, name=""):
    """A callback that writes down all of its calls."""

    def make(hook):
        def record(self, trainer, *arguments):
            calls.append(name + hook.removeprefix("on_"))

        return record

    return type("Recorder", (Callback,), {hook: make(hook) for hook in HOOKS})()


EPOCH = ["epoch_begin", *3 * ["step_end"], "evaluation_begin", "evaluation_end", "epoch_end"]


def test_the_order_of_calls():
    calls = []
    fit(trainer_with(recorder(calls)))
    assert calls == ["fit_begin", *EPOCH, *EPOCH, "pause", "fit_end"]


def test_the_order_of_calls_of_a_run_that_stops_and_goes_on():
    calls = []
    trainer = trainer_with(recorder(calls), StopAt(5))
    fit(trainer)
    assert calls == ["fit_begin", *EPOCH, *EPOCH[:3], "pause", "fit_end"]
    calls.clear()
    fit(trainer)
    assert calls == ["fit_begin", *EPOCH[3:], "pause", "fit_end"]


def test_an_error_calls_all_ends_and_no_pause():
    class Fails(Callback):
        def on_step_end(self, trainer):
            raise KeyError("mine")

        def on_fit_end(self, trainer):
            raise OSError("its end as well")

    calls = []
    trainer = trainer_with(recorder(calls, "a "), Fails(), recorder(calls, "b "))
    with pytest.raises(OSError, match="its end as well"):
        fit(trainer)
    assert calls[-4:] == ["b epoch_begin", "a step_end", "a fit_end", "b fit_end"]


def test_what_saves_comes_last():
    calls = []
    saver = recorder(calls, "saver ")
    saver.saves = True
    fit(trainer_with(saver, recorder(calls, "other ")), epochs=1)
    assert calls[::2] == [call.replace("saver", "other") for call in calls[1::2]]
    assert calls[1].startswith("saver")


def test_a_callback_in_ten_lines():
    class LossList(Callback):
        def __init__(self):
            self.losses = []

        def on_step_end(self, trainer):
            self.losses.append(trainer.loss)
            if trainer.steps_done == 4:
                trainer.stop("enough")

    mine = LossList()
    trainer = trainer_with(mine)
    history = fit(trainer)
    assert len(mine.losses) == 4
    assert history["loss"] == [sum(mine.losses[:3]) / 3]
    assert trainer.stop_reason == "enough"


@pytest.mark.parametrize("warmup", [True, False])
def test_ema_is_the_average_of_the_weights(warmup):
    states = []

    class Record(Callback):
        def on_step_end(self, trainer):
            states.append(trainer.model.state_dict())

    ema = callbacks.Ema(0.9, warmup)
    trainer = trainer_with(ema, Record())
    average = {n: a.astype(np.float64) for n, a in trainer.model.state_dict().items()}
    history = fit(trainer, epochs=4)
    for t, state in enumerate(states, 1):
        d = min(0.9, (1 + t) / (10 + t)) if warmup else 0.9
        average = {n: d * average[n] + (1 - d) * state[n] for n in average}
    found = trainer.model.state_dict()
    assert set(found) == set(average)
    for name in average:
        scale = np.abs(average[name]).max()
        np.testing.assert_allclose(found[name], average[name], rtol=0, atol=1e-5 * scale)
    # validation has seen the average, training has not
    assert trainer.evaluate(VALIDATION)["loss"] == history["val_loss"][-1]
    assert not np.array_equal(found["6.weight"], states[-1]["6.weight"])


def test_ema_lends_the_average_to_an_evaluation_only():
    with_ema, without = trainer_with(callbacks.Ema(0.9)), trainer_with()
    losses = fit(with_ema)["loss"], fit(without)["loss"]
    assert losses[0] == losses[1]


def test_a_nan_in_an_evaluation_gives_the_weights_back():
    kept = []

    class Poison(Callback):
        def on_evaluation_begin(self, trainer):
            trainer.model[6].bias.data[:] = np.nan

        def on_evaluation_end(self, trainer, result):
            kept.append(np.isfinite(trainer.model[6].bias.data).all())

    trainer = trainer_with(callbacks.NanGuard(), callbacks.Ema(0.9), Poison())
    with pytest.raises(callbacks.Diverged, match="an output of the network is NaN"):
        fit(trainer)
    assert kept == [True]  # although NanGuard, the first in the list, has raised


def scripted(values, name="val_accuracy"):
    """A callback that makes the rows of the History say this, before the others see them."""

    class Script(Callback):
        def on_epoch_end(self, trainer, row):
            row[name] = values[row["epoch"]]

    return Script()


def test_early_stopping():
    script = scripted([0.5, 0.6, 0.605, 0.55, 0.9])
    stopper = callbacks.EarlyStopping(2, min_delta=0.01)
    trainer = trainer_with(script, stopper)
    fit(trainer, epochs=5)
    assert trainer.epoch == 4
    assert trainer.stop_reason == "no better val_accuracy in 2 epochs"
    assert stopper.best == 0.6
    fit(trainer, epochs=5)  # as a resumed run: it has ended
    assert trainer.epoch == 4


def test_early_stopping_of_what_should_shrink_and_of_nan():
    script = scripted([math.nan, 3.0, 2.0, 2.0, 2.0], "val_loss")
    trainer = trainer_with(script, callbacks.EarlyStopping(2, "val_loss"))
    fit(trainer, epochs=5)
    assert trainer.epoch == 5


@pytest.mark.parametrize("ema", [[], [callbacks.Ema(0.5)]], ids=["weights", "ema"])
def test_early_stopping_restores_the_best(ema):
    states = []

    class Record(Callback):
        def on_epoch_end(self, trainer, row):
            states.append(trainer.evaluated_state())

    stopper = callbacks.EarlyStopping(2, restore_best=True)
    trainer = trainer_with(*ema, scripted([0.1, 0.4, 0.3, 0.2, 0.9]), Record(), stopper)
    history = fit(trainer, epochs=5)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, states[1][name])
    assert not np.array_equal(states[1]["6.weight"], states[-1]["6.weight"])
    assert trainer.evaluate(VALIDATION)["loss"] == history["val_loss"][1]


def test_target_accuracy():
    target = callbacks.TargetAccuracy(0.6)
    trainer = trainer_with(scripted([0.5, 0.6, 0.9]), target)
    fit(trainer, epochs=3)
    assert (trainer.epoch, target.reached) == (2, True)
    assert trainer.stop_reason == "target accuracy 0.6"
    fit(trainer, epochs=3)  # it is reached already
    assert trainer.epoch == 2
    missed = callbacks.TargetAccuracy(0.95)
    fit(trainer_with(scripted([0.5, 0.6, 0.9]), missed), epochs=3)
    assert not missed.reached


@pytest.mark.parametrize("stock", [callbacks.TargetAccuracy(0.5), callbacks.EarlyStopping()])
def test_a_figure_that_is_not_measured(stock):
    trainer = trainer_with(stock)
    with pytest.raises(
        ValueError, match=r"looks at the validation, and there is none; expected valid"
    ):
        fit(trainer, validation=None)
    assert trainer.steps_done == 0


def test_time_limit(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("pycnn.callbacks.stops.time.monotonic", lambda: next(clock))
    trainer = trainer_with(callbacks.TimeLimit(4))
    fit(trainer)
    assert trainer.steps_done == 4
    assert trainer.stop_reason == "time limit of 4 s"


def test_nan_guard_sees_a_loss():
    model = make_model()
    sgd = optim.SGD(model.parameters(), 1e30)
    trainer = pycnn.Trainer(model, sgd, callbacks=[callbacks.NanGuard()])
    with pytest.raises(callbacks.Diverged, match=r"the loss is \S+ at epoch 0, step \d"):
        fit(trainer)


def test_nan_guard_sees_a_parameter():
    class Poison(Callback):
        def on_epoch_end(self, trainer, row):
            trainer.model[0].weight.data[0, 0, 0, 1] = np.inf

    with pytest.raises(callbacks.Diverged, match=r"weight holds a NaN or infinity after epoch 1"):
        fit(trainer_with(Poison(), callbacks.NanGuard()))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_log(tmp_path):
    path = tmp_path / "log.jsonl"
    trainer = trainer_with(callbacks.JsonLog(path, every=2))
    history = fit(trainer)
    lines = lines_of(path)
    assert [line["kind"] for line in lines] == [*2 * ["step", "step", "epoch"], "end"]
    assert [line["step"] for line in lines] == [1, 3, 3, 4, 6, 6, 6]
    assert set(lines[0]) == {"kind", "epoch", "step", "loss", "lr"}
    assert [lines[2], lines[5]] == [{"kind": "epoch", **row} for row in history.rows]
    assert lines[-1] == {"kind": "end", "step": 6, "reason": "done"}
    fit(trainer_with(callbacks.JsonLog(path, every=9)), epochs=1)  # another run begins it anew
    assert [line["kind"] for line in lines_of(path)] == ["step", "epoch", "end"]


@pytest.mark.parametrize("stop", [2, 3, 4, 6])
def test_json_log_of_a_run_that_goes_on_is_the_same(tmp_path, stop):
    whole, file = tmp_path / "whole", tmp_path / "state"
    fit(trainer_with(callbacks.JsonLog(whole, every=2)))

    class Save(Callback):
        def on_step_end(self, trainer):
            if trainer.steps_done == stop:
                checkpoint.save(trainer, file)

    log = tmp_path / "log"
    fit(trainer_with(callbacks.JsonLog(log, every=2), Save()))
    log.write_bytes(log.read_bytes() + b'{"kind": "st')  # killed, long after the checkpoint
    trainer = trainer_with(callbacks.JsonLog(log, every=2))
    checkpoint.load(trainer, file)
    fit(trainer)
    assert log.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no JSON\n", 1),
        ("[]", 1),
        ('{"kind": "end", "step": 3, "reason": "done"}\n\n', 2),
        ("x", 1),
    ],
)
def test_json_log_refuses_what_it_did_not_write(tmp_path, text, line):
    log = tmp_path / "log"
    log.write_text(text)
    with pytest.raises(pycnn.FileError, match=f"log: line {line} is not one of JsonLog; expected"):
        fit(trainer_with(callbacks.JsonLog(log)))
    assert log.read_text() == text


@pytest.mark.parametrize("text", ["", "{", '{"kind": "end", "st', "\0\0", '{"kind": "\0'])
def test_json_log_writes_over_a_line_that_was_cut_off(tmp_path, text):
    log = tmp_path / "log"
    log.write_text(text)
    fit(trainer_with(callbacks.JsonLog(log)), epochs=1)
    assert [line["kind"] for line in lines_of(log)] == ["step", "epoch", "end"]


def test_json_log_of_failures(tmp_path):
    path = tmp_path / "log"
    model = make_model()
    sgd = optim.SGD(model.parameters(), 1e30)
    log = callbacks.JsonLog(path, every=1)
    trainer = pycnn.Trainer(model, sgd, callbacks=[log, callbacks.NanGuard()])
    with pytest.raises(callbacks.Diverged):
        fit(trainer)
    assert lines_of(path)[-1]["reason"] == "failed"
    assert lines_of(path)[-2]["loss"] is None  # NaN is no JSON
    for place in (tmp_path / "no" / "log", tmp_path):
        with pytest.raises(pycnn.FileError, match=f"{place}: cannot be written: "):
            fit(trainer_with(callbacks.JsonLog(place)))


def test_csv_log(tmp_path):
    path = tmp_path / "log.csv"
    trainer = trainer_with(callbacks.CsvLog(path))
    fit(trainer, epochs=1, validation=None)
    fit(trainer, epochs=2)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["epoch", "step", "lr", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert rows[0]["val_loss"] == ""
    assert [float(row["loss"]) for row in rows] == trainer.history["loss"]
    with pytest.raises(pycnn.FileError, match="cannot write: there is no folder"):
        fit(trainer_with(callbacks.CsvLog(tmp_path / "no" / "log.csv")))


def test_learning_rate_log():
    log = callbacks.LearningRateLog()
    trainer = make_trainer(log, ema=False, schedule=schedules.StepDecay(2, 0.5))
    fit(trainer)
    assert log.steps == [0, 1, 2, 3, 4, 5]
    assert log.values == [0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]
    assert len(log.losses) == 6
    assert sum(log.losses[3:]) / 3 == pytest.approx(trainer.history.rows[-1]["loss"], rel=1e-12)


def test_lecture_log(capsys):
    lines = []
    trainer = trainer_with(callbacks.LectureLog(2, lines.append), callbacks.LectureLog(3))
    fit(trainer, epochs=1)
    assert [line.rpartition(" = ")[0] for line in lines] == [
        "epochs = 0, step = 0, loss_val",
        "epochs = 0, step = 2, loss_val",
        "epochs = 0, validation accuracy",
    ]
    accuracy = trainer.history["val_accuracy"][0]
    assert lines[-1] == f"epochs = 0, validation accuracy = {accuracy:.4f}"
    assert capsys.readouterr().out.splitlines() == [lines[0], lines[2]]


def test_the_progress_bar_is_silent_without_a_terminal(capfd):
    fit(trainer_with(callbacks.ProgressBar()))
    assert capfd.readouterr() == ("", "")


def test_logs_change_no_bits(tmp_path):
    first, second = trainer_with(), trainer_with(
        callbacks.NanGuard(),
        callbacks.JsonLog(tmp_path / "a", 1), callbacks.CsvLog(tmp_path / "b"),
        callbacks.LectureLog(1, lambda line: None), callbacks.LearningRateLog(),
        callbacks.TimeLimit(1e9), callbacks.Checkpoint(tmp_path / "c", 1),
    )  # fmt: skip
    fit(first)
    fit(second)
    assert bits(first) == bits(second)
