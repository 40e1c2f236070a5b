"use strict";
// Every job of a backbone: a list when it is opened, and one of them when the address names it (#job=KEY).
(() => {
  const details = document.querySelector("[data-jobs]"), dialog = document.getElementById("job");
  if (!details) return;
  const { el } = lobe;
  const jobs = () => lobe.load(`jobs/${details.dataset.jobs}`);
  const SHOWN = ["Key", "Task", "Protocol", "Run", "Status", "Split", "Learning rate", "Epoch", "Time", "Warnings", "Failure"];
  let listed = false;

  async function list() {
    if (listed) return;
    listed = true;
    try {
      const { common, columns, rows } = await jobs();
      const shown = SHOWN.filter(name => columns.includes(name)), at = shown.map(name => columns.indexOf(name));
      const head = el("tr", {}, ...shown.map(name => el("th", { scope: "col" }, name)));
      const body = rows.map(row => el("tr", {}, ...at.map((i, n) => n ? el("td", {}, row[i])
        : el("td", { class: "key" }, el("a", { href: `#job=${encodeURIComponent(row[i])}` }, row[i].slice(0, 12))))));
      const table = el("table", { id: "job-table", "data-name": `jobs-${details.dataset.jobs}` }, el("thead", {}, head), el("tbody", {}, ...body));
      const file = el("button", { type: "button" }, "All facts of all jobs (CSV)");
      file.addEventListener("click", () => lobe.download(`jobs-${details.dataset.jobs}.csv`,
        lobe.csv([[...columns, ...Object.keys(common)], ...rows.map(row => [...row, ...Object.values(common)])])));
      details.querySelector(".waiting").replaceWith(
        el("p", {}, file), el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "All jobs" }, table), el("h3", {}, "The same of all of them"), facts(Object.entries(common)));
      lobe.enhance(table);
    } catch (error) { details.querySelector(".waiting").textContent = `The jobs cannot be shown: ${error.message}.`; }
  }

  const facts = pairs => el("dl", { class: "listed" }, ...pairs.filter(([, value]) => value)
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, name === "Command" ? el("code", {}, value) : value))));

  async function show() {
    const key = lobe.view.get("job");
    if (!key) { dialog.close(); return; }
    const { common, columns, rows } = await jobs();
    const row = rows.find(one => one[columns.indexOf("Key")] === key);
    const pairs = row ? [...columns.map((name, i) => [name, row[i]]), ...Object.entries(common)] : [];
    const rank = name => ["Task", "Run", "Status", "Metrics (%)", "Command", "Failure", "Warnings"].indexOf(name);
    pairs.sort(([a], [b]) => (rank(a) < 0 ? 99 : rank(a)) - (rank(b) < 0 ? 99 : rank(b)));
    const command = pairs.find(([name]) => name === "Command")?.[1];
    const copy = el("button", { type: "button" }, "Copy the command");
    copy.addEventListener("click", () => navigator.clipboard?.writeText(command).then(() => { copy.textContent = "Copied"; }));
    dialog.querySelector("h2").textContent = row ? `Job ${key.slice(0, 12)}` : `No job ${key.slice(0, 12)} here`;
    dialog.querySelector(".job-facts").replaceChildren(
      el("p", { class: "quiet" }, "The record is ", el("code", {}, `records/${key}.json`), " in the output folder."),
      command && navigator.clipboard ? copy : "", facts(pairs));
    if (!dialog.open) dialog.showModal();
  }

  details.addEventListener("toggle", () => { if (details.open) list(); });
  dialog.addEventListener("close", () => lobe.view.set("job", ""));
  addEventListener("hashchange", show);
  if (location.hash === "#provenance") details.open = true;
  show();
})();
