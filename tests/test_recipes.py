"""Recipes: TOML and back, what is refused, and which setting wins."""

import dataclasses
import json
import math

import numpy as np
import pytest
from idx_files import write_folder
from train_command import command, small

from pycnn import callbacks, layers, losses, models, optim, recipes, schedules, train
from pycnn._commands.options import _Parser, make_parser
from pycnn.augment import Augmentation
from pycnn.recipes import SETTINGS, ConfigError, Recipe

GOES_WITH = {name: s.goes_with[1] for name, s in SETTINGS.items() if s.goes_with}
STAGED = {name for name, words in GOES_WITH.items() if words == "network stages"}  # the default

ODD = Recipe(
    channels=(3, 5), convolutions=(2, 1), first_kernel_size=5, batch_norm=True, dropout=0.25,
    init="he", optimizer="sgd", nesterov=True, schedule="plateau", lr=1e-7, shear=0.3, seed=2**40,
)  # fmt: skip


@pytest.mark.parametrize("recipe", [*recipes.RECIPES.values(), ODD], ids=[*recipes.RECIPES, "odd"])
def test_toml_goes_round(tmp_path, recipe):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    lines = path.read_text().splitlines()
    assert len(lines) == len(recipes.NAMES)
    for name, line in zip(recipes.NAMES, lines, strict=True):
        assert line.startswith(f"{name} = ")
        assert line.endswith(f"  # {SETTINGS[name].meaning}")
    assert Recipe().with_settings(recipes.read_config(path)) == recipe
    assert Recipe().with_settings(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_an_option_of_the_command_says_what_the_field_of_the_setting_says(monkeypatch):
    """What stands in the field is all there is: a changed field changes the option."""
    gamma = dataclasses.replace(SETTINGS["gamma"], meaning="MEANS", option="WHAT", high=0.75)
    monkeypatch.setitem(SETTINGS, "gamma", gamma)
    assert "MEANS; alone" in make_parser().format_help()
    assert "# MEANS" in Recipe().to_toml()
    with pytest.raises(ConfigError, match=r"gamma is 0\.8; expected .*, at most 0\.75\."):
        Recipe(gamma=0.8)
    monkeypatch.setattr(_Parser, "error", refuse)
    with pytest.raises(ValueError, match=r"'0\.8' is not WHAT; .*, at most 0\.75"):
        make_parser().parse_args(["--gamma", "0.8"])


def refuse(self, message):
    raise ValueError(message)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_named_recipes_make_their_parts(name):
    recipe = recipes.get(name)
    model = recipe.model()
    assert model.output_shape((1, 28, 28, 1)) == (1, 10)
    optimizer = recipe.make_optimizer(model)
    assert optimizer.lr == recipe.lr
    assert isinstance(recipe.make_schedule(100), schedules.Schedule)
    assert recipe.make_loss().label_smoothing == recipe.label_smoothing
    assert (recipe.make_augmentation() is None) == (name in ("lecture", "fast"))
    assert model.normalization.is_identity != recipe.normalize


def test_a_recipe_makes_its_trainer():
    seen = callbacks.LearningRateLog()
    recipe = recipes.get("best").with_settings({"seed": 3, "clip_norm": 2.0})
    trainer = recipe.make_trainer(1000, [seen])
    kinds = [type(callback) for callback in trainer.callbacks]
    assert kinds == [callbacks.NanGuard, callbacks.Ema, callbacks.LearningRateLog]
    assert (trainer.seed, trainer.clip_norm, trainer.plain_epochs) == (3, 2.0, 1)
    assert trainer.augmentation == recipe.make_augmentation()
    assert trainer.loss_function.label_smoothing == recipe.label_smoothing
    assert trainer.model.normalization == recipe.model().normalization
    plain = recipes.get("fast").make_trainer(1000).callbacks
    assert [type(callback) for callback in plain] == [callbacks.NanGuard]  # of every Trainer
    warm = recipes.get("lecture").with_settings({"warmup": 0.5, "epochs": 2})
    schedule = warm.make_trainer(1000).schedule  # 20 steps, so 10 of warm-up
    assert schedule(8) < 1 == schedule(10)
    short = warm.with_settings({"epoch_share": 0.5})
    assert short.make_trainer(1000).schedule(5) == 1  # of 10 steps


def test_the_share_of_an_epoch():
    recipe = Recipe(epoch_share=0.58, batch_size=10, epochs=3)
    expected = {"epochs": 3, "batch_size": 10}
    assert recipe.lengths(100) == {**expected, "steps_per_epoch": 5}
    assert recipe.lengths(12) == {**expected, "steps_per_epoch": 1}
    assert Recipe(batch_size=10).lengths(39)["steps_per_epoch"] == 3


def test_the_lecture_is_the_lecture():
    recipe = Recipe(seed=4)
    ours, lectures = recipe.model(), models.mnist_cnn(4)
    for one, other in zip(ours.parameters(), lectures.parameters(), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    optimizer = recipe.make_optimizer(ours)
    assert type(optimizer) is optim.Adam
    assert (optimizer.betas, optimizer.lr) == ((0.9, 0.999), 0.001)
    assert type(recipe.make_schedule(9)) is schedules.Constant
    assert (recipe.epochs, recipe.batch_size, recipe.validation_size) == (30, 100, 5000)


def test_settings_arrive_in_the_parts():
    model = ODD.model((8, 8, 2), 3)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds.count("Conv2d") == kinds.count("BatchNorm2d") == 3
    assert kinds.count("Dropout") == 1
    assert model[0].kernel_size == (5, 5)
    sgd = ODD.with_settings({"momentum": 0.5, "weight_decay": 0.1}).make_optimizer(model)
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.5, True, 0.1)
    assert not ODD.with_settings({"nesterov": False}).make_optimizer(model).nesterov
    adamw = ODD.with_settings({"optimizer": "adamw", "beta1": 0.5, "weight_decay": 0.1})
    assert adamw.make_optimizer(model).betas == (0.5, 0.999)
    assert ODD.make_augmentation().shear == 0.3
    assert isinstance(ODD.make_loss(), losses.SoftmaxCrossEntropy)
    zero = Recipe(zero_last=True).model()
    assert not zero[-1].weight.data.any()
    assert isinstance(zero[-1], layers.Linear)


def test_the_options_of_an_augmentation_are_settings():
    options = {field.name: field.default for field in dataclasses.fields(Augmentation)}
    settings = Recipe().to_dict()
    assert {name: settings[name] for name in options} == options
    assert Recipe().make_augmentation() is None
    for name in options.keys() - {"elastic_sigma"}:
        value = 2 if name == "crop" else 0.5
        changed = {"elastic_alpha": 0.25, "elastic_sigma": 2.0, name: value}
        assert Recipe(**changed).make_augmentation() == Augmentation(**changed)
        assert Recipe(**{name: value}).make_augmentation() == Augmentation(**{name: value})


def test_schedules_by_name():
    def made(**settings):
        schedule = Recipe(**settings).make_schedule(100)
        schedule.bind(100, 10)
        return schedule

    assert made(schedule="step", gamma=0.5)(10) == 0.5
    assert made(schedule="cosine")(50) == pytest.approx(0.5)
    assert made(schedule="one-cycle", warmup=0.5)(49) == 1
    assert made(schedule="one-cycle")(0) == pytest.approx(0.99)  # no warm-up: down from the peak
    assert made(schedule="one-cycle", warmup=0.01)(0) == 1
    assert type(made(schedule="plateau")) is schedules.ReduceOnPlateau
    warm = made(schedule="plateau", warmup=0.1)
    assert (warm(0), warm(10)) == (0.1, 1)
    for _ in range(12):
        warm.observe({"val_loss": 1.0})
    assert warm(10) == 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epohs": 3}, "there is no setting 'epohs'; did you mean epochs"),
        ({"batchsize": 3}, "did you mean batch_size"),
        ({"zzz": 3}, "there is no setting 'zzz'; there are network, channels, convolutions"),
        ({"epochs": 0}, "epochs is 0; expected a finite number above 0"),
        ({"epochs": 2.0}, "epochs is 2.0; expected a whole number"),
        ({"epochs": True}, "epochs is True; expected a whole number"),
        ({"epochs": 10**400}, "expected at most 2147483647"),
        ({"lr": "0.1"}, "lr is '0.1'; expected a number"),
        ({"lr": math.nan}, "lr is nan; expected a finite number above 0"),
        ({"lr": math.inf}, "lr is inf; expected a finite number above 0"),
        ({"lr": 10**400}, "expected a smaller number"),
        ({"dropout": 1.0}, "dropout is 1.0; expected a finite number, 0 or more, below 1"),
        ({"warmup": 1.5}, "warmup is 1.5; expected a finite number, 0 or more, at most 1"),
        ({"momentum": -0.1}, "momentum is -0.1; expected a finite number, 0 or more, below 1"),
        ({"seed": -1}, "seed is -1; expected a finite number, 0 or more"),
        ({"seed": 2**63}, "seed is 9223372036854775808; expected at most"),
        ({"rotation": 181}, "^rotation is 181.0; expected degrees from 0 to 180"),
        ({"scale": 1.0}, "^scale is 1.0; expected a share, 0 or more and less than 1"),
        ({"elastic_sigma": 0}, "^elastic_sigma is 0.0; expected a number of pixels above 0"),
        ({"optimizer": "adma"}, "optimizer is 'adma'; expected one of adam, adamw, sgd, rmsprop"),
        ({"schedule": 3}, "schedule is 3; expected a text"),
        ({"init": "xavier"}, "init is 'xavier'; expected one of lecture, he"),
        ({"batch_norm": 1}, "batch_norm is 1; expected true or false"),
        ({"channels": []}, r"channels is \[\]; expected a list of whole numbers"),
        ({"channels": [8, 0, 8]}, r"channels is \(8, 0, 8\); expected a finite number above 0"),
        ({"channels": [8, 1.5, 8]}, "expected a list of whole numbers"),
        ({"channels": [8, 8]}, "convolutions has 3 numbers; expected 2, one a stage"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ConfigError, match=words):
        Recipe().with_settings(settings)


def test_combinations_that_cannot_be():
    with pytest.raises(ConfigError, match=r'"lecture", whose values belong .* --set init=he\.'):
        Recipe(batch_norm=True).model()
    with pytest.raises(ConfigError, match=r"weight_decay is 0\.1, .* optimizer adamw, sgd or rms"):
        Recipe(weight_decay=0.1)
    with pytest.raises(ConfigError, match=r"no recipe 'bset'; .* did you mean best\?"):
        recipes.get("bset")
    with pytest.raises(ConfigError, match=r"no recipe \[1\]; expected one of lecture, fast, "):
        recipes.get([1])


IDLE = {
    "normalize_after_pool": (False, {"batch_norm": True}),
    "beta1": (0.5, {"optimizer": "adamw"}),
    "beta2": (0.5, {"optimizer": "adam"}),
    "momentum": (0.5, {"optimizer": "sgd"}),
    "nesterov": (True, {"optimizer": "sgd"}),
    "gamma": (0.5, {"schedule": "step"}),
    "elastic_sigma": (2.0, {"elastic_alpha": 8.0}),
    "plain_epochs": (1, {"erase": 0.5}),
    "weight_decay": (0.5, {"optimizer": "sgd"}),
    "sync_batch_norm": (True, {"slots": 4, "batch_norm": True}),
}


@pytest.mark.parametrize("name", sorted(GOES_WITH.keys() - STAGED))
def test_a_setting_that_does_nothing_is_refused(name):
    value, with_these = IDLE[name]
    without_it = "adam" if name == "weight_decay" else "rmsprop"
    plain = Recipe(optimizer=without_it)
    words = f"{name} is {value}, which does nothing here: it goes with {GOES_WITH[name]}."
    for make in (
        lambda: plain.with_settings({name: value}),
        lambda: Recipe(**{"optimizer": without_it, name: value}),
        lambda: Recipe(**with_these).with_settings({"optimizer": without_it, **OFF, name: value}),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value) == words
    both = plain.with_settings({**with_these, name: value})
    assert getattr(both, name) == value
    # Not given: it goes along with what it went with, and the printed recipe can be read again.
    without = both.with_settings({"optimizer": without_it, **OFF})
    assert without == plain
    assert plain.with_settings({name: getattr(Recipe(), name)}) == plain
    assert recipes.restored({"optimizer": without_it, name: value}) == plain  # of a checkpoint


OFF = {"batch_norm": False, "slots": 0, "schedule": "constant", "elastic_alpha": 0.0, "erase": 0.0}


def test_one_cycle_brings_its_warmup():
    chosen = Recipe().with_settings({"schedule": "one-cycle"})
    assert chosen.warmup == 0.2
    assert chosen.with_settings({"warmup": 0}).warmup == 0
    assert Recipe().with_settings({"schedule": "one-cycle", "warmup": 0.0}).warmup == 0
    assert Recipe(warmup=0.1).with_settings({"schedule": "one-cycle"}).warmup == 0.1
    again = Recipe(schedule="one-cycle", warmup=0.0).with_settings({"schedule": "one-cycle"})
    assert again.warmup == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n lr = 'x'\n", "line 2: lr is 'x'; expected a number."),
        ("epochs = 3\n'lrr' = 1\n", "line 2: there is no setting 'lrr'; did you mean lr?"),
        ("recipe = 'fats'", "line 1: there is no recipe 'fats'"),
        ("recipe = 'fast'\n[ training ]\nlr = 1", "line 2: [training] is a table; expected settin"),
        ("# mine\n[recipe]\nlr = 0.1", "line 2: [recipe] is a table; expected settings at the top"),
        (
            "lr.x = 0.1",
            "line 1: [lr] is a table; expected settings at the top level: leave [lr] out",
        ),
        (
            "gamma = 0.5",
            "line 1: gamma is 0.5, which does nothing here: it goes with schedule step.",
        ),
        ("channels = [4]", ": convolutions has 3 numbers"),
    ],
)
def test_errors_of_a_file_name_its_line(tmp_path, capsys, content, words):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        recipes.load_config(path)
    expected = f"{path}{'' if words.startswith(':') else ', '}{words}"
    assert str(caught.value).startswith(expected)
    with pytest.raises(SystemExit):
        train.main(["--config", str(path), "--print-config"])
    assert expected.rstrip(".") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("normalize=True", "expected true or false: write true, in small letters and without"),
        ('normalize="false"', "write false, in small"),
        ("normalize=yes", "normalize is 'yes'; expected true or false (see"),
        ("dropout=0.3", 'expected "he" for another one: in the command --set init=he (see'),
    ],
)
def test_errors_of_set_say_what_to_write(capsys, option, words):
    with pytest.raises(SystemExit):
        train.main(["--set", option, "--limit-train", "100"])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"lr = ", "is not TOML: "),
        (b"lr 3", "is not TOML: "),
        (b"\xff\xfe", "is not TOML: 'utf-8' codec can't decode"),
        (b"a = " + 3000 * b"[", "is not TOML: its brackets are nested too deeply"),
        (b"a = " + 5000 * b"1", "is not TOML: "),
        (None, "cannot be read: Is a directory"),
    ],
    ids=["no_value", "no_equals", "not_utf8", "deep", "long", "folder"],
)
def test_files_that_are_no_toml(tmp_path, content, words):
    path = tmp_path / "file"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path}: .*{words}|{path}: {words}"):
        recipes.read_config(path)


