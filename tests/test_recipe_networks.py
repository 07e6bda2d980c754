"""Recipes whose network has a name: what they leave out, and images that do not fit it."""

import numpy as np
import pytest

from pycnn import models, recipes, train
from pycnn.recipes import SETTINGS, ConfigError, Recipe

STAGED = {n for n, s in SETTINGS.items() if s.goes_with and s.goes_with[1] == "network stages"}


def test_a_named_network_leaves_the_settings_of_stages_out():
    """They are refused beside it, and a recipe that had them loses them."""
    assert {"channels", "convolutions", "batch_norm", "dropout", "init", "zero_last"} < STAGED
    with pytest.raises(ConfigError, match=r"dropout is 0\.5, .* it goes with network stages\."):
        recipes.get("best").with_settings({"network": "resnet20", "dropout": 0.5})
    with pytest.raises(ConfigError, match=r"normalize_after_pool is False, .* with batch_norm"):
        Recipe(network="resnet20", normalize_after_pool=False)
    recipe = recipes.get("best").with_settings({"network": "resnet20"})
    assert {getattr(recipe, name) == getattr(Recipe(), name) for name in STAGED} == {True}
    assert (recipe.epochs, recipe.ema) == (20, 0.999)
    Recipe(network="resnet20", slots=2, sync_batch_norm=True)
    model = recipe.with_settings({"seed": 4}).model((32, 32, 3), 7)
    expected = models.resnet20(7, in_channels=3, rng=4)
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    assert type(model) is models.CifarResNet
    with pytest.raises(ConfigError, match=r"network is 'resnet2'; expected one of stages, .*et20"):
        Recipe(network="resnet2")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            "alexnet",
            r"^alexnet does not take images of 28 x 28 pixels \(features\.5 .*\); exp",
        ),
        ("unet", r"^unet gives a map of 2 axes for an image, .* choose another, resnet20 for exam"),
    ],
)
def test_a_network_that_does_not_fit_the_images_says_what_to_write(capsys, network, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(network=network).model()
    with pytest.raises(SystemExit):
        train.main(["--model", network, "--limit-train", "100"])
    said = capsys.readouterr().err
    assert network in said
    assert ("--image-size 224" in said) == (network != "unet")


def test_networks_have_the_names_of_their_constructors():
    for name, make in models.NETWORKS.items():
        assert make is getattr(models, name)


@pytest.mark.parametrize("name", ["resnet20", "resnet12_small", "mobilenet_v2"])
def test_networks_are_made_by_their_names(name):
    """With the three arguments that all of them have."""
    made = models.make(name, num_classes=3, in_channels=2, rng=5)
    state = getattr(models, name)(3, in_channels=2, rng=5).state_dict()
    for key, array in made.state_dict().items():
        np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_a_name_that_no_network_has():
    with pytest.raises(ValueError, match=r"^make: name is 'resnet'; expected one of .*resnet20"):
        models.make("resnet", rng=0)


def test_the_network_of_residual_begins_with_all_classes_alike(rng):
    model = models.resnet12_small(rng=0)
    assert sum(p.data.size for p in model.parameters()) == 396_410
    assert model.output_shape((None, 4, 4, 1)) == (None, 10)
    logits = model(rng.random((2, 28, 28, 1), np.float32))
    np.testing.assert_array_equal(logits, 0)
