"""Bytes that were cast to floats are refused wherever images come in."""

import numpy as np
import pytest
from trainer_cases import make_data, make_trainer

import pycnn


def test_bytes_as_floats_are_refused_in_fit():
    images, labels = make_data()
    expected = r"train x is float32 with whole .*: write x.astype\(np.uint8\), or x / 255"
    with pytest.raises(ValueError, match=expected):
        make_trainer().fit((images.astype(np.float32), labels), epochs=1, batch_size=10)
    good = (images / np.float32(255), labels)
    make_trainer().fit(good, good, epochs=1, batch_size=10)  # its plateau needs validation


def test_bytes_as_floats_are_refused_wherever_images_come_in():
    images, labels = make_data()
    cast, good = (images.astype(np.float32), labels), (images / np.float32(255), labels)
    trainer = make_trainer()
    expected = (
        r"{} is float32 with whole numbers up to \d+; expected images in 0 to 1: write x.astyp"
    )
    for name, call in (
        ("validation x", lambda: trainer.fit(good, cast, epochs=1, batch_size=10)),
        ("x", lambda: trainer.evaluate(cast)),
        ("x", lambda: trainer.evaluate([cast, cast])),
        ("x", lambda: trainer.predict(cast[0])),
        ("x", lambda: trainer.predict_proba(cast[0])),
    ):
        with pytest.raises(ValueError, match=f"^Trainer: {expected.format(name)}"):
            call()
    assert len(trainer.predict(good[0])) == len(trainer.predict(images)) == len(images)
    trainer.any_scale = True  # as of a model whose normalization is that of bytes
    assert len(trainer.predict(cast[0])) == len(images)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [(np.int64, r"x.astype\(np.uint8\)"), (np.float64, r"x.astype\(np.float32\)")],
)
def test_the_advice_on_a_type_leads_to_no_bytes_as_floats(kind, advice):
    """Integers are pixels of 0 to 255: as float32 they would be the mistake that is refused."""
    with pytest.raises(TypeError, match=f": write {advice}\\.$"):
        make_trainer().predict(make_data()[0].astype(kind))


def test_gather_images_and_layers_advise_no_cast_of_pixels():
    pixels = make_data()[0].astype(np.int32)
    with pytest.raises(TypeError, match=r"images is int32; .*write images.astype\(np.uint8\)\.$"):
        pycnn.ops.gather_images(pixels, np.arange(2))
    with pytest.raises(
        TypeError, match=r"x is int32; .*, or for pixels .* x.astype\(np.float32\) / 255"
    ):
        make_trainer().model(pixels)