def test_a_missing_or_empty_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        recipes.read_config(tmp_path / "no")
    (tmp_path / "empty").write_text("# nothing yet\n")
    assert recipes.read_config(tmp_path / "empty") == {}


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().lr = 1.0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "mine.toml"
    path.write_text('recipe = "fast"\nlr = 0.5\nepochs = 7\nschedule = "cosine"\n')
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"lr": 0.5, "epochs": 7, "schedule": "cosine", "batch_norm": True}),  # over fast
        (["--epochs", 9], {"lr": 0.5, "epochs": 9}),  # flags over the file
        (["--set", "epochs=9", "--set", "ema=0.5"], {"epochs": 9, "ema": 0.5}),
        (["--set", "optimizer=sgd"], {"optimizer": "sgd"}),  # no quotes needed
        (["--set", "channels=[4, 4, 4]"], {"channels": (4, 4, 4)}),
        (["--recipe", "best"], {"lr": 0.5, "epochs": 7, "ema": 0.999}),  # the file over best
        (["--gamma", 0.5], {"schedule": "step", "gamma": 0.5}),
        (["--gamma", 0.5, "--set", "schedule=step"], {"schedule": "step", "gamma": 0.5}),
        (["--set", "warmup=0"], {"warmup": 0.0}),
    ],
)
def test_flags_win_over_the_file_over_the_recipe(config, tmp_path, capsys, options, expected):
    assert train.main(["--config", str(config), *map(str, options), "--print-config"]) == 0
    path = tmp_path / "printed.toml"
    path.write_text(capsys.readouterr().out)
    found = Recipe().with_settings(recipes.read_config(path))
    base = recipes.get("best" if "best" in options else "fast")
    file = {"lr": 0.5, "epochs": 7, "schedule": "cosine"}
    assert found == base.with_settings({**file, **expected})


def test_a_printed_recipe_trains_the_same(config, tmp_path):
    folder = write_folder(tmp_path / "data", train=60, test=20)
    options = "--recipe", "fast", *small(folder), "--set", "epoch_share=0.8"
    run = command(*options, "--print-config")
    path = tmp_path / "printed.toml"
    path.write_text(run.stdout)
    first = command(*options, "--log-interval", 1)
    second = command("--config", path, "--data-dir", folder, "--log-interval", 1)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr

    def losses_of(run):
        return [line for line in run.stdout.splitlines() if line.startswith("epochs")]

    assert losses_of(second) == losses_of(first)
    assert len(losses_of(first)) == 4  # three of four steps, and the validation
