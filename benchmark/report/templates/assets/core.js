"use strict";
// What all pages share: data that registers itself, a view's address, elements made of text, and tables as files.
// Text of records is only ever set as text, never parsed as markup.
globalThis.lobe = (() => {
  const root = document.body.dataset.root ?? "";
  const asked = new Map();

  function entry(name) {
    if (!asked.has(name)) {
      const one = {};
      one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
      asked.set(name, one);
    }
    return asked.get(name);
  }

  function script(address, failed) {
    const tag = document.createElement("script");
    tag.src = root + address;
    tag.onerror = failed;
    document.head.append(tag);
    return tag;
  }

  // The value that data/<name>.js registers; loaded once.
  function load(name) {
    const one = entry(name);
    if (!one.tag) one.tag = script(`data/${name}.js`, () => one.reject(new Error(`data/${name}.js is not there`)));
    return one.promise;
  }

  // One of the site's own scripts, once.
  function asset(name) {
    const one = entry(`asset ${name}`);
    if (!one.tag) {
      one.tag = script(`assets/${name}`, () => one.reject(new Error(`assets/${name} is not there`)));
      one.tag.onload = () => one.resolve();
    }
    return one.promise;
  }

  function register(name, value) { entry(name).resolve(value); }

  // A view is the part of the address behind #, as name=value pairs; without = it is a place on the page.
  const view = {
    pairs() { const hash = location.hash.slice(1); return new URLSearchParams(hash.includes("=") ? hash : ""); },
    get(name) { return this.pairs().get(name) ?? ""; },
    set(name, value) {
      const pairs = this.pairs();
      if (value) pairs.set(name, value); else pairs.delete(name);
      const text = pairs.toString();
      history.replaceState(history.state, "", text ? `#${text}` : location.pathname + location.search);
    },
  };

  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
    made.append(...children.filter(child => child != null));
    return made;
  }

  // As report/escape.py: no cell runs as a formula, none breaks a line.
  function cell(value) {
    if (typeof value === "number") return String(value);
    let text = String(value ?? "").replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, " ").trim();
    if (/^[=+\-@]/.test(text) && !/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) text = `'${text}`;
    return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  const csv = rows => rows.map(row => row.map(cell).join(",") + "\n").join("");

  function download(name, text) {
    const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

  // Closed sections are part of a printed page, and pictures that nobody scrolled to.
  let opened = [];
  addEventListener("beforeprint", () => {
    document.querySelectorAll("img[loading=lazy]").forEach(one => { one.loading = "eager"; });
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(one => { one.open = false; }));

  return { root, load, asset, register, view, el, csv, download, number };
})();
