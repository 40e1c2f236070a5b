// Tables of data: a heading sorts, words and choices narrow. Without this script they are whole, in the order of their file.
for (const frame of document.querySelectorAll(".sortable")) {
  const table = frame.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const titles = heads.map((head) => head.textContent.trim());
  const text = (row, column) => row.cells[column].textContent.trim();
  const value = (row, column) => row.cells[column].dataset.by ?? text(row, column);

  // Numbers by size, text by letters, and what is missing last in both directions.
  const missing = (one) => one === "" || one === "–";
  const compare = (one, other) => {
    const difference = Number(one) - Number(other);
    return Number.isNaN(difference) ? one.localeCompare(other, "en", { numeric: true }) : difference;
  };
  const sort = (column, sign) => {
    const ordered = [...rows].sort((a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      if (missing(one) || missing(other)) return missing(one) - missing(other);
      return sign * compare(one, other);
    });
    body.append(...ordered);
    heads.forEach((head, n) => (n === column ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort")));
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
    head.append(button);
  });

  const bar = document.createElement("div");
  bar.className = "narrow";
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "Words in a row";
  words.setAttribute("aria-label", `Words in a row of ${frame.dataset.noun}`);
  bar.append(words);
  const choices = heads.flatMap((head, column) => {
    if (head.dataset.choose === undefined) return [];
    const choice = document.createElement("select");
    choice.setAttribute("aria-label", titles[column]);
    choice.add(new Option(`${titles[column]}: all`, ""));
    for (const one of new Set(rows.map((row) => text(row, column)))) choice.add(new Option(one || "–", `=${one}`));
    bar.append(choice);
    return [{ choice, column }];
  });
  const count = document.createElement("output");
  bar.append(count);
  frame.prepend(bar);

  const said = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const narrow = () => {
    const asked = words.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const fits = choices.every(({ choice, column }) => choice.value === "" || choice.value === `=${text(row, column)}`);
      row.hidden = !(fits && asked.every((word) => said.get(row).includes(word)));
    }
    count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} ${frame.dataset.noun}`;
  };
  bar.addEventListener("input", narrow);
  narrow();
}
