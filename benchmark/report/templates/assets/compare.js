"use strict";
// Two backbones side by side. Variances are added up here; what half width follows from them stands in a table that LOBE computed.
(() => {
  const form = document.querySelector("[data-compare]"), section = document.querySelector("[data-compared]");
  if (!form) return;
  const { el, view } = lobe;
  const [tableChoice, first, second] = ["[data-table-choice]", "[data-first]", "[data-second]"].map(name => form.querySelector(name));
  const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values => { const m = mean(values); return values.reduce((a, b) => a + (b - m) ** 2, 0) / (values.length - 1); };

  // Variance of the difference over runs, and its degrees of freedom; rounded down where they are no whole number, which errs wide.
  function ofRuns(a, b) {
    const drawn = [a, b].filter(one => one.seeds);
    if (drawn.some(one => one.runs.length < 2)) return null;
    if (drawn.length === 2 && a.seeds === b.seeds) return { v: variance(a.runs.map((x, i) => x - b.runs[i])) / a.runs.length, f: a.runs.length - 1, says: "runs paired by seed" };
    const parts = drawn.map(one => [variance(one.runs) / one.runs.length, one.runs.length - 1]);
    const v = parts.reduce((sum, [one]) => sum + one, 0), spread = parts.reduce((sum, [one, f]) => sum + one * one / f, 0);
    return { v, f: spread > 0 ? Math.max(1, Math.floor(v * v / spread)) : 1, says: drawn.length ? "independent runs" : "" };
  }
  function ofPatients(a, b, i, j) {
    const shared = a.with?.[j];
    if (shared == null || b.with?.[j] == null) return null;
    return { v: Math.max(0, a.with[i] + b.with[j] - 2 * shared), f: a.clusters - 1, says: `${a.clusters} test ${a.patients ? "patients" : "images"}` };
  }
  function halfWidth(table, runs, patients) {
    if (!runs) return null;
    const v = runs.v + (patients?.v ?? 0);
    if (!v) return runs.says || patients ? 0 : null;
    const key = patients ? `${runs.f},${patients.f}` : Object.keys(table).find(name => name.startsWith(`${runs.f},`));
    const nodes = table[key];
    if (!nodes) return null;
    const at = patients ? Math.asin(Math.sqrt(runs.v / v)) / (Math.PI / 2) * (nodes.length - 1) : nodes.length - 1;
    const low = Math.min(nodes.length - 2, Math.floor(at));
    return Math.sqrt(v) * (nodes[low] + (at - low) * (nodes[low + 1] - nodes[low]));
  }

  const digits = half => half == null ? 1 : half < 0.1 ? 2 : half < 3.55 ? 1 : 0;
  const signed = (value, half) => {
    const n = digits(half), text = value.toFixed(n);
    return `${text.startsWith("-") ? "" : "+"}${text === "-0" ? "0" : text}${half == null ? "" : ` ± ${half.toFixed(n)}`}`;
  };

  function headline(table, pairs, a, b) {
    const at = [a, b].map(name => table.headlines.findIndex(([label]) => label === name));
    if (at.includes(-1)) return table.headlines.length ? `No headline of ${[a, b].filter((_, i) => at[i] < 0).join(" and ")}.` : table.sentence;
    const [x, y] = at.map(i => table.headlines[i]), p = pairs.p[at[0]]?.[at[1]], half = pairs.half_widths[at[0]]?.[at[1]];
    const effect = x[1] - y[1], verdict = p <= 0.05 ? (effect > 0 ? "higher" : "lower") : "not told apart";
    const said = p == null ? "" : `; p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`} after Holm's correction over all pairs: ${verdict}`;
    return `Headline ${effect < 0 ? "" : "+"}${effect.toFixed(2)}${half == null ? "" : ` ± ${half.toFixed(2)}`}${said}. Ranks ${x[2]} and ${y[2]}.`;
  }

  function differences(table, index, a, b, i, j) {
    return table.columns.map((column, n) => {
      if (!a[n] || !b[n]) return { column, a: a[n], b: b[n] };
      const runs = ofRuns(a[n], b[n]), patients = ofPatients(a[n], b[n], i, j);
      const covers = runs ? [runs.says, patients?.says].filter(Boolean).join(", ") || "nothing is drawn" : "no interval: one run";
      return { column, a: a[n], b: b[n], value: a[n].mean - b[n].mean, half: halfWidth(index.half_widths, runs, patients), covers };
    });
  }

  function figure(found) {
    const panels = new Map();
    for (const one of found.filter(d => d.value !== undefined)) panels.set(one.column.metric, [...(panels.get(one.column.metric) ?? []), one]);
    const rows = [...panels.values()].flat().length, height = rows * 26 + panels.size * 62, layout = { height: height + 30, margin: { l: 20, r: 20, t: 10, b: 20 }, annotations: [], showlegend: false };
    const data = [];
    let top = 1 - 25 / height, n = 0;
    for (const [metric, members] of panels) {
      n += 1;
      const suffix = n > 1 ? String(n) : "", bottom = top - (members.length * 26) / height;
      layout[`xaxis${suffix}`] = { anchor: `y${suffix}`, zeroline: true, zerolinewidth: 2, rangemode: "tozero" };
      layout[`yaxis${suffix}`] = { anchor: `x${suffix}`, domain: [Math.max(0, bottom), top], tickmode: "array", automargin: true, tickvals: members.map((_, k) => k), ticktext: members.map(m => escaped(m.column.task)), range: [members.length - 0.5, -0.5] };
      layout.annotations.push({ text: `<b>${escaped(metric)}, points</b>`, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false });
      data.push({ type: "scatter", mode: "markers", x: members.map(m => m.value), y: members.map((_, k) => k), xaxis: `x${suffix}`, yaxis: `y${suffix}`,
        error_x: { type: "data", array: members.map(m => m.half ?? 0), thickness: 1.6, width: 5, color: "#0072B2" }, marker: { color: "#0072B2", size: 9 },
        hovertext: members.map(m => `${escaped(m.column.task)}<br>${signed(m.value, m.half)}`), hoverinfo: "text" });
      top = bottom - 62 / height;
    }
    return { data, layout };
  }
  const escaped = text => text.replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  async function show() {
    const index = await lobe.load("compare/index"), table = index.tables[tableChoice.value];
    const [i, j] = [first, second].map(one => table.backbones.findIndex(([, name]) => name === one.value));
    if (i < 0 || j < 0) return;
    const [[labelA, nameA, pageA], [labelB, nameB, pageB]] = [table.backbones[i], table.backbones[j]];
    const folder = `compare/${tableChoice.value}`;
    const [a, b, pairs] = await Promise.all([lobe.load(`${folder}/${nameA}`), lobe.load(`${folder}/${nameB}`), lobe.load(`${folder}/pairs`)]);
    const found = differences(table, index, a, b, i, j);
    section.querySelector("[data-compared-title]").replaceChildren(el("a", { href: pageA }, labelA), " minus ", el("a", { href: pageB }, labelB));
    section.querySelector("[data-headline]").textContent = headline(table, pairs, labelA, labelB);
    section.querySelector("[data-first-name]").textContent = labelA;
    section.querySelector("[data-second-name]").textContent = labelB;
    section.querySelector("tbody").replaceChildren(...found.map(one => el("tr", {},
      el("th", { scope: "row" }, el("a", { href: one.column.page }, one.column.task)), el("td", {}, one.column.metric),
      ...[one.a, one.b].map(cell => el("td", { class: "number" }, cell ? cell.text : el("span", { class: "dash" }, "–"))),
      one.value === undefined ? el("td", { class: "number" }, el("span", { class: "dash" }, "–"))
        : el("td", { class: "number", "data-order": one.value.toPrecision(6), "data-half": one.half == null ? null : one.half.toPrecision(4) }, signed(one.value, one.half)),
      el("td", {}, one.covers ?? "not measured on both"))));
    section.hidden = false;
    document.querySelector("main > .waiting")?.remove();
    await lobe.draw(section.querySelector(".plot"), figure(found));
  }

  function changed() {
    view.set("table", tableChoice.value === "0" ? "" : tableChoice.value);
    view.set("first", first.value);
    view.set("second", second.value);
    show();
  }
  async function fill() {
    const { tables } = await lobe.load("compare/index");
    if (!tables.length) return;
    const table = tables[tableChoice.value], named = table.backbones, known = name => named.some(([, one]) => one === name) ? name : "";
    const ranked = table.headlines.map(([label]) => named.find(([one]) => one === label)[1]);
    const wanted = [known(view.get("first")) || ranked[0] || named.at(-1)?.[1], known(view.get("second")) || ranked[1] || named[0]?.[1]];
    [first, second].forEach((one, n) => {
      one.replaceChildren(...named.map(([label, name]) => el("option", { value: name }, label)));
      one.value = wanted[n];
    });
    await show();
  }
  tableChoice.value = view.get("table") || "0";
  tableChoice.addEventListener("change", () => { view.set("first", ""); view.set("second", ""); fill().then(changed); });
  first.addEventListener("change", changed);
  second.addEventListener("change", changed);
  form.querySelector("[data-swap]").addEventListener("click", () => { [first.value, second.value] = [second.value, first.value]; changed(); });
  form.addEventListener("submit", event => event.preventDefault());
  fill().catch(error => { document.querySelector("main > .waiting").textContent = `The comparison cannot be shown: ${error.message}.`; });
})();
