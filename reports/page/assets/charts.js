// The interactive charts. Each is a form of choices and a place to draw; the still figures beside it
// are what paper shows, and all that there is where a browser cannot unpack the library.
{
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
  // Names come from a results folder: none may be markup or a template of plotly's.
  const plain = (text) => String(text).replace(/[&<>{$]/g, (c) => `&#${c.charCodeAt(0)};`);
  const sizes = (list, key) => list.map((one) => one[key]);

  // Colour and symbol tell heads apart; with several runs, line and filling tell the runs apart.
  const dressed = (look, run, runs) => ({
    ink: colour(`head-${look.colour}`),
    symbol: runs.length > 1 ? look.symbol.replace("-open", "") + ["", "-open"][run % 2] : look.symbol,
    dash: runs.length > 1 ? ["solid", "dash", "dot", "dashdot"][run % 4] : look.dash,
  });
  const bars = (values) => ({
    type: "data",
    symmetric: false,
    array: values.map((one) => one.high - one.estimate),
    arrayminus: values.map((one) => one.estimate - one.low),
    thickness: 1.2,
    width: 3,
  });
  const named = (head, run, runs) =>
    plain(head) + (runs.length > 1 ? ` in ${plain(run.label)}` : "");

  // Logarithmic: labels at powers of ten, or at 1, 2 and 5 where there are hardly any.
  const scale = (asked, values) => {
    if (asked.scale === "linear") return { type: "linear", rangemode: "tozero" };
    const positive = values.flat().filter((value) => value > 0);
    const decades = Math.log10(Math.max(...positive) / Math.min(...positive));
    return { type: "log", dtick: decades > 1 ? 1 : "D2", minor: { ticks: "outside", ticklen: 3, dtick: "D1" } };
  };

  // Plotly's own ticks are decimal; those of an axis of bytes are powers of two, as in the tables, or
  // their multiples where an axis is linear or little of it is in view.
  const byteTicks = ({ type, range }) => {
    const [low, high] = type === "log" ? range.map((exponent) => 10 ** exponent) : range;
    const every = (first, step, last) =>
      Array.from({ length: Math.floor(last / step) - Math.ceil(first / step) + 1 },
        (_, index) => (Math.ceil(first / step) + index) * step);
    const octaves = [Math.ceil(Math.log2(low)), Math.floor(Math.log2(high))];
    const steps = octaves[1] - octaves[0];
    const tickvals = type === "log" && steps > 2
      ? every(octaves[0], [1, 2, 5].find((step) => steps <= 8 * step) ?? 10, octaves[1])
        .map((exponent) => 2 ** exponent)
      : every(Math.max(0, low), Math.max(1, 2 ** Math.ceil(Math.log2((high - low) / 8))), high);
    return { "yaxis.tickvals": tickvals, "yaxis.ticktext": tickvals.map(inBytes) };
  };
  const inBytes = (value) => {
    const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
    return `${Number((value / 1024 ** power).toPrecision(4))} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  };

  /** One line of points per head and run, from cells that were measured alike. */
  const lines = (data, asked, key, hover) =>
    data.runs.flatMap((run, index) =>
      asked.runs.has(String(index)) ? [...asked.heads].map((head) => {
        const cells = run.cells
          .filter((cell) => cell.head === head && cell.phase === asked.phase && cell.replica === 0
            && String(cell.batch) === asked.batch && cell[key] !== null
            && Object.entries(run.setting).every(([name, value]) => cell[name] === value
              || (name === "state" && cell.phase !== "predict")))
          .sort((a, b) => a.classes - b.classes);
        const { ink, symbol, dash } = dressed(data.looks[head], index, data.runs);
        return {
          run, head, index, dash,
          x: sizes(cells, "classes"),
          y: sizes(cells, key),
          cells,
          name: named(head, run, data.runs),
          mode: "lines+markers",
          marker: { color: ink, symbol, size: 8, line: { color: ink, width: 1.5 } },
          line: { color: ink, dash, width: 1.2 },
          hovertemplate: `<b>${named(head, run, data.runs)}</b><br>%{x:,} classes: ${hover}<extra></extra>`,
        };
      }).filter((line) => line.x.length) : []);

  const time = (data, asked) => {
    const drawn = lines(data, asked, "seconds_estimate",
      "%{y:.3s}s [%{customdata[0]:.3s}s, %{customdata[1]:.3s}s]<br>%{customdata[2]} samples in %{customdata[3]} passes");
    for (const line of drawn) {
      line.customdata = line.cells.map((c) => [c.seconds_low, c.seconds_high, c.rounds, c.passes]);
      line.error_y = {
        ...bars(line.cells.map((c) => ({ low: c.seconds_low ?? c.seconds_estimate,
          estimate: c.seconds_estimate, high: c.seconds_high ?? c.seconds_estimate }))),
        color: line.marker.color,
      };
    }
    const here = (one) => asked.heads.has(one.head) && one.phase === asked.phase
      && String(one.batch) === asked.batch;
    const curves = drawn.flatMap((line) =>
      line.run.curves.filter((one) => here(one) && one.head === line.head).map((curve) => {
        line.mode = "markers";
        line.hovertemplate = line.hovertemplate.replace("<extra>", `<br>fit: ${curve.model}<extra>`);
        return {
          x: curve.classes, y: curve.seconds, mode: "lines", hoverinfo: "skip",
          line: { color: line.marker.color, dash: line.dash, width: 1.8 },
        };
      }));
    const crossings = drawn.flatMap((line) =>
      line.run.crossovers.filter((one) => here(one) && one.head === line.head).map((one) => ({
        x: [one.classes.estimate], y: [one.seconds], mode: "markers",
        error_x: { ...bars([one.classes]), color: line.marker.color },
        marker: { color: line.marker.color, symbol: "circle-open", size: 17, line: { color: line.marker.color, width: 2 } },
        customdata: [[one.classes.low, one.classes.high]],
        hovertemplate: `<b>${line.name}</b> overtakes ${plain(one.over)} at<br>`
          + "%{x:,.0f} [%{customdata[0]:,.0f}, %{customdata[1]:,.0f}] classes<extra></extra>",
      })));
    return {
      traces: [...curves, ...drawn, ...crossings],
      x: { title: { text: "classes" }, tickformat: "~s", ...scale(asked, sizes(drawn, "x")) },
      y: { title: { text: "seconds per batch" }, tickformat: "~s", ticksuffix: "s", ...scale(asked, sizes(drawn, "y")) },
    };
  };

  const memory = (data, asked) => {
    const traces = lines(data, asked, asked.part, "%{y:,} bytes");
    return {
      traces,
      x: { title: { text: "classes" }, tickformat: "~s", ...scale(asked, sizes(traces, "x")) },
      y: { title: { text: "bytes", standoff: 8 }, type: asked.scale, ...(asked.scale === "linear" && { rangemode: "tozero" }) },
      ticks: byteTicks,
    };
  };

  const accuracy = (data, asked) => {
    const traces = data.runs.flatMap((run, index) => {
      if (!asked.runs.has(String(index))) return [];
      const rows = run.trained.filter((row) => asked.heads.has(row.variant) && row.costs[asked.cost]);
      const points = rows.map((row) => {
        const { ink, symbol } = dressed(data.looks[row.variant], index, data.runs);
        const cost = row.costs[asked.cost];
        return {
          x: [cost.estimate], y: [row.accuracy.estimate], mode: "markers",
          error_x: { ...bars([cost]), color: ink },
          error_y: { ...bars([row.accuracy]), color: ink },
          marker: { color: ink, symbol, size: 11, line: { color: ink, width: 1.5 } },
          customdata: [[cost.low, cost.high, row.accuracy.low, row.accuracy.high]],
          hovertemplate: `<b>${named(row.variant, run, data.runs)}</b>`
            + (row.front.includes(asked.cost) ? " (on the front)" : "")
            + "<br>%{y:.1%} [%{customdata[2]:.1%}, %{customdata[3]:.1%}]"
            + "<br>%{x:.3s}s [%{customdata[0]:.3s}s, %{customdata[1]:.3s}s]"
            + `<br>epochs: ${row.epochs}, seeds: ${row.seeds}<extra></extra>`,
        };
      });
      const seeds = asked.cost === "training" ? rows.filter((row) => row.seeds > 1).map((row) => ({
        x: row.each_seed.map(([seconds]) => seconds), y: row.each_seed.map(([, share]) => share),
        mode: "markers", hoverinfo: "skip",
        marker: { color: colour(`head-${data.looks[row.variant].colour}`), size: 4, opacity: 0.7 },
      })) : [];
      const best = rows.filter((row) => row.front.includes(asked.cost))
        .sort((a, b) => a.costs[asked.cost].estimate - b.costs[asked.cost].estimate);
      const front = {
        x: best.map((row) => row.costs[asked.cost].estimate),
        y: best.map((row) => row.accuracy.estimate),
        mode: "lines", hoverinfo: "skip",
        line: { shape: "hv", color: colour("soft"), width: 1, dash: "dot" },
      };
      return [front, ...seeds, ...points];
    });
    return {
      traces,
      x: { title: { text: "time" }, tickformat: "~s", ticksuffix: "s",
        ...scale(asked, traces.map((one) => one.x)) },
      y: { title: { text: "test accuracy" }, tickformat: ".0%", rangemode: "tozero" },
    };
  };

  const kinds = { time, memory, accuracy };

  const draw = async (chart) => {
    const [Plotly, data] = await Promise.all([library(), measured()]);
    const choices = new FormData(chart.querySelector("form"));
    const asked = {
      ...Object.fromEntries(choices),
      heads: new Set(choices.getAll("heads")),
      runs: new Set(choices.has("runs") || data.runs.length > 1 ? choices.getAll("runs") : ["0"]),
    };
    const { traces, x, y, ticks } = kinds[chart.dataset.chart](data, asked);
    const axis = { gridcolor: colour("grid"), linecolor: colour("ink"), zeroline: false,
      showline: true, ticks: "outside", automargin: true, exponentformat: "SI" };
    const layout = {
      font: { family: "system-ui, sans-serif", size: 13, color: colour("ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 10, r: 14, t: 12, b: 10 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: colour("sheet"), bordercolor: colour("soft"), font: { color: colour("ink") }, align: "left" },
      xaxis: { ...axis, ...x },
      yaxis: { ...axis, ...y },
      uirevision: JSON.stringify([asked.scale, asked.phase, asked.batch, asked.part, asked.cost]),
      ...(traces.length === 0 && { annotations: [{ text: "Nothing was measured for this choice.", showarrow: false }] }),
    };
    const place = chart.querySelector(".place");
    await Plotly.react(place, traces, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: matchMedia("(hover: hover)").matches,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: chart.dataset.chart },
    });
    if (ticks) {
      const retick = () => Plotly.relayout(place, ticks(place.layout.yaxis));
      place.removeAllListeners("plotly_relayout");
      place.on("plotly_relayout", (changed) => "yaxis.tickvals" in changed || retick());
      await retick();
    }
    const chosen = [...chart.querySelectorAll("select")].map((one) => one.selectedOptions[0].text);
    place.setAttribute("aria-label", `${place.dataset.label}: ${chosen.join(", ")}`);
    place.dataset.drawn = "yes";
  };

  // Where the library cannot be unpacked, the charts stay hidden and the still figures open.
  if ("DecompressionStream" in window) {
    const charts = [...document.querySelectorAll("[data-chart]")];
    const near = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(target);
        target.querySelector("form").addEventListener("change", () => draw(target));
        target.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(target));
      }
    }, { rootMargin: "600px" });
    for (const chart of charts) {
      chart.hidden = false;
      near.observe(chart);
      chart.querySelector("[data-all]")?.addEventListener("click", () => {
        const boxes = [...chart.querySelectorAll("input[name=heads]")];
        const on = !boxes.every((box) => box.checked);
        for (const box of boxes) box.checked = on;
        chart.querySelector("form").dispatchEvent(new Event("change"));
      });
    }
    for (const still of document.querySelectorAll("details.still")) still.open = false;
  }
}
