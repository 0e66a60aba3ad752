/* Numbers and shapes as text. */
(() => {
  "use strict";

  const FACTORS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

  /** 41034752 as "41.03 M". */
  function quantity(value) {
    const found = FACTORS.find(([factor]) => Math.abs(value) >= factor);
    return found ? `${(value / found[0]).toFixed(2)} ${found[1]}` : String(value);
  }

  const exact = (value) => value.toLocaleString("en");
  const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
  const shape = (sizes) => (sizes.length ? sizes.join("×") : "scalar");

  /** Some shapes, each once; what does not fit is counted. */
  function shapes(all, most = 2) {
    const texts = [...new Set(all.map(shape))];
    const more = texts.length - most;
    return texts.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more` : "");
  }

  const counted = (number, noun) => `${exact(number)} ${noun}${number === 1 ? "" : "s"}`;

  (globalThis.atofx ??= {}).format = { quantity, exact, percent, shape, shapes, counted };
})();
