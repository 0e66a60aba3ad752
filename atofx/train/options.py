"""The options of each method: what a training configuration nests under the method's name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atofx.errors import ConfigError
from atofx.methods.candidates import RATIOS
from atofx.methods.shares import Scope
from atofx.methods.temperature import Temperature

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Drops = tuple[Share, ...]


class Options(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class AtoOptions(Options):
    """Auto-Train-Once (Wu et al., CVPR 2024). The five ``t_`` fields are fractions of the whole training."""

    groups: tuple[str, ...] | None = None
    """Patterns (* and ?) of the group names to prune, e.g. [layer*.conv1]; null: all prunable groups."""
    every: int | None = Field(default=None, ge=1)
    """Optimizer steps per controller step; null: 20, less in short runs."""
    controller_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the controller; null: 1e-3, up to 1e-2 in short runs."""
    lmd: float = Field(default=0.0, ge=0)
    """Strength of the projection; 0: 10 before t_lambda, 1000 from there on."""
    projection: Literal["proximal", "half-space"] = "proximal"
    """How dropped units are shrunk."""
    reg_w: float = Field(default=4.0, gt=0)
    """Weight of the FLOPs term (applied twice over, as published)."""
    t_start: Share = 0.1
    """When the controller starts to learn."""
    t_w: Share = 0.4
    """When the projection starts."""
    t_lambda: Share = 0.4
    """When the projection becomes strong."""
    t_decay: Share = 0.39
    """When the controller's learning rate drops to a tenth."""
    t_end: Share = 0.4
    """When the mask is frozen."""


class KindOptions(Options):
    """How HSPG projects the groups of one kind."""

    epsilon: float = Field(default=0.0, ge=0, lt=1)
    """Of the half-space test; larger projects more."""
    cap: Share = 1.0
    """Largest share of the kind's units that may become zero (upper group sparsity)."""
    adaptive: bool = False
    """Raise epsilon by 0.1 every adapt_every while the kind's sparsity does not grow."""


class HspgOptions(Options):
    """HSPG (Chen et al., NeurIPS 2021). The ``t_`` fields are fractions of the whole training."""

    groups: tuple[str, ...] | None = None
    """Patterns (* and ?) of the group names to prune; null: all prunable groups."""
    target: Literal["flops", "none"] = "flops"
    """flops: end at the FLOPs target; none: lmd and epsilon alone decide how much goes, as published."""
    sparsity: float | None = Field(default=None, ge=0, lt=1)
    """Instead of the FLOPs target: share of all units to remove."""
    lmd: float = Field(default=1e-3, ge=0)
    """Lambda, the penalty on the norm of every unit; scaled by the learning rate."""
    lmd_drops: Drops = ()
    """Fractions of the training at which lambda is multiplied by lmd_gamma."""
    lmd_gamma: float = Field(default=0.1, gt=0, le=1)
    """Factor of each drop of lambda."""
    epsilon: float = Field(default=0.0, ge=0, lt=1)
    """Of the half-space test; larger projects more."""
    cap: Share = 1.0
    """Largest share of the units that may become zero."""
    adaptive: bool = False
    """Raise epsilon by 0.1 every adapt_every while the sparsity does not grow."""
    adapt_every: Share = 0.004
    """Fraction of the training between two adaptations of epsilon."""
    kinds: dict[str, KindOptions] = {}
    """Kinds of groups with their own epsilon, cap and adaptive, by pattern: {classifier*: {epsilon: 0.9}}."""
    first_stage: Literal["subgradient", "proximal"] = "subgradient"
    """How the penalty is applied before t_half_space."""
    t_half_space: Share = 0.25
    """When the half-space projection starts."""
    t_decide: Share = 0.4
    """When, with a target not yet met, the units with the smallest norms are chosen."""
    t_end: Share = 0.5
    """When these have faded to zero."""


class DhspgOptions(Options):
    """DHSPG (OTOv2, Chen et al., ICLR 2023). The ``t_`` fields are fractions of the whole training."""

    groups: tuple[str, ...] | None = None
    """Patterns (* and ?) of the group names to prune; null: all prunable groups."""
    sparsity: float | None = Field(default=None, ge=0, lt=1)
    """Target group sparsity instead of the FLOPs target: share of all units to remove."""
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """Added to sparsity for the number of candidates."""
    lmd: float | None = Field(default=None, ge=0)
    """Lambda, the penalty on the norm of candidates; null: 1e-3 with sgd, 1e-2 with adamw."""
    amplify: float | None = Field(default=None, ge=0)
    """Factor on the smallest penalty that outweighs a growing step; null: 2 with sgd, 20 with adamw."""
    cap: float | None = Field(default=None, ge=1)
    """Largest penalty in multiples of lmd; null: 10 with sgd, 1000 with adamw."""
    epsilon: float = Field(default=0.95, ge=0, lt=1)
    """Of the half-space test; larger projects more."""
    score_momentum: float = Field(default=0.0, ge=0, lt=1)
    """0: score once, at t_partition; else average the score over the steps before it."""
    t_partition: Share = 0.1
    """When units are split into candidates and important ones (T_w)."""
    t_half_space: Share | None = None
    """When the half-space projection starts (T_h); null: at t_partition."""
    t_fade: Share = 0.4
    """When candidates that still have to go begin to fade."""
    t_end: Share = 0.5
    """When they are zero."""


