"""Gate modules: multiply a tensor by its groups' masks, or mix it over widths and depths. No graph code."""

from atofx.gates.choices import ChoiceBank, Widths
from atofx.gates.gate import AS_THEY_ARE, ChannelGate, GateBank, Pattern
from atofx.gates.interpolation import channel_interpolation
from atofx.gates.mixtures import DepthMixture, NormMixture, WidthMixture
from atofx.gates.size_check import SizeCheck

__all__ = [
    "AS_THEY_ARE",
    "ChannelGate",
    "ChoiceBank",
    "DepthMixture",
    "GateBank",
    "NormMixture",
    "Pattern",
    "SizeCheck",
    "WidthMixture",
    "Widths",
    "channel_interpolation",
]
