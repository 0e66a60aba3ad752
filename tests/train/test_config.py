"""Configurations: what is refused and how it is said; YAML there and back; recipes."""

from pathlib import Path
from typing import Any

import pytest

from atofx.errors import ConfigError
from atofx.ir.limits import Limits
from atofx.train.config import TrainConfig
from atofx.train.recipes import load_config, recipe_names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "squad", "model_args": {"width": 2}}, "model_args are for factories of image networks"),
        ({"epoch": 3}, r"unknown key 'epoch' \(did you mean 'epochs'\?\)"),
        ({"zzz": 3}, r"unknown key 'zzz' \(known keys: model, model_args, frontend, data, "),
        ({"ato": {"projektion": "x"}}, r"unknown key 'projektion' in 'ato' \(did you mean 'projection'\?\)"),
        ({"epochs": 0}, r"epochs should be greater than or equal to 1, not 0 \(Passes over the training data\)"),
        ({"flops": 1.5}, r"flops should be less than or equal to 1, not 1.5 \(Kept fraction of the FLOPs"),
        ({"flops": 0.5, "p": 0.5}, r"give flops \(kept fraction of the whole model\) or p .*, not both"),
        ({"optimizer": "adam"}, "optimizer should be 'sgd' or 'adamw', not 'adam'"),
        ({"ato": {"t_end": 2}}, r"ato.t_end should be less than or equal to 1, not 2 \(When the mask is frozen\)"),
        ({"resume": True}, "resume needs the run folder: give out"),
        ({"cache": "memory", "augment": "imagenet"}, "it needs cache: none"),
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
        ({"only": []}, "only .*should have at least 1 item"),
        ({"min_keep": 2}, "min_keep should be less than or equal to 1, not 2"),
        ({"per_group": {"a": {"min_kep": 0.5}}}, "unknown limit 'min_kep' of 'a'; did you mean 'min_keep'"),
        ({"per_group": {"a": {"round_to": 0}}}, "limits of 'a': round_to=0 must be at least 1"),
        ({"lr": float("nan")}, "lr should be a finite number"),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.parse(values)


def test_all_findings_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.parse({"epoch": 3, "batch_size": 0})
    assert len(str(caught.value).splitlines()) == 2


def test_yaml_there_and_back(tmp_path: Path) -> None:
    config = TrainConfig.parse({"data": "folder:/x y/ü", "p": 0.193, "lr": 1e-3, "ato": {"groups": ["layer*.conv1"]}})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert TrainConfig.from_yaml(path) == config
    assert "# Passes over the training data." in config.to_yaml()


def test_limits_there_and_back(tmp_path: Path) -> None:
    """The order of patterns counts, so a resumed run must read it as it was."""
    per_group = {"layer*": {"round_to": 16, "min_keep": 0.5}, "conv1": {"min_units": 3}}
    config = TrainConfig.parse(
        {"freeze": ["fc"], "only": ["layer*"], "round_to": 8, "min_width": 4, "per_group": per_group}
    )
    assert config.limits == Limits(round_to=8, min_width=4, per_group=per_group)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    again = TrainConfig.from_yaml(path)
    assert again == config
    assert list(again.limits.per_group) == list(per_group)


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_field_says_what_it_is(name: str) -> None:
    assert TrainConfig.model_fields[name].description


def test_flops_and_p_displace_each_other() -> None:
    config = load_config("ato-resnet50-imagenet", {"flops": 0.4})
    assert config.target == {"flops": 0.4}
    assert config.updated(p=0.3).target == {"p": 0.3}
    assert TrainConfig().target == {"flops": 0.5}


def test_overrides_merge_into_nested_options() -> None:
    config = load_config("ato-resnet50-imagenet", {"ato": {"every": 10}})
    assert config.ato.every == 10
    assert config.ato.groups == ("layer*.conv1", "layer*.conv2")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_valid(name: str) -> None:
    assert isinstance(load_config(name), TrainConfig)


def test_the_recipes_are_these() -> None:
    assert recipe_names() == (
        "ato-mobilenetv2-cifar10",
        "ato-resnet18-cifar10",
        "ato-resnet34-imagenet",
        "ato-resnet50-imagenet",
        "ato-resnet56-cifar10",
        "dhspg-resnet18-cifar10",
        "dhspg-resnet50-cifar10",
        "dhspg-resnet50-imagenet",
        "dhspg-vgg16bn-cifar10",
        "digits",
        "hesso-resnet18-cifar10",
        "hspg-bert-squad",
        "hspg-resnet50-cifar10",
        "hspg-vgg16bn-cifar10",
        "scratch-mobilenetv2-imagenet",
        "scratch-resnet50-imagenet",
        "scratch-resnet56-cifar10",
        "scratch-vgg16-cifar10",
        "squad",
        "tas-resnet110-cifar10",
        "tas-resnet32-cifar100",
        "tas-resnet56-cifar10",
    )


def test_published_imagenet_run() -> None:
    config = load_config("ato-resnet50-imagenet")
    assert config.p == 0.193
    assert (config.epochs, config.batch_size, config.optimizer, config.lr) == (245, 1024, "adamw", 1e-3)


def test_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'ato-resnet50' \(did you mean 'ato-resnet"):
        load_config("ato-resnet50")


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n", "holds a list; a configuration is a mapping"), ("a: [", "is not YAML"), ("a: \tb\n\t:", "is not YAML")],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_config(tmp_path / "none.yaml")
