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
  const { words, scores } = result;
  const share = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(2)} %`);
  const ms = (value) => `${value.toFixed(2)} ms`;
  const has = (name) => epochs.filter((row) => row[name] !== undefined);
  const points = (name) => has(name).map((row) => [row.epoch, row[name]]);

  function outcome() {
    const rows = [
      ["", ...scores.map((score) => `${score.title} on the ${words.tested}`), "FLOPs", "parameters", `latency, batch ${result.latency_batch}`],
      ["dense", ...scores.map((score) => share(score.dense)), quantity(result.flops_dense), exact(result.params_dense), ms(result.latency_dense_ms)],
      ["masked", ...scores.map((score) => share(score.masked)), quantity(result.flops_dense), exact(result.params_dense), ms(result.latency_dense_ms)],
      [
        "compact",
        ...scores.map((score) => share(score.compact)),
        `${quantity(result.flops_compact)} (${percent(result.flops_compact, result.flops_dense)})`,
        `${exact(result.params_compact)} (${percent(result.params_compact, result.params_dense)})`,
        `${ms(result.latency_compact_ms)} (${result.speedup.toFixed(2)} times faster)`,
      ],
    ];
    return section("outcome", "Outcome", { content: [table(rows)], wide: true });
  }

  function accuracy() {
    const [main] = scores; // of the task
    const masked = (score) => `masked_${score.name}`;
    const legend = [["line dashed", BEFORE, `training ${words.samples}`]];
    const series = [{ points: points("accuracy"), colour: BEFORE, dashed: true }];
    if (has(main.name).length) {
      series.push({ points: points(main.name), colour: OTHER });
      legend.push(["line", OTHER, `${words.tested}, plain network`]);
    }
    if (has(masked(main)).length) {
      series.push({ points: points(masked(main)), colour: AFTER });
      legend.push(["line", AFTER, `${words.tested}, dropped units at zero`]);
    }
    const rules = [];
    if (main.dense !== null && run.method !== "none") {
      rules.push({ y: main.dense, colour: OTHER });
      legend.push(["line dashed", OTHER, `dense baseline, ${share(main.dense)}`]);
    }
    const title = (text, score) => (scores.length > 1 ? `${text}, ${score.title}` : text);
    const rows = [
      ["epoch", "training", ...scores.flatMap((score) => [title("test, plain", score), title("test, masked", score)])],
      ...epochs.map((row) => [row.epoch, share(row.accuracy), ...scores.flatMap((score) => [share(row[score.name]), share(row[masked(score)])])]),
    ];
    return section("accuracy", "Accuracy over training", { legend, drawing: lines(series, { label: `${main.title}, %`, rules }), rows });
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
    const note = `One forward pass of ${result.latency_batch} ${words.samples} where the run was made, in eager mode, in turn; the line reaches from the first to the third quartile.`;
    return section("latency", "Latency", { note, drawing: times(both, "milliseconds"), rows });
  }

  function verification() {
    const found = result.verification;
    const list = [
      ["largest relative error", `${found.error.toExponential(1)} (float64, allowed ${found.tolerance.toExponential(0)})`],
      ["FLOPs predicted, counted", `${exact(found.flops_predicted)}, ${exact(found.flops_counted)}`],
      ["parameters predicted, counted", `${exact(found.params_predicted)}, ${exact(found.params_counted)}`],
      [`same ${words.answer} on the ${words.tested}`, `${result.agreement.toFixed(0)} %`],
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
