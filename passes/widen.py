"""Program and larger groups -> wider GraphModule of the same architecture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

from atofx.errors import ConfigError
from atofx.ir.analysis import Analysis
from atofx.ir.patterns import covers, require_match
from atofx.ops.resize import Resizer
from atofx.passes.compact import resized
from atofx.passes.input_sizes import sizes_needed
from atofx.passes.outer import rebuild
from atofx.passes.record import call
from atofx.passes.trace import Traced

Factors = float | Mapping[str, float]


def widened_sizes(analysis: Analysis, factors: Factors) -> dict[str, int]:
    """The number of units of every prunable group in a wider model: ``int(size * factor)``.

    Args:
        analysis: the analysed model.
        factors: one for all prunable groups, or by pattern on group names; of several that cover a group, the last
            holds, and a group without one stays as it is.

    Raises:
        ConfigError: a factor below 1, or a pattern that covers no prunable group.
    """
    prunable = [group for group in analysis.groups if group.prunable]
    by_pattern = dict(factors) if isinstance(factors, Mapping) else {"*": factors}
    for pattern, factor in by_pattern.items():
        if not 1 <= factor < float("inf"):
            raise ConfigError(f"a model is widened by factors of 1 and more, not {factor!r} ({pattern!r})")
        if isinstance(factors, Mapping):
            require_match(pattern, [group.name for group in prunable], "prunable group")
    sizes = {}
    for group in prunable:
        mine = [factor for pattern, factor in by_pattern.items() if covers(pattern, group.name)]
        sizes[group.name] = int(group.size * mine[-1] + 1e-9) if mine else group.size
    return sizes


def widen(analysis: Analysis, sizes: Mapping[str, int]) -> fx.GraphModule:
    """The traced module with more units: own parameters (repeated values), same qualified names.

    Compaction gives every coordinate a place or none; here some get several, side by side. All sizes, numbers of
    groups and literals follow through the same resize functions, but norms, means and attention scales count the
    elements there are, as they would in the same model written wider.

    Args:
        analysis: the analysed model.
        sizes: units per prunable group, at least as many as there are.
    """
    copies = analysis.copies({g.name: _spread(g.size, sizes[g.name]) for g in analysis.groups if g.name in sizes})
    with torch.no_grad():
        resizer = Resizer(analysis.module, analysis.lineage, copies, analysis.unit_numbers)
        return resized(analysis, resizer, sizes_needed(analysis, copies > 1))


def rebuild_wider(traced: Traced, analysis: Analysis, sizes: Mapping[str, int]) -> nn.Module:
    """What :func:`widen` makes, in the user's model where that was traced in regions; it runs on the example.

    Raises:
        ConfigError: it does not.
    """
    try:
        wide = rebuild(traced, widen(analysis, sizes))
        modes = [(module, module.training) for module in wide.modules()]
        with torch.no_grad():
            call(wide.eval(), traced.inputs)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:  # whatever the user's graph asks
        raise ConfigError(
            f"the model cannot be widened like that: {error}; leave the group concerned as it is (factors by pattern)"
        ) from error
    for module, training in modes:
        module.training = training
    return wide


def _spread(size: int, wanted: int) -> torch.Tensor:
    """How often each of ``size`` units is repeated to make ``wanted`` of them: the first ones once more than others."""
    each, more = divmod(wanted, size)
    return each + (torch.arange(size) < more).long()
