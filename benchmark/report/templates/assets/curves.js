"use strict";
// Training curves: of one backbone on one of its tasks, or of several backbones on a task. Colour, dash and symbol all tell backbones apart.
(() => {
  const PANELS = [["training", "training loss"], ["validation", "validation loss"], ["value", "validation metric (%)"]];
  const escaped = text => text.replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  function figure(chosen) {
    const data = [], named = new Set(), metric = chosen[0]?.job.metric ?? "";
    for (const { backbone, style, job } of chosen) {
      PANELS.forEach(([what], n) => {
        if (job[what].every(value => value === null)) return;
        const best = job.epoch.map(e => e === job.selected && what === "value"), text = escaped(backbone);
        data.push({
          type: "scatter", mode: what === "value" ? "lines+markers" : "lines", name: text, legendgroup: text, x: job.epoch, y: job[what],
          opacity: job.search ? 0.4 : 0.95, line: { color: style.color, width: 1.6, dash: style.dash },
          marker: { color: style.color, symbol: best.map(b => b ? "star" : style.symbol), size: best.map(b => b ? 13 : 5) },
          xaxis: n ? `x${n + 1}` : "x", yaxis: n ? `y${n + 1}` : "y", showlegend: !named.has(text) && what === "value",
          hovertemplate: `${text}, ${escaped(job.name)}<br>%{y:.4g}, epoch %{x}<extra></extra>`,
        });
        if (what === "value") named.add(text);
      });
    }
    const titles = ["training loss", "validation loss", `validation ${escaped(metric)} (%)`];
    function layoutFor(width) {
      const stacked = width < 720, gap = stacked ? 0.1 : 0.07, size = (1 - 2 * gap) / 3;
      const layout = { height: stacked ? 760 : 360, margin: { l: 45, r: 15, t: 30, b: 80 }, annotations: [],
        legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" } };
      PANELS.forEach((_, n) => {
        const from = n * (size + gap), to = from + size, suffix = n ? String(n + 1) : "";
        layout[`xaxis${suffix}`] = { domain: stacked ? [0, 1] : [from, to], anchor: `y${suffix}`, title: { text: "epoch", standoff: 4 } };
        layout[`yaxis${suffix}`] = { domain: stacked ? [1 - to, 1 - from] : [0, 1], anchor: `x${suffix}`, rangemode: "tozero" };
        layout.annotations.push({ text: `<b>${titles[n]}</b>`, xref: "paper", yref: "paper", x: stacked ? 0 : from, y: stacked ? 1 - from : 1, showarrow: false, xanchor: "left", yanchor: "bottom" });
      });
      return layout;
    }
    return { data, layout: {}, layoutFor };
  }

  const rows = chosen => [["backbone", "task", "split", "job", "epoch", "training loss", "validation loss", "metric", "value (%)"],
    ...chosen.flatMap(({ backbone, job }) => job.epoch.map((epoch, i) => [backbone, job.task, job.split, job.name, epoch, job.training[i] ?? "", job.validation[i] ?? "", job.metric, job.value[i] ?? ""]))];

  document.querySelectorAll("[data-curves]").forEach(section => {
    const box = section.querySelector(".plot"), picks = section.querySelector(".picks"), select = section.querySelector("[data-curve-task]");
    const MOST = 6;
    let chosen = [];

    async function choose() {
      const names = picks ? [...picks.querySelectorAll("input:checked")].map(one => one.value) : [section.dataset.curves];
      const loaded = await Promise.all(names.map(name => lobe.load(`curves/${name}`).catch(() => null)));
      const wanted = job => picks ? job.task === section.dataset.task : job.title === select.value;
      chosen = loaded.filter(Boolean).flatMap(({ backbone, style, jobs }) => jobs.filter(wanted).map(job => ({ backbone, style, job })));
      if (chosen.length) await lobe.draw(box, figure(chosen));
    }
    picks?.addEventListener("change", () => {
      const full = picks.querySelectorAll("input:checked").length >= MOST;
      picks.querySelectorAll("input:not(:checked)").forEach(one => { one.disabled = full; });
      choose();
    });
    select?.addEventListener("change", choose);
    section.querySelector("[data-curves-csv]").addEventListener("click", () => lobe.download("curves.csv", lobe.csv(rows(chosen))));
    lobe.whenSeen(section, () => choose().catch(lobe.failed(box)));
  });
})();
