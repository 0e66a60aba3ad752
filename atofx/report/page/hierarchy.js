/* The module hierarchy of a graph, and the graph that is seen when some of its modules are open. No drawing here. */
(() => {
  "use strict";

  /** Which nodes carry a tensor; the others are sizes, modes and the arithmetic on them. */
  function carriesTensor(node) {
    return Boolean(node.shapes) || node.op === "output";
  }

  /**
   * A tree of modules: {id, path, parts, leaves}; a part is a module or the position of a node.
   * A module with a single part is left out: its part stands for it.
   */
  function build(data, wanted = () => true) {
    const root = { id: "", path: "", parts: [], leaves: [] };
    const modules = new Map([["", root]]);
    const moduleAt = (path) => {
      const known = modules.get(path);
      if (known) return known;
      const module = { id: `module:${path}`, path, parts: [], leaves: [] };
      modules.set(path, module);
      moduleAt(path.slice(0, Math.max(0, path.lastIndexOf(".")))).parts.push(module);
      return module;
    };
    data.nodes.forEach((node, index) => {
      if (wanted(node)) moduleAt(node.module ?? "").parts.push(index);
    });
    settle(root);
    const parents = new Map();
    link(root, parents);
    return { root, modules: new Map([...parents.keys()].filter((p) => typeof p !== "number").map((m) => [m.id, m])), parents };
  }

  /** Replace modules of one part by that part, and collect what each module holds. */
  function settle(module) {
    module.parts = module.parts.map((part) => (typeof part === "number" ? part : settle(part)));
    module.leaves = module.parts.flatMap((part) => (typeof part === "number" ? [part] : part.leaves));
    return module.parts.length === 1 && module.path ? module.parts[0] : module;
  }

  function link(module, parents) {
    for (const part of module.parts) {
      parents.set(part, module);
      if (typeof part !== "number") link(part, parents);
    }
  }

  /** What is seen: {boxes, edges}; a box is a node, a closed module or an open one that holds others. */
  function visible(data, tree, open) {
    const boxes = [];
    const shownAs = new Map();
    const visit = (module, parent) => {
      for (const part of module.parts) {
        if (typeof part === "number") {
          boxes.push({ id: `node:${part}`, kind: "node", node: part, parent });
          shownAs.set(part, `node:${part}`);
        } else if (open.has(part.id)) {
          boxes.push({ id: part.id, kind: "open", module: part, parent });
          visit(part, part.id);
        } else {
          boxes.push({ id: part.id, kind: "closed", module: part, parent });
          for (const leaf of part.leaves) shownAs.set(leaf, part.id);
        }
      }
    };
    visit(tree.root, undefined);
    return { boxes, edges: edgesBetween(data, shownAs) };
  }

  function edgesBetween(data, shownAs) {
    const found = new Map();
    for (const [source, target] of data.edges) {
      const from = shownAs.get(source);
      const to = shownAs.get(target);
      if (from === undefined || to === undefined || from === to) continue;
      const key = `${from}>${to}`;
      if (!found.has(key)) found.set(key, { id: `edge:${key}`, source: from, target: to, sources: new Set() });
      found.get(key).sources.add(source);
    }
    return [...found.values()];
  }

  /** Modules to open at first: whole levels, as long as no more than `most` boxes are seen. */
  function opening(data, tree, most = 40) {
    let open = new Set();
    for (;;) {
      const next = new Set(open);
      for (const box of visible(data, tree, open).boxes) if (box.kind === "closed") next.add(box.id);
      if (next.size === open.size || visible(data, tree, next).boxes.length > most) return open;
      open = next;
    }
  }

  /** The modules around a node or module, innermost first. */
  function around(tree, part) {
    const found = [];
    for (let m = tree.parents.get(part); m && m.path; m = tree.parents.get(m)) found.push(m);
    return found;
  }

  (globalThis.atofx ??= {}).hierarchy = { build, visible, opening, around, carriesTensor };
})();
