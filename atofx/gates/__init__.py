"""Gate modules: multiply a tensor by its groups' masks. No graph code."""

from atofx.gates.gate import ChannelGate, GateBank

__all__ = ["ChannelGate", "GateBank"]
