"""`atofx train`: one option for every field of TrainConfig."""

import pytest
import yaml
from pydantic import BaseModel

from atofx.train.config import TrainConfig


def printed(atofx_command, *arguments: str) -> dict:
    result = atofx_command("train", "--print-config", *arguments)
    assert result.exit_code == 0, result.stderr
    return yaml.safe_load(result.stdout)


def test_without_options_it_is_the_digits_recipe(atofx_command):
    config = printed(atofx_command)
    assert (config["model"], config["data"], config["method"], config["flops"]) == ("resnet20", "digits", "ato", 0.5)


def test_every_plain_field_has_an_option_with_its_description(atofx_command):
    text = " ".join(atofx_command("train", "--help").stdout.split())
    for name, field in TrainConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            continue
        assert f"--{name.replace('_', '-')}" in text
        assert field.description.split()[0] in text


def test_options_overrule_the_recipe(atofx_command):
    config = printed(
        atofx_command, "--config", "ato-resnet56-cifar10", "--epochs", "3", "--lr", "1e-3", "--no-nesterov"
    )
    assert (config["model"], config["epochs"], config["lr"], config["nesterov"]) == ("resnet56", 3, 1e-3, False)


def test_flops_displaces_p(atofx_command):
    config = printed(atofx_command, "--config", "ato-resnet50-imagenet", "--flops", "0.4")
    assert (config["flops"], config["p"]) == (0.4, None)


def test_set_reaches_nested_options(atofx_command):
    config = printed(atofx_command, "--set", "ato.every=5", "--set", "ato.groups=['layer*.conv1']", "--set", "seed=3")
    assert config["ato"]["every"] == 5
    assert config["ato"]["groups"] == ["layer*.conv1"]
    assert config["seed"] == 3


def test_text_stays_text_and_null_is_none(atofx_command):
    config = printed(atofx_command, "--out", "007", "--image-size", "null", "--milestones", "[0.3, 0.4]")
    assert (config["out"], config["image_size"], config["milestones"]) == ("007", None, [0.3, 0.4])


def test_a_printed_configuration_can_be_read_back(atofx_command, tmp_path):
    text = atofx_command("train", "--print-config", "--epochs", "7").stdout
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    assert atofx_command("train", "--print-config", "--config", str(file)).stdout == text


@pytest.mark.parametrize("option", [["--epoch", "3"], ["--batchsize", "3"]])
def test_an_unknown_option_offers_the_nearest(atofx_command, option):
    result = atofx_command("train", *option)
    assert result.exit_code == 2
    assert "no such option" in result.stderr.lower()
