/* The page's state (which modules are open, what is selected, which group is picked) and what changes it. */
(() => {
  "use strict";

  const { hierarchy, search, dom: { make }, format } = globalThis.atofx;
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const MOST = 3000; // boxes that may be shown at once

  let tree = hierarchy.build(data, hierarchy.carriesTensor);
  let entries = search.index(data, tree);
  let open = hierarchy.opening(data, tree);
  let boxes = new Map();
  let selected = null;
  let picked = null;

  const inGroup = data.groups.map(() => []);
  data.nodes.forEach((node, i) => {
    const own = [...(node.groups ?? []), ...(node.tensors ?? []).flatMap((t) => data.tensors[t].axes.map((a) => a.group))];
    for (const g of new Set(own)) inGroup[g].push(i);
  });

  const actions = { pick, reveal, toggle, openAll, openGroup };
  const details = globalThis.atofx.details.create(data, actions);
  actions.swatch = details.swatch;
  const view = globalThis.atofx.view.create(at("graph"), data, { select, toggle, hover, recolour: () => draw(selected) });
  const sliders = globalThis.atofx.sliders.create(
    data,
    { groups: at("groups"), all: at("all"), share: at("share"), flops: at("flops"), params: at("params"), units: at("units"),
      reset: at("reset"), save: at("save") },
    actions,
  );

  // ---------------------------------------------------------------- drawing

  function draw(anchor) {
    const graph = hierarchy.visible(data, tree, open);
    boxes = new Map(graph.boxes.map((box) => [box.id, box]));
    if (!boxes.has(selected)) selected = null;
    view.show(graph, anchor);
    mark();
  }

  /** Mark the selected box and those of the picked group; the result: the latter. */
  function mark() {
    let with_ = null;
    if (picked !== null) {
      const nodes = new Set(inGroup[picked]);
      const goes = (box) => (box.kind === "node" ? nodes.has(box.node) : box.module.leaves.some((leaf) => nodes.has(leaf)));
      with_ = new Set([...boxes.values()].filter((box) => box.kind !== "open" && goes(box)).map((box) => box.id));
    }
    view.mark(selected, with_);
    return with_ ?? new Set();
  }

  function setOpen(next, anchor) {
    if (hierarchy.visible(data, tree, next).boxes.length > MOST) {
      say(`More than ${format.exact(MOST)} boxes would be shown; open a smaller part`);
      return false;
    }
    open = next;
    draw(anchor);
    return true;
  }

  // ---------------------------------------------------------------- selection

  function say(text) {
    at("spoken").textContent = text;
  }

  function select(id) {
    selected = id;
    mark();
    describe();
  }

  function describe() {
    const box = boxes.get(selected);
    if (box) {
      const parts = box.kind === "node" ? details.node(box.node) : details.module(box.module, box.kind === "open");
      at("details").replaceChildren(...parts.flat().filter(Boolean));
      const name = box.kind === "node" ? `${data.nodes[box.node].name}, ${data.nodes[box.node].op}` : `module ${box.module.path}, ${box.kind}`;
      say(name);
    } else if (picked !== null) {
      at("details").replaceChildren(...details.group(picked, inGroup[picked]).flat().filter(Boolean));
      say(`group ${data.groups[picked].name}`);
    } else {
      at("details").replaceChildren(at("help").content.cloneNode(true));
    }
    at("details").scrollTop = 0;
  }

  /** Pick a group, or none. */
  function pick(group) {
    picked = group;
    selected = null;
    sliders.pressed(group);
    const [first] = mark();
    if (first) view.centre(first);
    describe();
  }

  /** Show a node (its position) or a module, opening what it is in. */
  function reveal(part) {
    const id = typeof part === "number" ? `node:${part}` : part.id;
    if (typeof part === "number" && !tree.parents.has(part)) showSizes(true);
    if (!boxes.has(id)) {
      const next = new Set(open);
      for (const module of hierarchy.around(tree, part)) next.add(module.id);
      if (!setOpen(next)) return;
    }
    select(id);
    view.centre(id);
  }

  // ---------------------------------------------------------------- opening and closing

  function toggle(id) {
    const box = boxes.get(id);
    if (!box || box.kind === "node") return;
    const next = new Set(open);
    if (box.kind === "open") next.delete(id);
    else next.add(id);
    selected = id;
    setOpen(next, id);
    describe();
  }

  function openAll(id) {
    const next = new Set(open).add(id);
    const inside = (module) => module.parts.filter((p) => typeof p !== "number").forEach((m) => { next.add(m.id); inside(m); });
    inside(id ? tree.modules.get(id) : tree.root);
    selected = id || selected;
    setOpen(next, id || undefined);
    describe();
  }

  function openGroup(group) {
    const next = new Set(open);
    for (const node of inGroup[group]) for (const module of hierarchy.around(tree, node)) next.add(module.id);
    if (!setOpen(next)) return;
    const first = inGroup[group].find((node) => boxes.has(`node:${node}`));
    if (first !== undefined) view.centre(`node:${first}`);
  }

  function openLevel() {
    const next = new Set(open);
    for (const box of boxes.values()) if (box.kind === "closed") next.add(box.id);
    setOpen(next);
  }

  function showSizes(shown) {
    at("sizes").checked = shown;
    tree = hierarchy.build(data, shown ? undefined : hierarchy.carriesTensor);
    entries = search.index(data, tree);
    draw();
  }

  // ---------------------------------------------------------------- hovering

  function hover(id, event) {
    const tip = at("tip");
    tip.hidden = !boxes.has(id);
    if (tip.hidden) return;
    tip.replaceChildren(...details.brief(boxes.get(id)));
    const { clientX = 0, clientY = 0 } = event ?? {};
    tip.style.left = `${Math.min(clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  }

  // ---------------------------------------------------------------- search

  function refind() {
    const { found, total } = search.find(entries, at("search").value);
    at("found").replaceChildren(
      ...found.map((entry) => make("li", {}, make("button", { type: "button", className: "link", onclick: () => take(entry) },
        entry.label, make("span", { className: "quiet" }, ` ${entry.kind}`)))),
    );
    const more = total > found.length ? `, the first ${found.length} shown` : "";
    at("hits").textContent = at("search").value.trim() ? `${format.counted(total, "match").replace("matchs", "matches")}${more}` : "";
  }

  function take(entry) {
    if (typeof entry.target === "object" && "group" in entry.target) pick(entry.target.group);
    else reveal(entry.target);
  }

  at("search").addEventListener("input", refind);
  at("search").addEventListener("keydown", (event) => {
    const first = at("found").querySelector("button");
    if (event.key === "Enter" && first) first.click();
    else if (event.key === "ArrowDown" && first) first.focus();
    else if (event.key === "Escape") { at("search").value = ""; refind(); }
    else return;
    event.preventDefault();
  });
  at("found").addEventListener("keydown", (event) => {
    const item = event.target.closest("li");
    const next = event.key === "ArrowDown" ? item?.nextSibling : event.key === "ArrowUp" ? item?.previousSibling : undefined;
    if (next === undefined) return;
    event.preventDefault();
    (next?.firstChild ?? at("search")).focus();
  });

  // ---------------------------------------------------------------- keyboard and buttons

  at("graph").addEventListener("keydown", (event) => {
    const { key, shiftKey } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key.startsWith("Arrow") && shiftKey) {
      const step = { ArrowUp: [0, 60], ArrowDown: [0, -60], ArrowLeft: [60, 0], ArrowRight: [-60, 0] }[key];
      view.pan(...step);
    } else if (key.startsWith("Arrow")) {
      const next = view.beside(selected, key);
      if (next) { select(next); view.centre(next); }
    } else if (key === "Enter" || key === " ") toggle(selected);
    else if (key === "Escape") { if (selected === null) pick(null); else select(null); }
    else if (key === "Backspace" && selected) up();
    else if (key === "+" || key === "=") view.zoom(1.25);
    else if (key === "-") view.zoom(0.8);
    else if (key === "0") view.fit();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) return;
    event.preventDefault();
    at("search").focus();
  });

  /** Select the open module around the selected box. */
  function up() {
    const box = boxes.get(selected);
    const parent = hierarchy.around(tree, box.kind === "node" ? box.node : box.module)[0];
    if (parent) select(parent.id);
  }

  const buttons = {
    level: openLevel, every: () => openAll(""), close: () => setOpen(new Set()), fit: view.fit,
    closer: () => view.zoom(1.25), farther: () => view.zoom(0.8),
  };
  for (const [id, run] of Object.entries(buttons)) at(id).addEventListener("click", run);
  at("sizes").addEventListener("change", () => showSizes(at("sizes").checked));

  const pinned = data.groups.map((group, g) => [group, g]).filter(([group]) => !group.prunable);
  at("pinned-count").textContent = format.counted(pinned.length, "group");
  at("pinned").hidden = !pinned.length;
  at("pinned").addEventListener("toggle", () => {
    if (at("pinned-groups").childElementCount) return;
    at("pinned-groups").append(...pinned.map(([group, g]) => make("li", { title: group.reason },
      make("button", { type: "button", className: "link", onclick: () => pick(g) }, details.swatch(g), group.name))));
  });

  draw();
  describe();
  // For scripts that look at the page from outside.
  globalThis.atofx.page = {
    data, counts: sliders.counts, select, toggle, reveal, pick, size: view.size, where: view.where,
    selected: () => selected, picked: () => picked,
  };
})();
