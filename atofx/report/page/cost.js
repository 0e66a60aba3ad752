/* FLOPs (fused multiply-adds, counted once) and parameters for numbers of kept units: the program's cost model.
   Units of one group cost the same, so their number is enough. */
(() => {
  "use strict";

  /** How many coordinates of every axis are kept. */
  function extents(cost, counts) {
    const kept = cost.base.slice();
    cost.held.forEach((row, group) => {
      for (const [extent, each] of row) kept[extent] += each * counts[group];
    });
    return kept;
  }

  /** A sum of constants times extents. */
  function value(terms, kept) {
    let sum = 0;
    for (const [constant, ...factors] of terms) {
      sum += factors.reduce((product, factor) => product * kept[factor], constant);
    }
    return sum;
  }

  function total(cost, counts) {
    const kept = extents(cost, counts);
    return { flops: value(cost.flops, kept), params: value(cost.params, kept) };
  }

  (globalThis.atofx ??= {}).cost = { total };
})();
