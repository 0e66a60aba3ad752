"""What a training run is: every option with its meaning, unit and range, and YAML in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from atofx.errors import ConfigError
from atofx.ir.granularity import HeadsOrDims
from atofx.ir.limits import Limits
from atofx.passes.trace import Frontend
from atofx.train.config_errors import explain
from atofx.train.options import (
    AtoOptions,
    DhspgOptions,
    DistillationOptions,
    Fraction,
    HessoOptions,
    HspgOptions,
    OneShotOptions,
    Options,
    ScratchOptions,
    SearchOptions,
    Share,
    TasOptions,
)
from atofx.train.squad_options import SquadOptions

_DOCUMENT_END = "..."  # what YAML writes after a lone scalar


class TrainConfig(Options):
    """One training run. FLOPs are fused multiply-adds counted once."""

    model: str = "resnet20"
    """A name of the zoo (resnet20) or of torchvision (mobilenet_v2), zoo:NAME, torchvision:NAME,
    package.module:factory, or tas:FILE (a searched ResNet, as the files published with TAS describe it). With task
    squad: the folder of a Hugging Face BERT, or a size with random weights: bert-tiny, -mini, -small, -medium, -base,
    -large."""
    model_args: dict[str, Any] | None = None
    """Arguments of the network's factory beside num_classes and in_channels: {width: 16}."""
    frontend: Frontend = "auto"
    """What captures the network's graph. symbolic: symbolic tracing; export: torch.export; auto: symbolic tracing, and
    torch.export where that cannot."""
    data: str = "digits"
    """One of digits, cifar10, cifar100, or folder:PATH (PATH/train/<class>, PATH/val/<class>). With task squad: the
    folder of train*.json and dev*.json in the format of SQuAD v1.1, or one such file, of which a tenth is the test."""
    task: Literal["classification", "squad"] = "classification"
    """What is learnt. classification: the class of an image; squad: answers to questions on a text, with BERT."""
    data_dir: str = "data"
    """Folder of the data sets that torchvision downloads."""
    image_size: int | None = Field(default=None, ge=4, le=1024)
    """Side of the images in pixels; null: 8 for digits, 32 for cifar, for folders 224 or their own size up to 64."""
    augment: Literal["auto", "none", "shift", "crop-flip", "imagenet"] = "auto"
    """Of training images. shift: padded random crop; crop-flip: and mirrored; imagenet: random resized crop, mirrored;
    auto: shift for digits, crop-flip for images up to 64 pixels, imagenet for larger ones."""
    color_jitter: float = Field(default=0.0, ge=0, le=1)
    """With augment imagenet: brightness, contrast, saturation; half of it for hue."""
    cache: Literal["auto", "memory", "none"] = "auto"
    """Decode all images once and keep them in memory, or read files all along; auto: memory up to 64 pixels."""
    workers: int = Field(default=4, ge=0, le=256)
    """Processes that read files, where images are not kept in memory."""
    vocab: str | None = None
    """With task squad and a size of BERT: a WordPiece vocabulary, one token a line; null: characters and frequent words
    of the training file."""
    squad: SquadOptions = SquadOptions()
    """Options of task squad."""

    method: str = "ato"
    """One of ato, hspg, dhspg, hesso, scratch, tas, none (dense training), or a one-shot criterion: l1, l2, bn-scale,
    taylor, random."""
    flops: Fraction | None = None
    """Kept fraction of the FLOPs of the whole model; 0.5 if neither flops nor p is given."""
    p: Fraction | None = None
    """Kept fraction of the prunable FLOPs, instead of flops."""
    freeze: tuple[str, ...] = ()
    """Patterns of parameters, buffers or modules that keep their shapes, such as [conv1, layer4]."""
    only: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Prune only channels produced wholly below these patterns; null: no such condition."""
    granularity: HeadsOrDims | dict[str, HeadsOrDims] = "heads"
    """What attention loses: heads, or dims (one dimension of every head); or either by pattern on module names:
    {blocks.0.attn: dims}."""
    round_to: int | str = 1
    """Keep multiples of so many channels (in groups less than twice as wide: of half of it, a quarter, …); auto (or
    auto:onnxruntime, or another back end of atofx bench): what this machine is found to be fast with when the run
    begins."""
    min_units: int = Field(default=1, ge=1)
    """Keep at least so many units (channels, heads) of every group."""
    min_width: int = Field(default=1, ge=1)
    """Keep at least so many channels of every group."""
    min_keep: Share = 0.0
    """Keep at least this share of every group."""
    per_group: dict[str, dict[str, int | float]] | None = None
    """Limits that differ in some groups, by pattern on their names: {layer4.*: {min_keep: 0.5}}. The last that
    matches and sets a limit holds."""
    ato: AtoOptions = AtoOptions()
    """Options of method ato."""
    hspg: HspgOptions = HspgOptions()
    """Options of method hspg."""
    dhspg: DhspgOptions = DhspgOptions()
    """Options of method dhspg."""
    hesso: HessoOptions = HessoOptions()
    """Options of method hesso."""
    oneshot: OneShotOptions = OneShotOptions()
    """Options of the one-shot criteria."""
    scratch: ScratchOptions = ScratchOptions()
    """Options of method scratch."""
    tas: TasOptions = TasOptions()
    """Options of method tas."""

    distill: str | None = None
    """Learn from a trained network, too: the folder of its run, or baseline (with baseline: true): the dense network,
    trained first."""
    distillation: DistillationOptions = DistillationOptions()
    """Options of distill."""

    epochs: int = Field(default=30, ge=1)
    """Passes over the training data."""
    batch_size: int = Field(default=64, ge=1)
    """Images (or sequences) per optimizer step, over all processes together."""
    eval_batch_size: int = Field(default=256, ge=1)
    """Images (or sequences) per evaluation step, over all processes together."""
    eval_every: int = Field(default=1, ge=1)
    """Epochs per evaluation on the test data (the last epoch always)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the network."""
    lr: float = Field(default=0.1, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """Weight decay, on all parameters."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd."""
    nesterov: bool = True
    """Nesterov momentum for sgd."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient of all parameters together, longer ones are scaled down; null: no limit."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Epochs of linear warm-up."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    milestones: tuple[Share, ...] = (0.5, 0.75)
    """Fractions of the training at which schedule step drops the rate."""
    gamma: float = Field(default=0.1, gt=0, lt=1)
    """Factor of each drop of schedule step."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution of mixup, one coefficient a batch; 0: off."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of training; the final comparison is always fp32."""
    channels_last: bool = True
    """Memory layout of images and convolutions (faster on CPU and GPU)."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of each process; null: as torch has it. Tiny networks are faster with one on a busy machine."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of weights, data order, augmentation and controller."""

    out: str | None = None
    """Run folder; null: a new one under runs/."""
    resume: bool = False
    """Continue the run in the folder out (from its start if it has no checkpoint yet)."""
    baseline: bool = False
    """Also train the dense network for the same number of epochs and report it."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Optimizer steps per checkpoint within an epoch; 0: at epoch ends only."""
    latency_batch: int = Field(default=32, ge=1)
    """Images (or sequences) per forward pass when latency is measured."""

    @field_validator("freeze", "only", "milestones", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.flops is not None and self.p is not None:
            raise ValueError("give flops (kept fraction of the whole model) or p (of its prunable part), not both")
        if self.nesterov and self.momentum == 0 and self.optimizer == "sgd":
            raise ValueError("nesterov needs a momentum above 0; set nesterov: false")
        if self.cache == "memory" and self.augment == "imagenet":
            raise ValueError("augment imagenet works on files of any size; it needs cache: none (or auto)")
        if self.distill == "baseline" and not self.baseline:
            raise ValueError("distill baseline needs the dense network: set baseline: true, or give a run's folder")
        if self.model_args and self.task == "squad":
            raise ValueError("model_args are for factories of image networks; a BERT's fields are squad.config")
        if self.resume and self.out is None:
            raise ValueError("resume needs the run folder: give out")
        if isinstance(self.round_to, str) and self.round_to.partition(":")[0] != "auto":
            raise ValueError(f"round_to {self.round_to!r} is neither a number nor auto or auto:BACKEND")
        try:
            _ = self._limits(1 if isinstance(self.round_to, str) else self.round_to)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def limits(self) -> Limits:
        """Minimum widths and rounding.

        Raises:
            ConfigError: ``round_to`` is still ``auto``; the run itself finds the number.
        """
        if isinstance(self.round_to, str):
            raise ConfigError(f"round_to {self.round_to!r} has not been measured yet")
        return self._limits(self.round_to)

    def _limits(self, round_to: int) -> Limits:
        return Limits(self.min_units, self.min_width, self.min_keep, round_to, self.per_group or {})

    @property
    def search(self) -> SearchOptions | None:
        """Options of the method, if it is one that looks for a structure before the training."""
        options = getattr(self, self.method, None)
        return options if isinstance(options, SearchOptions) else None

    @property
    def target(self) -> dict[str, float]:
        """``{"flops": …}`` or ``{"p": …}``, whichever was given; half of the FLOPs by default."""
        if self.p is not None:
            return {"p": self.p}
        return {"flops": 0.5 if self.flops is None else self.flops}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The configuration with these values, defaults for the rest.

        Raises:
            ConfigError: an unknown key (with the nearest valid one) or a value out of range.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(explain(error, cls)) from error

    def updated(self, **values: Any) -> TrainConfig:
        """A copy with some fields changed, checked like any other; ``flops`` and ``p`` displace each other."""
        return TrainConfig.parse(merged(self.model_dump(), values))

    def to_yaml(self) -> str:
        """YAML text that :meth:`from_yaml` reads; each field under its description."""
        return "\n".join(_commented(self)) + "\n"

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Read a configuration file.

        Raises:
            ConfigError: the file cannot be read, is not a YAML mapping, or holds an invalid value.
        """
        return cls.parse(read_yaml(path))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes`` on top; nested options one by one; ``flops`` and ``p`` displace each other."""
    out = dict(values)
    for one, other in (("flops", "p"), ("p", "flops")):
        if changes.get(one) is not None and changes.get(other) is None:
            out.pop(other, None)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if nested else value
    return out


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read or is not a mapping.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds a {type(loaded).__name__}; a configuration is a mapping such as 'epochs: 30'")
    return {str(key): value for key, value in loaded.items()}


def _commented(options: BaseModel, indent: str = "") -> list[str]:
    lines: list[str] = []
    plain_values = options.model_dump()
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        lines.append(f"{indent}# {' '.join((field.description or '').split())}")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_commented(value, indent + "  ")]
            continue
        plain = list(value) if isinstance(value, tuple) else plain_values[name]
        text = yaml.safe_dump(plain, default_flow_style=True, width=1000, allow_unicode=True, sort_keys=False)
        lines.append(f"{indent}{name}: {text.removesuffix(chr(10)).removesuffix(_DOCUMENT_END).strip()}")
    return lines
