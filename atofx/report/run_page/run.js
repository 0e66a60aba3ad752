/* The report of one run. */
(() => {
  "use strict";

  const { make } = globalThis.atofx.dom;
  const { exact, percent, quantity } = globalThis.atofx.format;
  const { section, table } = globalThis.atofx.figure;
  const { AFTER, BEFORE, OTHER, bars, heatMap, lines, times } = globalThis.atofx.charts;

  const LEAST = 0.002; // share of the FLOPs from which a layer is drawn

  const run = JSON.parse(document.getElementById("data").textContent).runs[0];
  const { result, epochs, groups, masks } = run;
  const top1 = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(2)} %`);
  const ms = (value) => `${value.toFixed(2)} ms`;
  const has = (name) => epochs.filter((row) => row[name] !== undefined);
  const points = (name) => has(name).map((row) => [row.epoch, row[name]]);

  function outcome() {
    const rows = [
      ["", "top-1 on the test images", "FLOPs", "parameters", `latency, batch ${result.latency_batch}`],
      ["dense", top1(result.dense_top1), quantity(result.flops_dense), exact(result.params_dense), ms(result.latency_dense_ms)],
      ["masked", top1(result.masked_top1), quantity(result.flops_dense), exact(result.params_dense), ms(result.latency_dense_ms)],
      [
        "compact",
        top1(result.compact_top1),
        `${quantity(result.flops_compact)} (${percent(result.flops_compact, result.flops_dense)})`,
        `${exact(result.params_compact)} (${percent(result.params_compact, result.params_dense)})`,
        `${ms(result.latency_compact_ms)} (${result.speedup.toFixed(2)} times faster)`,
      ],
    ];
    return section("outcome", "Outcome", { content: [table(rows)], wide: true });
  }

  function accuracy() {
    const legend = [["line dashed", BEFORE, "training images"]];
    const series = [{ points: points("accuracy"), colour: BEFORE, dashed: true }];
    if (has("top1").length) {
      series.push({ points: points("top1"), colour: OTHER });
      legend.push(["line", OTHER, "test images, plain network"]);
    }
    if (has("masked_top1").length) {
      series.push({ points: points("masked_top1"), colour: AFTER });
      legend.push(["line", AFTER, "test images, dropped units at zero"]);
    }
    const rules = [];
    if (result.dense_top1 !== null && run.method !== "none") {
      rules.push({ y: result.dense_top1, colour: OTHER });
      legend.push(["line dashed", OTHER, `dense baseline, ${top1(result.dense_top1)}`]);
    }
    const rows = [["epoch", "training", "test, plain", "test, masked"], ...epochs.map((row) => [row.epoch, top1(row.accuracy), top1(row.top1), top1(row.masked_top1)])];
    return section("accuracy", "Accuracy over training", { legend, drawing: lines(series, { label: "top-1, %", rules }), rows });
  }

  function flops() {
    const rows = [["epoch", "FLOPs kept"], ...has("flops").map((row) => [row.epoch, percent(row.flops, 1)])];
    const legend = [["line", AFTER, "kept by the mask in force"], ["line dashed", OTHER, `target, ${percent(result.flops_target, 1)}`]];
    const drawing = lines([{ points: points("flops"), colour: AFTER }], { label: "FLOPs kept, %", percent: true, rules: [{ y: result.flops_target, colour: OTHER }] });
    return section("flops", "FLOPs over training", { legend, drawing, rows });
  }

  function widths() {
    const rows = [["group", "units before", "after", "kept"], ...groups.map((group) => [group.name, group.units, group.kept, percent(group.kept, group.units)])];
    const drawing = bars(groups.map((group) => ({ name: group.name, before: group.units, after: group.kept })), { label: "units" });
    return section("widths", "Width of every group", { legend: [["box", BEFORE, "before"], ["box", AFTER, "after"]], drawing, rows });
  }

  function evolution() {
    const names = groups.map((group) => group.name);
    const rows = [["epoch", ...names], ...masks.epochs.map((epoch, index) => [epoch, ...masks.kept[index].map((share) => percent(share, 1))])];
    const note = "Share of every group that the mask in force at the end of an epoch keeps: dark is dropped, bright is kept.";
    return section("evolution", "Mask over training", { note, drawing: heatMap(names, masks.epochs, masks.kept), rows });
  }

  function layers() {
    const part = (count) => count / result.flops_dense;
    const large = result.layers.filter((layer) => part(layer.dense) >= LEAST);
    const drawn = large.map((layer) => ({ name: layer.name, before: part(layer.dense), after: part(layer.compact) }));
    const rows = [
      ["layer", "operation", "FLOPs before", "after", "share before", "share after"],
      ...result.layers.map((layer) => [layer.name, layer.op, exact(layer.dense), exact(layer.compact), percent(layer.dense, result.flops_dense), percent(layer.compact, result.flops_compact)]),
    ];
    const left = result.layers.length - large.length;
    const note = `In percent of the dense model's FLOPs.${left ? ` ${left} layers of less than ${percent(LEAST, 1)} each are in the table only.` : ""}`;
    return section("layers", "FLOPs of every layer", { note, legend: [["box", BEFORE, "before"], ["box", AFTER, "after"]], drawing: bars(drawn, { label: "FLOPs, %", percent: true, width: 1140 }), rows, wide: true });
  }

  function latency() {
    const row = (name, median, quartiles, colour) => ({ name, lower: quartiles[0], median, upper: quartiles[1], colour });
    const both = [
      row("dense", result.latency_dense_ms, result.latency_dense_quartiles_ms, BEFORE),
      row("compact", result.latency_compact_ms, result.latency_compact_quartiles_ms, AFTER),
    ];
    const rows = [["", "first quartile", "median", "third quartile"], ...both.map((one) => [one.name, ms(one.lower), ms(one.median), ms(one.upper)])];
    const note = `One forward pass of ${result.latency_batch} images where the run was made, in eager mode, in turn; the line reaches from the first to the third quartile.`;
    return section("latency", "Latency", { note, drawing: times(both, "milliseconds"), rows });
  }

  function verification() {
    const found = result.verification;
    const list = [
      ["largest relative error", `${found.error.toExponential(1)} (float64, allowed ${found.tolerance.toExponential(0)})`],
      ["FLOPs predicted, counted", `${exact(found.flops_predicted)}, ${exact(found.flops_counted)}`],
      ["parameters predicted, counted", `${exact(found.params_predicted)}, ${exact(found.params_counted)}`],
      ["same class on the test images", `${result.agreement.toFixed(0)} %`],
    ];
    const content = [
      make("p", { className: "verdict" }, found.ok ? "✓ The compact model computes what the masked one computes." : "✗ The compact model and the masked one disagree."),
      make("dl", {}, list.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])),
    ];
    return section("verification", "Verification", { content });
  }

  const configuration = () => section("configuration", "Configuration", { content: [make("details", {}, make("summary", {}, "config.yaml"), make("pre", { tabIndex: 0 }, run.config))], wide: true });

  document.getElementById("report").append(
    ...[
      outcome(),
      accuracy(),
      has("flops").length ? flops() : null,
      groups.length ? widths() : null,
      groups.length && masks.epochs.length ? evolution() : null,
      result.latency_dense_quartiles_ms ? latency() : null,
      result.verification ? verification() : null,
      result.layers?.length ? layers() : null,
      configuration(),
    ].filter((part) => part !== null),
  );
})();
