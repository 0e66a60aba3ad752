"""What a user can do about a reason for a pin. `docs/pinned.md` lists the same."""

from __future__ import annotations

from atofx.passes.restrict import FROZEN, OUTSIDE

_EXPLAIN = "explain what it meets: model inputs and pinned tensors keep all their channels, for a reason of their own"
_CONSTANT = "use a constant index (a registered buffer or a literal), along one dimension at a time"
_SPATIAL = "nothing for these dimensions; to prune the channels, keep them apart from positions (no reshape between)"
_LOOKED_UP = "nothing: rows that are looked up by their number stay; the width of the table is prunable"
_SOFTMAX = "apply it along a dimension that is not pruned (positions, classes), or leave this stream whole"
_RECURRENT = "nothing yet: the state of a recurrent layer stays whole, its inputs and the layers after it are prunable"

#: (phrase that occurs in the reason, what helps); the first that occurs counts.
ADVICE = (
    ("reaches the model's output", "nothing: outputs keep their shape; prune the layers before it instead"),
    (
        "outside the traced regions",
        "call the submodule that owns it as a whole, or rewrite the code that uses it so that it can be traced",
    ),
    (
        "the traced region",
        "nothing inside the region; rewrite the code outside so that it can be traced, or move what reads this into it",
    ),
    ("no traced region", "use example inputs on which its module is called, if it should be pruned"),
    ("no record describes", "describe the operation with atofx.register_op (CONTRIBUTING.md, 'Add an op')"),
    (
        "not zero where",
        "put an activation with f(0) = 0 (ReLU, SiLU, GELU) before it, or a linear layer with a bias after it",
    ),
    ("a constant other than zero", "use a layer of its own in each place, or an activation with f(0) = 0 before it"),
    ("not a finite number", "add a small constant to the divisor, or store its reciprocal and multiply with that"),
    ("divides in one place", "use two parameters, one to divide by and one to add or multiply"),
    ("normalisation over channels", "use a norm that acts per channel, or leave this stream whole"),
    ("renormalised", "drop max_norm"),
    ("normalised", "use a norm that acts per channel, or leave this stream whole"),
    ("mixes neighbours", "use a norm that acts per channel, or leave this stream whole"),
    ("only one unit", "nothing: at least one unit of every group stays"),
    ("a single channel", "nothing: a tensor of one channel cannot lose it"),
    (FROZEN, "trace without that pattern, or with one that covers less"),
    (OUTSIDE, "add a pattern that covers the tensor named"),
    ("depends on the data", _CONSTANT),
    ("indexed by several", _CONSTANT),
    ("several dimensions", _CONSTANT),
    ("as an index into an embedding", _LOOKED_UP),
    ("looked up by index", _LOOKED_UP),
    ("as an index", _CONSTANT),
    ("index that has channels", _CONSTANT),
    ("as class numbers", "nothing: class numbers are no channels"),
    ("softmax", _SOFTMAX),
    ("over channels would change", _SOFTMAX),
    (
        "over channels depends",
        "apply it to a dimension that is not pruned; sum, mean, var, amax and amin over channels work",
    ),
    ("whole groups of a grouped convolution", "nothing: units are whole groups here, the channels inside one stay"),
    ("grouped convolution", "make the layer before it prunable in whole groups, or use a convolution without groups"),
    ("computed in the graph couples", "store the weight as a parameter instead of computing it"),
    ("kernel dimensions", "nothing: a kernel keeps its size"),
    ("flattened together with a longer axis", "nothing for this axis: the longer one is prunable"),
    ("channels and pixels were flattened", "do that before flattening"),
    ("along its spatial dimensions", _SPATIAL),
    ("along spatial dimensions", _SPATIAL),
    ("takes windows along", _SPATIAL),
    ("statistics over it", _SPATIAL),
    ("as coordinates", _SPATIAL),
    ("over a grid", _SPATIAL),
    ("recurrent layer", _RECURRENT),
    ("rolled over all dimensions", "name the dimensions of the roll"),
    ("reinterpreted as another dtype", "convert with .to(dtype)"),
    ("its layout in memory", "compute with sizes instead of strides and offsets"),
    ("its attribute", "use tensor operations instead of the attribute"),
    ("in place through a view", "write the operation without the view, or not in place"),
    ("in place through a slice with steps", "write x[:, ::2] *= 2, which puts the result back, or not in place"),
    ("a change in place reaches it or not", "write the change not in place, or clone() where a copy is meant"),
    ("with out=", "assign the result instead"),
    ("its values make a new tensor", "use tensor operations instead of making a tensor of its values"),
    ("several results", "split the operation into one for each result"),
    ("takes a diagonal", "take the diagonal of a dimension that is not pruned"),
    ("parameters are mixed", "nothing: this axis is summed before it meets an activation; the other axes are prunable"),
    ("they are constant", "nothing: no parameter makes these channels, so there is nothing to prune"),
    ("would not stay rectangular", "keep what is written or joined together equally wide, or leave this stream whole"),
    ("always kept", _EXPLAIN),
    ("multiplied with", _EXPLAIN),
)


def advice(reason: str | None) -> str:
    """What helps, as the rest of a sentence; empty if nothing is known."""
    for phrase, text in ADVICE:
        if reason and phrase in reason:
            return f". What helps: {text}"
    return ""
