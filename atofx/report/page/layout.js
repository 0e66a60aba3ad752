/* Where boxes stand and how edges run. Every open module is laid out by dagre by itself, from the inside out, and is then
   one box for the module around it: modules never overlap, and the time grows with the largest of them, not with all.
   An edge that crosses modules is led through each: to its lower end (OUT), along the module around, from an upper end (IN). */
(() => {
  "use strict";

  const [IN, OUT] = ["\u0000in", "\u0000out"];
  const PADDING = 16;
  const HEADER = 20; // room for the name of an open module

  /**
   * Places for a graph of `hierarchy.visible`.
   * `sizeOf` gives the width and height of a box, of an open one the least width.
   * The result: boxes: Map id -> {x, y, width, height}, centres; edges: Map id -> the points an edge bends at.
   */
  function place(dagre, graph, sizeOf) {
    const parts = new Map([["", []]]);
    const parentOf = new Map();
    for (const box of graph.boxes) {
      if (box.kind === "open") parts.set(box.id, []);
      parts.get(box.parent ?? "").push(box);
      parentOf.set(box.id, box.parent ?? "");
    }
    const links = new Map([...parts.keys()].map((id) => [id, new Map()]));
    const routes = graph.edges.map((edge) => route(edge, parentOf));
    for (const steps of routes) for (const step of steps) links.get(step.module).set(key(step), step);

    const laid = new Map();
    const boxes = new Map();
    const offsets = new Map();
    inside(dagre, { id: "" }, parts, links, laid, sizeOf);
    settle("", 0, 0, parts, laid, boxes, offsets);
    const edges = new Map(graph.edges.map((edge, i) => [edge.id, routes[i].flatMap((step) => bends(step, laid, offsets))]));
    return { boxes, edges };
  }

  const key = ({ from, to }) => `${from}>${to}`;

  /** The steps of an edge, one for each open module it runs through. */
  function route({ source, target }, parentOf) {
    const up = chain(source, parentOf);
    const down = chain(target, parentOf);
    while (up.length > 1 && down.length > 1 && up.at(-2).module === down.at(-2).module) {
      up.pop();
      down.pop();
    }
    const steps = up.slice(0, -1).map(({ module, child }) => ({ module, from: child, to: OUT }));
    steps.push({ module: up.at(-1).module, from: up.at(-1).child, to: down.at(-1).child });
    return steps.concat(down.slice(0, -1).reverse().map(({ module, child }) => ({ module, from: IN, to: child })));
  }

  /** The modules a box is in, innermost first, each with the part of it that holds the box. */
  function chain(id, parentOf) {
    const found = [];
    for (let child = id; child !== ""; child = parentOf.get(child)) found.push({ module: parentOf.get(child), child });
    return found;
  }

  function inside(dagre, module, parts, links, laid, sizeOf) {
    const { id } = module;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 28, edgesep: 16, ranksep: 44, marginx: PADDING, marginy: PADDING });
    for (const box of parts.get(id)) {
      if (box.kind === "open") inside(dagre, box, parts, links, laid, sizeOf);
      graph.setNode(box.id, box.kind === "open" ? { ...laid.get(box.id).size } : sizeOf(box));
    }
    for (const { from, to } of links.get(id).values()) {
      for (const end of [from, to]) if (end === IN || end === OUT) graph.setNode(end, { width: 1, height: 1 });
      graph.setEdge(from, to, {});
    }
    if (graph.nodeCount()) dagre.layout(graph);
    const { width = 0, height = 0 } = graph.graph();
    const spare = id ? Math.max(0, sizeOf(module).width - width) : 0;
    laid.set(id, { graph, spare, size: { width: width + spare, height: height + (id ? HEADER : 0) } });
  }

  /** Absolute places, from the outside in; (left, top) is the corner of a module. */
  function settle(id, left, top, parts, laid, boxes, offsets) {
    const { graph, spare } = laid.get(id);
    const offset = { x: left + spare / 2, y: top + (id ? HEADER : 0) };
    offsets.set(id, offset);
    for (const box of parts.get(id)) {
      const { x, y, width, height } = graph.node(box.id);
      boxes.set(box.id, { x: x + offset.x, y: y + offset.y, width, height });
      if (box.kind === "open") settle(box.id, x + offset.x - width / 2, y + offset.y - height / 2, parts, laid, boxes, offsets);
    }
  }

  function bends({ module, from, to }, laid, offsets) {
    const { points = [] } = laid.get(module).graph.edge(from, to) ?? {};
    const { x, y } = offsets.get(module);
    return points.slice(1, -1).map((point) => ({ x: point.x + x, y: point.y + y }));
  }

  (globalThis.atofx ??= {}).layout = { place };
})();
