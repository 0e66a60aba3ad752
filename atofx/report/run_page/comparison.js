/* Several runs side by side. */
(() => {
  "use strict";

  const { exact, percent, quantity } = globalThis.atofx.format;
  const { section, table } = globalThis.atofx.figure;
  const { lines, scatter } = globalThis.atofx.charts;
  // Okabe and Ito's colours that are told apart on light and on dark ground
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross"];

  const { runs } = JSON.parse(document.getElementById("data").textContent);
  const methods = [...new Set(runs.map((run) => run.method))];
  const colourOf = (run) => COLOURS[methods.indexOf(run.method) % COLOURS.length];
  const share = (value) => `${value.toFixed(2)} %`;
  const { scores, words } = runs[0].result; // all runs are of one task
  const [main] = scores;
  const compact = (run) => run.result.scores[0].compact;

  function outcomes() {
    const rows = [
      ["run", "method", "model", "data", "seed", ...scores.map((score) => score.title), "FLOPs", "kept", "parameters", "latency", "times faster"],
      ...runs.map(({ result, ...run }) => [
        run.name, run.method, run.model, run.data, run.seed, ...result.scores.map((score) => share(score.compact)), quantity(result.flops_compact), percent(result.flops_compact, result.flops_dense),
        exact(result.params_compact), `${result.latency_compact_ms.toFixed(2)} ms`, result.speedup.toFixed(2),
      ]),
    ];
    return section("outcome", "Outcome of every run", { note: `${scores.map((score) => score.title).join(" and ")} of the compact model on the ${words.tested}.`, content: [table(rows)], wide: true });
  }

  function tradeoff() {
    const points = runs.map((run) => ({
      x: run.result.flops_compact / run.result.flops_dense, y: compact(run), name: run.name,
      colour: colourOf(run), symbol: SYMBOLS[methods.indexOf(run.method) % SYMBOLS.length],
    }));
    const legend = methods.map((method, index) => ["box", COLOURS[index % COLOURS.length], method]);
    const rows = [["run", "method", "FLOPs kept", main.title], ...runs.map((run, index) => [run.name, run.method, percent(points[index].x, 1), share(points[index].y)])];
    return section("tradeoff", "Accuracy against FLOPs", { legend, drawing: scatter(points, { x: "FLOPs kept, %", y: `${main.title}, %` }), rows, wide: true });
  }

  function curves() {
    const tested = runs.map((run) => run.epochs.filter((row) => row[main.name] !== undefined || row[`masked_${main.name}`] !== undefined));
    const series = tested.map((rows, index) => ({ points: rows.map((row) => [row.epoch, row[`masked_${main.name}`] ?? row[main.name]]), colour: colourOf(runs[index]), dashed: methods.indexOf(runs[index].method) !== runs.findIndex((run) => run.method === runs[index].method) }));
    const rows = [["run", "epoch", main.title], ...series.flatMap((one, index) => one.points.map(([epoch, value]) => [runs[index].name, epoch, share(value)]))];
    const legend = methods.map((method, index) => ["line", COLOURS[index % COLOURS.length], method]);
    return section("curves", "Test accuracy over training", { note: "With dropped units at zero from when the mask is frozen.", legend, drawing: lines(series, { label: `${main.title}, %` }), rows, wide: true });
  }

  document.getElementById("report").append(outcomes(), tradeoff(), curves());
})();