class HessoOptions(Options):
    """HESSO (Chen et al., 2024). The ``t_`` fields are fractions of the whole training."""

    groups: tuple[str, ...] | None = None
    """Patterns (* and ?) of the group names to prune; null: all prunable groups."""
    sparsity: float | None = Field(default=None, ge=0, lt=1)
    """Target group sparsity instead of the FLOPs target: share of all units to remove."""
    periods: int = Field(default=10, ge=1)
    """In how many portions the units go."""
    t_start: Share = 0.1
    """When the first portion is chosen."""
    t_end: Share = 0.25
    """When the last one is zero."""


class OneShotOptions(Options):
    """A criterion ranks the units once; the dropped ones stay at zero for the rest of the training."""

    scope: Scope = "uniform"
    """Rank units over the whole network (global), keep the same share of every group (uniform), or less of groups that
    move more memory for their multiply-adds (traffic)."""
    prune_at: Share = 0.5
    """Fraction of the training after which the units are ranked and dropped."""


class SearchOptions(Options):
    """What methods share that look for a structure first, and then train the compact network from new weights."""

    groups: tuple[str, ...] | None = None
    """Patterns (* and ?) of the group names to prune, e.g. [layer*.conv1]; null: all prunable groups."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the training images that the search takes; they come before the epochs of the training."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images that is held out while the structure is searched."""
    check_every: int | None = Field(default=None, ge=1)
    """Steps of the search per validation (the end of an epoch always); null: at the ends of epochs."""
    budget: bool = False
    """Train the compact network for epochs / kept FLOPs, at the cost of epochs of the dense one."""
    init: Literal["layers", "he"] = "he"
    """New weights. he: convolutions normal with variance 2 / (kernel elements x output channels); layers: every layer's
    own."""


class ScratchOptions(SearchOptions):
    """Pruning from Scratch (Wang et al., AAAI 2020): gates learn on random weights, then the compact network trains."""

    r: Fraction = 0.2
    """Mean that the gates are drawn to, over the whole network; also the largest share of non-zero gates of a state
    that may be chosen by its validation accuracy."""
    lmd: float = Field(default=0.5, ge=0)
    """Weight of (mean gate - r)^2 in the loss."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate of Adam on the gates."""
    expand: float | dict[str, float] = 1.0
    """How many times wider all prunable groups are before the search; or by pattern on group names: {layer3.*: 1.25}.
    The last that matches holds. FLOPs targets mean the network as it was."""
    budget: bool = True
    """Train the compact network for epochs / kept FLOPs, at the cost of epochs of the dense one (Scratch-B)."""


class TasOptions(SearchOptions):
    """Transformable Architecture Search (Dong and Yang, NeurIPS 2019): widths and depths by gradients."""

    search: Literal["width", "depth", "shape"] = "shape"
    """What is searched: widths of groups, depths of stages of residual blocks, or both."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training images that the search takes; they come before the epochs of the training."""
    validation: float = Field(default=0.5, gt=0, lt=1)
    """Share of the training images on which the probabilities of widths and depths learn; weights learn on the rest."""
    ratios: tuple[Fraction, ...] = Field(default=RATIOS, min_length=1)
    """Candidate widths, as shares of a group."""
    lmd: float = Field(default=2.0, ge=0)
    """Weight of the cost, the logarithm of the expected FLOPs."""
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """How far below the target costs nothing, as a share of the FLOPs of the whole network."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate of Adam on the logits of widths and depths (published: 1e-3, in 600 epochs)."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Weight decay of these logits."""
    temperature: Literal["cosine", "linear"] = "cosine"
    """How the temperature of the samples falls: cosine as in the published code, linear as in the paper."""
    t_first: float | None = Field(default=None, gt=0)
    """Temperature at the beginning; null: 5 for cosine, 10 for linear."""
    t_last: float = Field(default=0.1, gt=0)
    """Temperature at the end."""
    init: Literal["layers", "he"] = "he"
    """New weights. he: convolutions normal with variance 2 / (kernel elements x output channels), as published; layers:
    every layer's own."""

    @model_validator(mode="after")
    def _falling(self) -> TasOptions:
        try:
            _ = self.temperatures
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def temperatures(self) -> Temperature:
        """The schedule."""
        start = Temperature.published(self.temperature).start if self.t_first is None else self.t_first
        return Temperature(self.temperature, start, self.t_last)


class DistillationOptions(Options):
    """How much the teacher of distill has to say (values of the code of TAS)."""

    alpha: Share = 0.9
    """Weight of the teacher's answers in the loss; the labels have the rest."""
    temperature: float = Field(default=4.0, gt=0)
    """Logits of both networks are divided by this."""
