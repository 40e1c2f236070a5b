"use strict";
// Figures are drawn when they come into view; plotly and their data are loaded then. Colours of text and grid follow the page.
(() => {
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const NARROW = 560, FEW_LETTERS = 22;
  const shortened = text => text.length > FEW_LETTERS ? `${text.slice(0, FEW_LETTERS - 1)}…` : text;
  const drawn = new Map();  // plot -> what it shows

  function themed(layout, width) {
    const copy = structuredClone(layout), narrow = width < NARROW;
    Object.assign(copy, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
    copy.font = { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13 };
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--accent") };
    copy.hoverlabel = { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--ink") } };
    for (const key of Object.keys(copy).filter(k => /^[xy]axis/.test(k))) {
      Object.assign(copy[key], { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--quiet") });
      if (copy[key].zeroline === undefined) copy[key].zeroline = false;
      if (narrow && copy[key].ticktext) copy[key].ticktext = copy[key].ticktext.map(shortened);
    }
    return copy;
  }

  // On a narrow screen every name of a legend takes a line of its own.
  function roomy(layout, data, width) {
    const named = new Set(data.filter(one => one.showlegend !== false && one.name).map(one => one.name)).size;
    if (width >= NARROW || !layout.legend || named < 2) return layout;
    return { ...layout, height: layout.height + 20 * named, margin: { ...layout.margin, b: (layout.margin?.b ?? 40) + 20 * named } };
  }

  async function draw(box, figure) {
    await lobe.asset("plotly.min.js");
    if (!drawn.has(box)) box.replaceChildren();
    drawn.set(box, figure);
    const large = box.closest("figure").classList.contains("large");
    const shown = figure.layoutFor ? { data: figure.data, layout: figure.layoutFor(box.clientWidth) } : figure;
    const config = { responsive: true, displaylogo: false, displayModeBar: large, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
    await Plotly.react(box, shown.data, themed(roomy(shown.layout, shown.data, box.clientWidth), box.clientWidth), config);
    box.dataset.drawn = "yes";
  }

  // Calls back once, when the element is looked at, or before it is printed.
  const unseen = new Map(), begun = new Set();  // elements nobody looked at; what is being drawn
  const seen = element => {
    const waiting = unseen.get(element);
    if (!waiting) return;
    unseen.delete(element);
    waiting.observer.disconnect();
    const drawing = waiting.then().finally(() => begun.delete(drawing));
    begun.add(drawing);
  };
  function whenSeen(element, then) {
    const observer = new IntersectionObserver(entries => { if (entries.some(one => one.isIntersecting)) seen(element); }, { rootMargin: "300px" });
    unseen.set(element, { observer, then });
    observer.observe(element);
  }

  // A browser prints what is there when it is asked to. Its keys wait until all is drawn; its menu prints what is drawn by then.
  const drawAll = () => { [...unseen.keys()].forEach(seen); return Promise.all(begun); };
  addEventListener("beforeprint", drawAll);
  document.addEventListener("keydown", event => {
    if (event.key.toLowerCase() !== "p" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || !(unseen.size || begun.size)) return;
    event.preventDefault();
    drawAll().then(() => print());
  });

  const failed = box => error => box.replaceChildren(lobe.el("p", { class: "waiting" }, `This figure cannot be shown: ${error.message}.`));
  document.querySelectorAll("figure[data-figure]").forEach(figure => {
    const box = figure.querySelector(".plot");
    whenSeen(figure, () => lobe.load(figure.dataset.figure).then(found => draw(box, found)).catch(failed(box)));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((figure, box) => draw(box, figure)));

  function resize(figure) {
    const box = figure.querySelector(".plot");
    if (drawn.has(box)) draw(box, drawn.get(box)).then(() => Plotly.Plots.resize(box));
  }
  function shrink(figure) { figure.classList.remove("large"); figure.querySelector("[data-large]").textContent = "Open large"; resize(figure); }
  document.querySelectorAll("[data-large]").forEach(button => button.addEventListener("click", () => {
    const figure = button.closest("figure");
    if (figure.classList.contains("large")) return shrink(figure);
    figure.classList.add("large");
    button.textContent = "Close";
    resize(figure);
  }));
  document.addEventListener("keydown", event => { if (event.key === "Escape") document.querySelectorAll("figure.large").forEach(shrink); });
  Object.assign(lobe, { draw, whenSeen, failed });
})();
