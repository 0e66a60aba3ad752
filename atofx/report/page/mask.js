/* The mask that the sliders describe: the first units of every group stay. */
(() => {
  "use strict";

  /** Units that stay of a group of that size: at least one. */
  function kept(size, share) {
    return Math.max(1, Math.min(size, Math.round(size * share)));
  }

  /** The mask in the format that `atofx.Mask.load` reads. */
  function toJson(groups, counts) {
    const entries = counts.map((count, index) => {
      const { name, size } = groups[index];
      return [name, { size, dropped: Array.from({ length: size - count }, (_, offset) => count + offset) }];
    });
    return JSON.stringify({ format: "atofx-mask/1", groups: Object.fromEntries(entries) });
  }

  (globalThis.atofx ??= {}).mask = { kept, toJson };
})();
