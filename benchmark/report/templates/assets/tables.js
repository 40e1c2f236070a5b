"use strict";
// Tables that sort, search, filter and download. DataTables sorts and searches; choices by a row's or a column's own facts are ours.
// No text of a record goes into data-order or data-search: DataTables would read it as markup.
(() => {
  const kept = new Map();  // id -> its DataTable

  function enhance(table) {
    const id = table.id;
    const saved = lobe.view.get(`${id}.sort`).match(/^(\d+)-(asc|desc)$/);
    const columns = table.tBodies[0]?.rows[0]?.cells.length ?? 0;
    if (!columns) return;
    const made = new DataTable(table, {
      paging: false, info: false, autoWidth: false, orderMulti: false, orderClasses: false,
      order: saved && Number(saved[1]) < columns ? [[Number(saved[1]), saved[2]]] : [],
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    });
    kept.set(id, made);
    made.on("order", () => {
      const [first] = made.order();
      lobe.view.set(`${id}.sort`, first && first[1] ? `${first[0]}-${first[1]}` : "");
    });
    document.querySelectorAll(`[data-tools-for="${CSS.escape(id)}"]`).forEach(tools => equip(tools, table, made));
  }

  function equip(tools, table, made) {
    const id = table.id, all = made.rows().count();
    const search = tools.querySelector("[data-search]"), count = tools.querySelector("[data-count]"), clear = tools.querySelector("[data-clear]");
    const filters = [...tools.querySelectorAll("[data-filter]")], ofColumns = [...tools.querySelectorAll("[data-column-filter]")];
    const controls = [[search, "q"], ...filters.map(f => [f, f.dataset.filter]), ...ofColumns.map(f => [f, f.dataset.columnFilter])].filter(([one]) => one);

    function apply() {
      if (search) made.search(search.value);
      made.search.fixed("chosen", (_, __, index) => {
        const row = made.row(index).node();
        return filters.every(one => !one.value || row.dataset[one.dataset.filter] === one.value);
      });
      made.draw();
      if (ofColumns.some(one => one.value) || table.dataset.narrowed) {
        made.columns().every(function () {
          const facts = this.header().dataset;
          const wanted = facts.dataset === undefined || ofColumns.every(one => !one.value || facts[one.dataset.columnFilter] === one.value);
          if (this.visible() !== wanted) this.visible(wanted, false);
        });
        made.columns.adjust();
        table.dataset.narrowed = "yes";
      }
      const shown = made.rows({ search: "applied" }).count(), chosen = controls.some(([one]) => one.value);
      count.textContent = shown === all ? "" : `${shown} of ${all} ${count.dataset.count}`;
      clear.hidden = !chosen;
    }
    function changed() {
      controls.forEach(([one, name]) => lobe.view.set(`${id}.${name}`, one.value));
      apply();
    }
    for (const [one, name] of controls) {
      one.value = lobe.view.get(`${id}.${name}`);
      one.addEventListener("input", changed);
    }
    clear.addEventListener("click", () => { controls.forEach(([one]) => { one.value = ""; }); changed(); search?.focus(); });
    tools.hidden = all < 2 && !ofColumns.length;
    if (controls.some(([one]) => one.value)) apply();
  }

  const heading = th => th.dataset.csvName ?? [...th.querySelector(".dt-column-title")?.childNodes ?? th.childNodes].map(n => n.textContent).join(" ").trim();
  const value = cell => cell.querySelector(".dash") ? "" : cell.dataset.order ?? cell.textContent;

  // Rows and columns as they are shown, numbers unrounded, half widths in columns of their own.
  function rowsOf(table) {
    const made = kept.get(table.id);
    const columns = made ? made.columns(":visible").indexes().toArray() : [...table.rows[0].cells].map((_, i) => i);
    const headers = made ? columns.map(i => made.column(i).header()) : [...table.rows[0].cells];
    const nodes = made ? made.rows({ search: "applied", order: "applied" }).nodes().toArray() : [...table.tBodies[0].rows];
    const cells = nodes.map(row => [...row.cells]);
    const halves = headers.map((_, i) => cells.some(row => row[i]?.dataset.half !== undefined));
    const line = (names, more) => names.flatMap((name, i) => halves[i] ? [name, more(i)] : [name]);
    return [line(headers.map(heading), i => `${heading(headers[i])}, half width 95 %`), ...cells.map(row => line(row.map(value), i => row[i]?.dataset.half ?? ""))];
  }

  document.querySelectorAll("table[data-table]").forEach(enhance);
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-csv]");
    const table = button && document.getElementById(button.dataset.csv);
    if (table) lobe.download(`${table.dataset.name || table.id}.csv`, lobe.csv(rowsOf(table)));
  });
  // An address shared from another page may point at a row that a filter hides.
  function reveal() {
    const place = location.hash.slice(1);
    const found = place && !place.includes("=") ? document.getElementById(place) : null;
    found?.closest("details:not([open])")?.setAttribute("open", "");
    found?.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();
  Object.assign(lobe, { enhance, rowsOf });
})();
