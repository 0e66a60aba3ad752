/* What is known of a node, a module or a group, as elements. */
(() => {
  "use strict";

  const MOST = 200; // entries of a list; what does not fit is counted

  function create(data, actions) {
    const { dom: { make }, format, colours } = globalThis.atofx;

    const pairs = (rows) =>
      make("dl", {}, rows.filter(([, value]) => value !== null).map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]).flat());
    const swatch = (g) => {
      const mark = make("span", { className: "swatch" });
      mark.style.background = colours.strong(data.palette, g, data.groups[g].prunable);
      return mark;
    };
    const groupButton = (g) =>
      make("button", { type: "button", className: "link", onclick: () => actions.pick(g) }, swatch(g),
        data.groups[g].prunable ? `#${g + 1} ${data.groups[g].name}` : `${data.groups[g].name} (kept whole)`);
    const nodeButton = (n) =>
      make("button", { type: "button", className: "link", onclick: () => actions.reveal(n) }, data.nodes[n].name,
        make("span", { className: "quiet" }, ` ${data.nodes[n].op}`));
    const flops = (value) => `${format.quantity(value)} (${format.exact(value)} multiply-adds, counted once)`;
    const params = (value) => `${format.quantity(value)} (${format.exact(value)})`;

    function list(title, items, render) {
      if (!items.length) return null;
      const rows = items.slice(0, MOST).map((item) => make("li", {}, render(item)));
      if (items.length > MOST) rows.push(make("li", { className: "quiet" }, `and ${items.length - MOST} more`));
      return [make("h3", {}, title), make("ul", {}, rows)];
    }

    function axis({ dim, role, group, held }, shape) {
      const word = role === "producer" ? "producer, set to zero with a unit" : "consumer, only cut";
      return make("li", {}, `dim ${dim}: ${word}; ${held} of ${shape[dim]} in `, groupButton(group));
    }

    function tensor(index) {
      const { name, shape, parameter, axes } = data.tensors[index];
      const kind = parameter ? "parameter" : "buffer";
      return [
        make("code", {}, name),
        make("span", { className: "quiet" }, ` ${kind}, ${format.shape(shape)}`),
        axes.length ? make("ul", {}, axes.slice(0, MOST).map((a) => axis(a, shape))) : null,
      ].filter(Boolean);
    }

    function paramsOf(leaves) {
      const tensors = new Set(leaves.flatMap((leaf) => data.nodes[leaf].tensors ?? []));
      return [...tensors].reduce((sum, t) => {
        const { shape, parameter } = data.tensors[t];
        return sum + (parameter ? shape.reduce((a, b) => a * b, 1) : 0);
      }, 0);
    }

    function node(index) {
      const it = data.nodes[index];
      const from = data.edges.filter(([, t]) => t === index).map(([s]) => s);
      const to = data.edges.filter(([s]) => s === index).map(([, t]) => t);
      return [
        make("h2", {}, it.name),
        pairs([
          ["operation", it.op],
          ["in module", it.module ? make("code", {}, it.module) : "the model itself"],
          ["result", it.shapes ? format.shapes(it.shapes, 8) : "no tensor"],
          ["FLOPs", flops(it.flops ?? 0)],
          ["parameters", params(it.params ?? 0)],
          ["source", it.source ? make("code", {}, it.source) : null],
        ]),
        list("Groups of its channels", it.groups ?? [], groupButton),
        list("Kept whole", it.pins ?? [], (reason) => reason),
        list("Parameters and buffers", it.tensors ?? [], tensor),
        list("Reads", from, nodeButton),
        list("Read by", to, nodeButton),
      ];
    }

    function module({ path, id, leaves, parts }, open) {
      const groups = [...new Set(leaves.flatMap((leaf) => data.nodes[leaf].groups ?? []))].sort((a, b) => a - b);
      const sum = leaves.reduce((total, leaf) => total + (data.nodes[leaf].flops ?? 0), 0);
      return [
        make("h2", {}, path),
        make("p", {}, make("button", { type: "button", onclick: () => actions.toggle(id) }, open ? "Close" : "Open"),
          open ? null : make("button", { type: "button", onclick: () => actions.openAll(id) }, "Open with all inside")),
        pairs([
          ["module of", format.counted(leaves.length, "operation")],
          ["FLOPs", flops(sum)],
          ["parameters", params(paramsOf(leaves))],
        ]),
        list("Groups inside", groups.filter((g) => data.groups[g].prunable), groupButton),
        list("Parts", parts, (part) =>
          typeof part === "number"
            ? nodeButton(part)
            : make("button", { type: "button", className: "link", onclick: () => actions.reveal(part) }, `${part.path} ▸`)),
      ];
    }

    function group(g, nodes) {
      const it = data.groups[g];
      const rows = (role) => it.members.filter((member) => member.role === role);
      const member = ({ tensor: name, dim }) => make("code", {}, `${name}[${dim}]`);
      return [
        make("h2", {}, swatch(g), it.prunable ? `#${g + 1} ${it.name}` : it.name),
        make("p", {}, "Units of this group are kept or dropped together with everything listed here. ",
          make("button", { type: "button", onclick: () => actions.pick(null) }, "Back to all groups")),
        pairs([
          ["units", format.exact(it.size)],
          ["channels", format.exact(it.channels)],
          ["kept whole", it.reason ?? null],
        ]),
        make("p", {}, make("button", { type: "button", onclick: () => actions.openGroup(g) }, "Open the modules it is in")),
        list("Producers: set to zero with a unit", rows("producer"), member),
        list("Consumers: only cut", rows("consumer"), member),
        list("Operations", nodes, nodeButton),
      ];
    }

    /** One or two lines for the box under the pointer. */
    function brief(box) {
      if (box.kind !== "node") {
        return [make("strong", {}, box.module.path), make("div", {}, format.counted(box.module.leaves.length, "operation")),
          make("div", {}, `${format.quantity(paramsOf(box.module.leaves))} parameters`)];
      }
      const it = data.nodes[box.node];
      const groups = (it.groups ?? []).filter((g) => data.groups[g].prunable).map((g) => `#${g + 1} ${data.groups[g].name}`);
      const axes = (it.tensors ?? []).flatMap((t) => data.tensors[t].axes.map((a) =>
        `${data.tensors[t].name}[${a.dim}] ${a.role}`));
      return [
        make("strong", {}, it.name),
        make("div", {}, [it.op, it.shapes && format.shapes(it.shapes)].filter(Boolean).join(" · ")),
        make("div", {}, `${format.quantity(it.flops ?? 0)} FLOPs (multiply-adds), ${format.quantity(it.params ?? 0)} parameters`),
        groups.length ? make("div", {}, groups.slice(0, 4).join(", ")) : null,
        axes.length ? make("div", {}, axes.slice(0, 4).join(", ") + (axes.length > 4 ? ", …" : "")) : null,
        it.pins ? make("div", {}, `kept whole: ${it.pins[0]}`) : null,
        it.source ? make("div", { className: "quiet" }, it.source) : null,
      ].filter(Boolean);
    }

    return { node, module, group, brief, swatch };
  }

  (globalThis.atofx ??= {}).details = { create };
})();
