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
  const terms = (n, batch, d, usual) => {
    const path = Math.log2(n), beyond = (size) => known.knots.map((knot) => Math.max(0, size - knot));
    return [1, path, n * d, ...beyond(n * d), ...[usual, d].flatMap((width) =>
      [width, width * path, n * width, ...beyond(n * width)].map((term) => batch * term))];
  };
  const octaves = (value, [low, high]) =>
    Math.max(0, Math.log2(low / value), Math.log2(value / high));
  const outside = (law, { classes, batch, features }) => {
    const beyond = octaves(features, [law.widths[0], law.widths.at(-1)]);
    const nearest = Math.min(...law.widths.map((width) => Math.abs(Math.log2(features / width))));
    return [octaves(classes, law.classes), octaves(batch, law.batches), beyond,
      beyond ? 0 : nearest];
  };
  const correction = (law, { classes, batch, features }) => {
    const width = Math.min(Math.max(features, law.widths[0]), law.widths.at(-1));
    const place = [classes, batch, width].map(Math.log2);
    return law.sites.reduce((total, site, i) => {
      const far = site.reduce((sum, x, axis) =>
        sum + Math.abs(place[axis] - x) / known.reaches[axis], 0);
      return total + law.corrections[i] * Math.exp(-far);
    }, 0);
  };
  const at = (law, asked) => {
    const columns = terms(asked.classes, asked.batch, asked.features, law.features);
    const scale = Math.exp(correction(law, asked));
    const ends = law.coefficients.map((each) =>
      scale * columns.reduce((total, term, i) => total + term * each[i], 0));
    const miss = outside(law, asked).reduce((total, far, axis) =>
      total + law.growth[axis] * far, law.radius);
    return {
      low: Math.min(...ends) * Math.exp(-miss),
      estimate: Math.sqrt(ends[0] * ends.at(-1)),
      high: Math.max(...ends) * Math.exp(miss),
    };
  };
  const refuses = (law, asked) => {
    const [low, high] = law.batches;
    if (low === high && asked.batch !== low) {
      return `only batch ${low} was measured, which cannot tell of another`;
    }
    const far = outside(law, asked);
    const name = known.ranges.find((_, axis) => far[axis] > known.farthest);
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
  const extrapolated = (law, asked) => {
    const far = outside(law, asked);
    return known.ranges.filter((_, axis) => far[axis] > 0);
  };

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
