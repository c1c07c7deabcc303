// Answers as `python -m reports.advise` does, from the same fitted laws.
for (const form of document.querySelectorAll("form[data-adviser]")) {
  const known = JSON.parse(form.dataset.adviser);
  const answer = document.getElementById("adviser-answer");
  const table = document.getElementById("adviser-table");
  const names = new Map([...table.tBodies[0].rows].map((row) => [row.dataset.head, row.cells[0]]));

  const digits = (value) => {
    if (value === 0) return "0";
    // Of what is left when rounded: 9.996 reads 10.0.
    const decimals = 2 - Number(value.toExponential(2).split("e")[1]);
    const places = Math.max(0, decimals);
    const rounded = decimals < 0 ? Math.round(value * 10 ** decimals) / 10 ** decimals : value;
    return rounded.toLocaleString("en-US", {
      minimumFractionDigits: places, maximumFractionDigits: places,
    });
  };
  const fitting = (value, units) =>
    units.find(([scale]) => Math.abs(value) >= 0.9995 * scale) ?? units.at(-1);
  const scaled = (value, units) => {
    const [scale, unit] = fitting(value, units);
    return `${digits(value / scale)} ${unit}`;
  };
  const bytes = (value) =>
    Math.round(value) < 1024 ? `${value.toFixed(0)} B` : scaled(value, known.units.bytes);
  const share = (value) => `${(100 * value).toFixed(1)}\u00a0%`;

  // The law, term by term as in reports/stats/cost_model.py.
  const terms = (n, batch, d, row, score) => {
    const path = Math.log2(n), weights = n * d, products = n * score;
    return [1, batch * row, path, batch * row * path, weights, batch * products,
      ...known.knots.flatMap((knot) =>
        [Math.max(0, weights - knot), batch * Math.max(0, products - knot)])];
  };
  const sum = (law, n, batch, d, row, score) => {
    const cost = terms(n, batch, d, row, score)
      .reduce((total, term, i) => total + term * law.coefficients[i], 0);
    const correction = law.sites.reduce((total, [x, y], i) => {
      const far = Math.abs(Math.log2(n) - x) + Math.abs(Math.log2(batch) - y);
      return total + law.corrections[i] * Math.exp(-far / known.reach);
    }, 0);
    return cost * Math.exp(correction);
  };
  const octaves = (value, [low, high]) =>
    Math.max(0, Math.log2(low / value), Math.log2(value / high));
  const at = (law, { classes, batch, features }) => {
    const narrow = law.features, wide = features;
    const widths = law.products ? [[narrow, narrow], [wide, wide]] : [[wide, narrow]];
    const ends = widths.map(([row, score]) => sum(law, classes, batch, features, row, score));
    const wider = law.products ? Math.abs(Math.log2(features / law.features)) : 0;
    const miss = law.radius + law.growth[0] * (octaves(classes, law.classes) + wider)
      + law.growth[1] * octaves(batch, law.batches);
    return {
      low: Math.min(...ends) * Math.exp(-miss),
      estimate: Math.sqrt(ends[0] * ends.at(-1)),
      high: Math.max(...ends) * Math.exp(miss),
    };
  };
  const refuses = (law, { classes, batch, features }) => {
    const [low, high] = law.batches;
    if (low === high && batch !== low) {
      return `only batch ${low} was measured, which cannot tell of another`;
    }
    const far = { classes: octaves(classes, law.classes), batch: octaves(batch, law.batches),
      features: Math.abs(Math.log2(features / law.features)) };
    const [name] = Object.entries(far).find(([, beyond]) => beyond > known.farthest) ?? [];
    return name ? `${name} more than ${2 ** known.farthest} times outside what was measured` : "";
  };
  const refused = (asked) => {
    const reasons = new Map();
    for (const [head, costs] of Object.entries(known.phases[asked.phase])) {
      const why = refuses(costs.time, asked);
      if (why) reasons.set(why, [...reasons.get(why) ?? [], head]);
    }
    return [...reasons].map(([why, heads]) => `Not predicted: ${heads.join(", ")} (${why}).`);
  };
  const extrapolated = (law, { classes, batch, features }) => [
    octaves(classes, law.classes) > 0 && "classes",
    octaves(batch, law.batches) > 0 && "batch",
    features !== law.features && "features",
  ].filter(Boolean);

  const fits = (memory, limit) => {
    if (limit === null) return "yes";
    if (!memory || (memory.low <= limit && limit < memory.high)) return "perhaps";
    return memory.high <= limit ? "yes" : "no";
  };
  const tooClose = (best, other) =>
    Math.log(other.estimate / best.estimate)
      <= Math.hypot(Math.log(best.high / best.estimate), Math.log(other.estimate / other.low));
  const recommend = (asked, rows) => {
    if (!rows.length) return refused(asked);
    const sure = rows.filter((row) => row.fits === "yes");
    const [best, ...others] = sure.length ? sure : rows.filter((row) => row.fits === "perhaps");
    if (!best) {
      const leanest = rows.reduce((a, b) => (b.memory.estimate < a.memory.estimate ? b : a));
      return [`No head fits into ${bytes(asked.memory)}: the leanest, ${leanest.head}, `
        + `needs about ${bytes(leanest.memory.estimate)}.`, ...refused(asked)];
    }
    const limit = asked.memory === null ? ""
      : ` that ${best.fits === "yes" ? "fits" : "may fit"} into ${bytes(asked.memory)}`;
    const said = [`${best.head}: predicted to be the fastest${limit}.`];
    const rivals = others.filter((row) => tooClose(best.seconds, row.seconds));
    if (rivals.length) {
      said.push(`Too close to tell apart from it: ${rivals.map((row) => row.head).join(", ")}.`);
    }
    if (best.extrapolated.length) {
      const beyond = best.extrapolated.join(" and ");
      said.push(`Extrapolated: ${beyond} outside what was measured.`);
    }
    const own = known.accuracy[best.head], softmax = known.accuracy.softmax;
    if (own === undefined) {
      said.push(`This run did not train ${best.head}: what it does to accuracy is left open.`);
    } else {
      const beside = best.head !== "softmax" && softmax !== undefined
        ? `; of softmax: ${share(softmax)}` : "";
      said.push(`Test accuracy of ${best.head} in this run: ${share(own)}${beside}.`);
    }
    return [...said, ...refused(asked)];
  };

  const show = (asked) => {
    const laws = Object.entries(known.phases[asked.phase]);
    const rows = laws.filter(([, costs]) => !refuses(costs.time, asked)).map(([head, costs]) => {
      const memory = costs.memory && at(costs.memory, asked);
      return { head, seconds: at(costs.time, asked), memory, fits: fits(memory, asked.memory),
        extrapolated: extrapolated(costs.time, asked) };
    }).sort((a, b) => a.seconds.estimate - b.seconds.estimate);
    const { classes, batch, features } = asked;
    table.caption.textContent = [`Fastest first: ${classes.toLocaleString("en-US")} classes`,
      `batch ${batch.toLocaleString("en-US")}`, `${features.toLocaleString("en-US")} features`,
    ].join(", ");
    answer.replaceChildren(...recommend(asked, rows).map((said) => {
      const item = document.createElement("li");
      item.textContent = said;
      return item;
    }));
    const filled = (value, units) => {
      const cell = document.createElement("td");
      cell.className = "number";
      if (!value) {
        cell.textContent = "—";
        return cell;
      }
      const [scale] = fitting(value.estimate, units);
      const interval = document.createElement("span");
      interval.className = "unit";
      interval.textContent = `[${digits(value.low / scale)}, ${digits(value.high / scale)}]`;
      cell.append(scaled(value.estimate, units), interval);
      for (const end of ["low", "estimate", "high"]) cell.dataset[end] = value[end];
      return cell;
    };
    table.tBodies[0].replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      const name = names.get(row.head)?.cloneNode(true) ?? document.createElement("th");
      name.scope = "row";
      name.textContent ||= row.head;
      const told = [asked.memory === null ? "" : row.fits, row.extrapolated.join(", ")];
      line.dataset.head = row.head;
      line.append(name, filled(row.seconds, known.units.seconds),
        filled(row.memory, known.units.bytes), ...told.map((text) => {
          const cell = document.createElement("td");
          cell.textContent = text;
          return cell;
        }));
      return line;
    }));
  };

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    if (!form.checkValidity()) return;
    const field = (name) => Number(form.elements[name].value);
    const limit = form.elements.memory.value === "" ? null
      : Math.round(field("memory") * field("unit"));
    show({ classes: field("classes"), batch: field("batch"), features: field("features"),
      phase: form.elements.phase.value, memory: limit });
  });
}
