"""Edges of a run where a small mistake once passed: reasons, ties, states after the end."""

from trainer_cases import StopAt, make_data, make_trainer

from pycnn import callbacks


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
