/* Colours of groups. A palette has few of them and later groups use one again, so a group's number is always written next
   to its colour. */
(() => {
  "use strict";

  const SURFACE = { light: [255, 255, 255], dark: [28, 30, 34] };
  const STRENGTH = { light: 0.42, dark: 0.38 }; // of the colour: text on it keeps a contrast of 4.5

  const css = (rgb) => `rgb(${rgb.map(Math.round).join(",")})`;

  /** The colour of a group at full strength, for marks that carry no text. */
  function strong(palette, group, prunable) {
    return css(prunable ? palette.groups[group % palette.groups.length] : palette.whole);
  }

  /** The colour of a group as background of text. */
  function fill(palette, group, prunable, scheme) {
    const colour = prunable ? palette.groups[group % palette.groups.length] : palette.whole;
    const surface = SURFACE[scheme];
    return css(colour.map((part, i) => surface[i] + (part - surface[i]) * STRENGTH[scheme] * (prunable ? 1 : 0.5)));
  }

  (globalThis.atofx ??= {}).colours = { strong, fill };
})();
