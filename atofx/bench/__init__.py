"""Dense against compact, measured side by side: time, memory, size, and what is left of the promise of the FLOPs."""

from atofx.bench.compare import Comparison, Side, compare
from atofx.bench.interleave import Rounds, interleave
from atofx.bench.latency import latencies_ms
from atofx.bench.layers import LayerTime, layer_times
from atofx.bench.preferred import Preference, preferred_multiple
from atofx.bench.setting import Setting, all_settings
from atofx.bench.spread import Spread, pairwise, realised

__all__ = [
    "Comparison",
    "LayerTime",
    "Preference",
    "Rounds",
    "Setting",
    "Side",
    "Spread",
    "all_settings",
    "compare",
    "interleave",
    "latencies_ms",
    "layer_times",
    "pairwise",
    "preferred_multiple",
    "realised",
]
