/* The drawing: boxes and edges as cytoscape elements. */
(() => {
  "use strict";

  const CHARACTER = 6.7; // width at the font size below
  const FONT = 12;
  const PLANES = { edge: 1000, node: 2000 }; // open modules lie below, by depth

  function create(container, data, handlers) {
    const { colours, format, layout } = globalThis.atofx;
    const dark = globalThis.matchMedia("(prefers-color-scheme: dark)");
    const scheme = () => (dark.matches ? "dark" : "light");
    const still = globalThis.matchMedia("(prefers-reduced-motion: reduce)");

    const cy = globalThis.cytoscape({
      container,
      elements: [],
      layout: { name: "preset" },
      style: sheet(),
      minZoom: 0.02,
      maxZoom: 3,
      autoungrabify: true,
      boxSelectionEnabled: false,
      selectionType: "single",
      textureOnViewport: false,
      hideEdgesOnViewport: false,
    });

    function sheet() {
      const css = getComputedStyle(document.documentElement);
      const of = (name) => css.getPropertyValue(name).trim();
      return [
        {
          selector: "node",
          style: {
            shape: "round-rectangle",
            label: "data(label)",
            "text-wrap": "wrap",
            "text-valign": "center",
            "text-halign": "center",
            "font-size": FONT,
            "font-family": "system-ui, sans-serif",
            color: of("--text"),
            "background-color": of("--surface"),
            "border-width": 1.5,
            "border-color": of("--line"),
            "min-zoomed-font-size": 5,
            "z-index-compare": "manual",
            "z-index": PLANES.node,
          },
        },
        { selector: "node[width]", style: { width: "data(width)", height: "data(height)" } },
        { selector: "node[fill]", style: { "background-color": "data(fill)" } },
        {
          selector: "node[stops]",
          style: {
            "background-fill": "linear-gradient",
            "background-gradient-direction": "to-right",
            "background-gradient-stop-colors": "data(stops)",
            "background-gradient-stop-positions": "data(positions)",
          },
        },
        { selector: "node.whole", style: { "border-style": "dashed" } },
        { selector: "node.closed", style: { "border-style": "double", "border-width": 5 } },
        {
          selector: "node.open",
          style: {
            "background-color": of("--text"),
            "background-opacity": 0.04,
            "text-valign": "top",
            "text-margin-y": FONT + 8,
            "text-margin-x": "data(shift)",
            "font-weight": 600,
            "border-width": 1,
            "z-index": "data(depth)",
          },
        },
        {
          selector: "edge",
          style: {
            width: 1.5,
            "line-color": of("--line"),
            "target-arrow-color": of("--line"),
            "target-arrow-shape": "triangle",
            "arrow-scale": 0.8,
            "curve-style": "straight",
            "z-index-compare": "manual",
            "z-index": PLANES.edge,
            label: "data(label)",
            "font-size": 10,
            "font-family": "system-ui, sans-serif",
            color: of("--quiet"),
            "text-background-color": of("--ground"),
            "text-background-opacity": 0.85,
            "text-background-padding": 1,
            "min-zoomed-font-size": 7,
          },
        },
        {
          selector: "edge[weights]",
          style: {
            "curve-style": "round-segments",
            "segment-weights": "data(weights)",
            "segment-distances": "data(distances)",
            "segment-radii": 12,
            "edge-distances": "node-position",
          },
        },
        { selector: ".faded", style: { opacity: 0.22 } },
        { selector: "node.picked", style: { "border-width": 3, "border-color": of("--text") } },
        {
          selector: "node.selected",
          style: { "border-width": 4, "border-style": "solid", "border-color": of("--accent") },
        },
        { selector: "edge.near", style: { width: 3, "line-color": of("--accent"), "target-arrow-color": of("--accent") } },
        { selector: "core", style: { "active-bg-size": 0, "selection-box-opacity": 0 } },
      ];
    }

    // ---------------------------------------------------------------- elements

    function numbers(groups) {
      const shown = groups.filter((g) => data.groups[g].prunable).map((g) => `#${g + 1}`);
      return shown.slice(0, 3).join(" ") + (shown.length > 3 ? " …" : "");
    }

    function sized(lines) {
      const width = Math.max(...lines.map((line) => line.length)) * CHARACTER + 22;
      return { label: lines.join("\n"), width: Math.max(60, width), height: lines.length * FONT * 1.25 + 14 };
    }

    function fills(groups) {
      const prunable = groups.filter((g) => data.groups[g].prunable).slice(0, 6);
      if (!prunable.length) return groups.length ? { fill: colours.fill(data.palette, groups[0], false, scheme()) } : {};
      const parts = prunable.map((g) => colours.fill(data.palette, g, true, scheme()));
      if (parts.length === 1) return { fill: parts[0] };
      const edge = (i) => `${(100 * i) / parts.length}%`;
      return {
        stops: parts.flatMap((part) => [part, part]).join(" "),
        positions: parts.flatMap((_, i) => [edge(i), edge(i + 1)]).join(" "),
      };
    }

    function groupsOf(leaves) {
      return [...new Set(leaves.flatMap((leaf) => data.nodes[leaf].groups ?? []))].sort((a, b) => a - b);
    }

    const short = (name, parent) =>
      parent && name.startsWith(`${parent}.`) ? name.slice(parent.length + 1) : name;

    /** What a box looks like: data without place, and class. */
    function face(box) {
      if (box.kind === "node") {
        const node = data.nodes[box.node];
        const groups = node.groups ?? [];
        const second = [node.op, numbers(groups)].filter(Boolean).join("  ");
        const lines = node.name === node.op ? [second] : [short(node.name, node.module), second];
        const whole = groups.length && !groups.some((g) => data.groups[g].prunable);
        return { ...sized(lines), ...fills(groups), classes: whole ? "whole" : "" };
      }
      const { path, leaves } = box.module;
      const name = short(path, box.parent?.slice("module:".length));
      if (box.kind === "open") {
        const label = `${name} ▾`;
        const width = 2 * label.length * CHARACTER + 90; // the name beside an edge through the middle, with its label
        return { label, width, depth: path.split(".").length, classes: "open" };
      }
      const lines = [`${name} ▸`, format.counted(leaves.length, "operation")];
      return { ...sized(lines), ...fills(groupsOf(leaves)), classes: "closed" };
    }

    function node(box, look, { x, y, width, height }) {
      const { classes, ...rest } = look;
      if (box.kind === "open") rest.shift = Math.min(0, (rest.label.length * CHARACTER + 20 - width) / 2); // to the left
      return { group: "nodes", data: { id: box.id, ...rest, width, height }, position: { x, y }, classes };
    }

    function edge({ id, source, target, sources }, { boxes, edges }) {
      const label = format.shapes([...sources].flatMap((s) => data.nodes[s].shapes ?? []));
      const bent = relative(edges.get(id), boxes.get(source), boxes.get(target));
      return { group: "edges", data: { id, source, target, label, ...bent } };
    }

    /** Points as cytoscape wants them: how far along the line between the ends, and how far from it. */
    function relative(points, from, to) {
      const [dx, dy] = [to.x - from.x, to.y - from.y];
      const square = dx * dx + dy * dy;
      if (!points.length || square < 1) return {};
      const length = Math.sqrt(square);
      return {
        weights: points.map((p) => ((p.x - from.x) * dx + (p.y - from.y) * dy) / square).join(" "),
        distances: points.map((p) => ((p.y - from.y) * dx - (p.x - from.x) * dy) / length).join(" "),
      };
    }

    // ---------------------------------------------------------------- what is shown

    /** Draw a graph; `anchor` keeps its place on the screen, without one the drawing is fitted. */
    function show(graph, anchor) {
      const before = anchor && place(anchor);
      const looks = new Map(graph.boxes.map((box) => [box.id, face(box)]));
      const places = layout.place(globalThis.dagre, graph, ({ id }) => {
        const { width, height } = looks.get(id);
        return { width, height };
      });
      cy.batch(() => {
        cy.elements().remove();
        cy.add([
          ...graph.boxes.map((box) => node(box, looks.get(box.id), places.boxes.get(box.id))),
          ...graph.edges.map((it) => edge(it, places)),
        ]);
      });
      const after = before && place(anchor);
      if (after) cy.panBy({ x: before.x - after.x, y: before.y - after.y });
      else fit();
    }

    function place(id) {
      const found = cy.getElementById(id);
      if (found.empty()) return undefined;
      const box = found.renderedBoundingBox({ includeLabels: false });
      return { x: (box.x1 + box.x2) / 2, y: box.y1 };
    }

    /** All of it if that can be read, else the top at a size that can. */
    function fit() {
      cy.fit(undefined, 24);
      if (cy.zoom() > 1.2) {
        cy.zoom(1.2);
        cy.center();
      }
      if (cy.zoom() >= 0.55 || cy.elements().empty()) return;
      cy.zoom(0.75);
      cy.center();
      const box = cy.elements().renderedBoundingBox();
      const first = cy.nodes().filter((n) => n.incomers("edge").empty() && !n.hasClass("open")).first();
      const start = first.nonempty() ? first.renderedPosition("x") : (box.x1 + box.x2) / 2;
      cy.panBy({ x: cy.width() / 2 - start, y: 24 - box.y1 });
    }

    function centre(id) {
      const found = cy.getElementById(id);
      if (found.empty()) return;
      const zoom = Math.max(cy.zoom(), 0.75);
      const box = found.boundingBox({ includeLabels: false });
      const x = (box.x1 + box.x2) / 2;
      const y = found.hasClass("open") ? box.y1 : (box.y1 + box.y2) / 2;
      const pan = { x: cy.width() / 2 - x * zoom, y: cy.height() / (found.hasClass("open") ? 5 : 2) - y * zoom };
      if (still.matches) cy.viewport({ zoom, pan });
      else cy.animate({ zoom, pan }, { duration: 180 });
    }

    /** Mark the selected box, and the boxes that go with the picked group (null: none is picked). */
    function mark(selected, picked) {
      cy.batch(() => {
        cy.elements().removeClass("selected near picked faded");
        if (picked) {
          cy.nodes().forEach((n) => {
            if (n.hasClass("open")) return;
            n.addClass(picked.has(n.id()) ? "picked" : "faded");
          });
          cy.edges().forEach((e) => {
            if (!picked.has(e.source().id()) || !picked.has(e.target().id())) e.addClass("faded");
          });
        }
        if (selected) {
          const found = cy.getElementById(selected).removeClass("faded").addClass("selected");
          found.connectedEdges().removeClass("faded").addClass("near");
        }
      });
    }

    // ---------------------------------------------------------------- moving along

    /** The box that an arrow key leads to from a box: along an edge, or beside it. */
    function beside(id, key) {
      const from = cy.getElementById(id);
      if (from.empty()) return cy.nodes().filter((n) => !n.hasClass("open")).first().id();
      const { x, y } = from.position();
      const nearest = (nodes) => nodes.sort((a, b) => distance(a, x, y) - distance(b, x, y)).first().id();
      if (key === "ArrowDown") return nearest(from.hasClass("open") ? within(from) : from.outgoers("node"));
      if (key === "ArrowUp") return nearest(from.incomers("node"));
      const side = key === "ArrowLeft" ? -1 : 1;
      return nearest(cy.nodes().filter((n) => leaf(n) && (n.position("x") - x) * side > 1 && Math.abs(n.position("y") - y) < 60));
    }

    const within = (module) => {
      const { x1, x2, y1, y2 } = module.boundingBox({ includeLabels: false });
      const holds = ({ x, y }) => x > x1 && x < x2 && y > y1 && y < y2;
      return cy.nodes().filter((n) => leaf(n) && holds(n.position()));
    };
    const leaf = (n) => !n.hasClass("open");
    const distance = (n, x, y) => Math.abs(n.position("x") - x) + Math.abs(n.position("y") - y);

    cy.on("tap", (event) => {
      if (event.target === cy) handlers.select(null);
      else if (event.target.isNode()) handlers.select(event.target.id());
    });
    cy.on("dbltap", "node", (event) => handlers.toggle(event.target.id()));
    cy.on("mouseover", "node", (event) => handlers.hover(event.target.id(), event.originalEvent));
    cy.on("mouseout", "node", () => handlers.hover(null));
    cy.on("pan zoom", () => handlers.hover(null));
    new ResizeObserver(() => cy.resize()).observe(container);
    dark.addEventListener("change", () => {
      cy.style(sheet());
      handlers.recolour();
    });

    return {
      show,
      fit,
      centre,
      mark,
      beside,
      zoom: (factor) => cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } }),
      pan: (x, y) => cy.panBy({ x, y }),
      size: () => ({ boxes: cy.nodes().length, edges: cy.edges().length }),
      where: (id) => cy.getElementById(id).renderedPosition(),
    };
  }

  (globalThis.atofx ??= {}).view = { create };
})();
