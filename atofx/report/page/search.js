/* Finding nodes, modules, parameters and groups by a part of their name. */
(() => {
  "use strict";

  /** Everything that has a name: {kind, label, text, target}. */
  function index(data, tree) {
    const entries = [];
    for (const module of tree.modules.values()) entries.push({ kind: "module", label: module.path, target: module });
    data.nodes.forEach((node, i) => entries.push({ kind: node.op, label: node.name, target: i }));
    data.groups.forEach((group, i) => entries.push({ kind: "group", label: group.name, target: { group: i } }));
    const reader = new Map();
    data.nodes.forEach((node, i) => (node.tensors ?? []).forEach((t) => reader.has(t) || reader.set(t, i)));
    for (const [tensor, node] of reader) {
      const { name, parameter } = data.tensors[tensor];
      if (data.nodes[node].name !== name) entries.push({ kind: parameter ? "parameter" : "buffer", label: name, target: node });
    }
    return entries.map((entry) => ({ ...entry, text: entry.label.toLowerCase() }));
  }

  /** Entries that contain the query; whole names first, then beginnings, then the shorter ones. */
  function find(entries, query, most = 60) {
    const wanted = query.trim().toLowerCase();
    if (!wanted) return { found: [], total: 0 };
    const rank = (text) => (text === wanted ? 0 : text.startsWith(wanted) ? 1 : 2);
    const all = entries.filter((entry) => entry.text.includes(wanted));
    all.sort((a, b) => rank(a.text) - rank(b.text) || a.text.length - b.text.length);
    return { found: all.slice(0, most), total: all.length };
  }

  (globalThis.atofx ??= {}).search = { index, find };
})();
