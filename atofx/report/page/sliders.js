/* How many units stay of every group, and what that costs: one slider for all groups, one for each. */
(() => {
  "use strict";

  function create(data, elements, actions) {
    const { dom: { make }, format, cost, mask } = globalThis.atofx;
    const prunable = data.groups.filter((group) => group.prunable);
    const counts = prunable.map((group) => group.size);
    const dense = cost.total(data.cost, counts);
    const rows = prunable.map((group, g) => row(group, g));
    elements.groups.append(...rows.map((r) => r.item));
    elements.all.disabled = !prunable.length;

    function row(group, g) {
      const shown = make("output", {});
      const slider = make("input", {
        type: "range", min: 1, max: group.size, value: group.size,
        oninput: () => { counts[g] = slider.valueAsNumber; refresh(); },
      });
      slider.setAttribute("aria-label", `units kept of group ${g + 1}, ${group.name}`);
      const name = make("button", { type: "button", className: "link", onclick: () => actions.pick(g) },
        actions.swatch(g), `#${g + 1} ${group.name}`);
      name.setAttribute("aria-pressed", "false");
      return { item: make("li", {}, name, slider, shown), slider, shown, name };
    }

    function refresh() {
      const now = cost.total(data.cost, counts);
      rows.forEach((r, g) => {
        r.slider.value = counts[g];
        r.shown.textContent = `${counts[g]} of ${prunable[g].size}`;
        r.slider.setAttribute("aria-valuetext", r.shown.textContent);
      });
      elements.flops.textContent = `${format.quantity(now.flops)} of ${format.quantity(dense.flops)}, ${format.percent(now.flops, dense.flops)}`;
      elements.flops.title = `${format.exact(now.flops)} multiply-adds, counted once`;
      elements.params.textContent = `${format.quantity(now.params)} of ${format.quantity(dense.params)}, ${format.percent(now.params, dense.params)}`;
      elements.params.title = format.exact(now.params);
      const units = counts.reduce((a, b) => a + b, 0);
      elements.units.textContent = `${format.exact(units)} of ${format.exact(prunable.reduce((a, b) => a + b.size, 0))}`;
    }

    elements.all.addEventListener("input", () => {
      elements.share.textContent = `${elements.all.value} %`;
      prunable.forEach((group, g) => { counts[g] = mask.kept(group.size, elements.all.valueAsNumber / 100); });
      refresh();
    });
    elements.reset.addEventListener("click", () => {
      elements.all.value = 100;
      elements.all.dispatchEvent(new Event("input"));
    });
    elements.save.addEventListener("click", () => {
      const url = URL.createObjectURL(new Blob([mask.toJson(prunable, counts)], { type: "application/json" }));
      make("a", { href: url, download: "mask.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    });
    refresh();

    return {
      counts: () => counts.slice(),
      pressed: (picked) => rows.forEach((r, g) => {
        r.name.setAttribute("aria-pressed", String(g === picked));
        if (g === picked) r.item.scrollIntoView({ block: "nearest" });
      }),
    };
  }

  (globalThis.atofx ??= {}).sliders = { create };
})();
