"""Gate modules: multiply a tensor by its groups' masks, or mix it over widths and depths. No graph code."""

from atofx.gates.choices import ChoiceBank, Widths
from atofx.gates.gate import ChannelGate, GateBank
from atofx.gates.interpolation import channel_interpolation
from atofx.gates.mixtures import DepthMixture, NormMixture, WidthMixture
from atofx.gates.size_check import SizeCheck

__all__ = [
    "ChannelGate",
    "ChoiceBank",
    "DepthMixture",
    "GateBank",
    "NormMixture",
    "SizeCheck",
    "WidthMixture",
    "Widths",
    "channel_interpolation",
]
