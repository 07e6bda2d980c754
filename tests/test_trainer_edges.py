"""Edges of a run where a small mistake once passed: reasons, ties, modes, states, shares."""

import pytest
from trainer_cases import StopAt, make_data, make_trainer

from pycnn import callbacks, checkpoint, recipes
from pycnn._commands import options
from pycnn._formats.checkpoints import fault


class StopTwice(callbacks.Callback):
    def on_step_end(self, trainer):
        trainer.stop("the first reason")
        trainer.stop("the second reason")


def test_the_first_reason_to_stop_is_told():
    trainer = make_trainer(StopTwice())
    trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)
    assert trainer.steps_done == 1
    assert trainer.stop_reason == "the first reason"


def test_a_new_fit_forgets_the_reason():
    trainer = make_trainer(StopAt(2))
    trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)
    assert (trainer.steps_done, trainer.stop_reason) == (2, "at 2")
    trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)
    assert (trainer.steps_done, trainer.stop_reason) == (3, None)


def test_an_evaluation_leaves_the_mode_of_the_model():
    trainer = make_trainer()
    for mode in (trainer.model.eval, trainer.model.train):
        mode()
        before = trainer.model.training
        trainer.evaluate(make_data())
        trainer.predict(make_data()[0])
        assert trainer.model.training is before


class SameAccuracy(callbacks.Callback):
    """Before the callbacks behind it, every epoch is as good as the others."""

    def on_epoch_end(self, trainer, row):
        row["val_accuracy"] = 0.5


def test_of_equal_epochs_the_first_is_the_best(tmp_path):
    saving = callbacks.Checkpoint(tmp_path)
    stopping = callbacks.EarlyStopping(patience=2)
    trainer = make_trainer(SameAccuracy(), stopping, saving)
    trainer.fit(make_data(), make_data(), epochs=9, batch_size=10)
    epochs = [checkpoint.read(path)[1]["position"]["epoch"] for path in (saving.best, saving.last)]
    assert epochs == [1, 3]
    assert trainer.stop_reason == "no better val_accuracy in 2 epochs"


def test_an_improvement_is_more_than_min_delta():
    stopping = callbacks.EarlyStopping(patience=9, monitor="val_loss", min_delta=0.25)
    trainer = make_trainer()
    bad = []
    for loss in (2.0, 1.75, 1.5, 1.25, 1.25, 0.5, 0.25):
        stopping.on_epoch_end(trainer, {"val_loss": loss})
        bad.append(stopping.epochs_without)
    assert bad == [0, 1, 0, 1, 2, 0, 1]


def test_a_resumed_run_evaluates_in_the_batches_of_the_checkpoint(tmp_path):
    saving = callbacks.Checkpoint(tmp_path)
    trainer = make_trainer(saving)
    trainer.evaluation_batch = 7
    trainer.fit(make_data(), make_data(), epochs=1, batch_size=10)
    resumed = make_trainer(callbacks.Checkpoint(tmp_path))
    assert resumed.evaluation_batch == 500
    checkpoint.load(resumed, saving.last)
    assert resumed.evaluation_batch == 7


def test_the_steps_of_a_warm_up_are_rounded():
    for total, steps in ((9, 3), (8, 2), (10, 3)):  # 2.7, 2.4, 3.0
        schedule = recipes.Recipe(schedule="cosine", warmup=0.3).make_schedule(total)
        schedule.bind(total, total)
        assert [schedule(step) for step in range(steps)] == [(i + 1) / steps for i in range(steps)]


@pytest.mark.parametrize("name", ["dropout", "beta1", "beta2", "label_smoothing", "ema"])
def test_a_share_below_one_is_not_one(name):
    assert getattr(recipes.Recipe(**{name: 0.999}), name) == 0.999
    with pytest.raises(recipes.ConfigError, match=rf"{name} is 1\.0; expected .*, below 1"):
        recipes.Recipe(**{name: 1.0})


def test_an_average_of_no_callback_is_named(tmp_path):
    saving = callbacks.Checkpoint(tmp_path)
    make_trainer(saving).fit(make_data(), make_data(), epochs=1, batch_size=10)
    tensors, metadata = checkpoint.read(saving.last)
    assert metadata["average"] == 0
    assert fault(metadata, tensors) is None
    for number in (len(metadata["callbacks"]), -1):
        wrong = fault({**metadata, "average": number}, tensors)
        assert wrong == f"average is {number}; expected the number of a callback, or null"


def test_gamma_alone_chooses_its_schedule():
    for words, chosen in (
        (["--gamma", "0.5"], "step"),
        (["--gamma", "0.5", "--schedule", "step"], "step"),
        (["--gamma", "0.5", "--schedule", "cosine"], "cosine"),  # which the recipe refuses
        (["--schedule", "cosine"], "cosine"),
    ):
        assert options.given_settings(options.make_parser().parse_args(words))["schedule"] == chosen


@pytest.mark.parametrize("name", ["--gamma", "--target-accuracy"])
def test_a_share_of_an_option_may_be_one(name, capsys):
    parser = options.make_parser()
    found = vars(parser.parse_args([name, "1"]))
    assert found[name[2:].replace("-", "_")] == 1.0
    for wrong in ("1.0001", "0", "nan"):
        with pytest.raises(SystemExit):
            parser.parse_args([name, wrong])
        assert "expected a number above 0, at most 1" in capsys.readouterr().err
