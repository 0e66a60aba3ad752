"""Gate modules: multiply a tensor by its groups' masks. No graph code."""

from atofx.gates.gate import ChannelGate, GateBank
from atofx.gates.size_check import SizeCheck

__all__ = ["ChannelGate", "GateBank", "SizeCheck"]
