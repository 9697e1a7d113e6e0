"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const hiddenMethods = new Set();
const drawings = [];

function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== null) e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

/* Figures: Vega draws them one after the other, the first at once; what is chosen or hidden is a signal of the view. */

const NARROWEST_PANEL = 230;

function unpacked({ rows, columns }) {
  const cells = Object.entries(columns).map(([name, [values, places]]) => [name, places ? (i) => values[places[i]] : (i) => values[i]]);
  return Array.from({ length: rows }, (_, i) => Object.fromEntries(cells.map(([name, cell]) => [name, cell(i)])));
}

const rowsByName = Object.fromEntries(Object.entries(page.data || {}).map(([name, data]) => [name, unpacked(data)]));

class Drawing {
  constructor(figure) {
    this.figure = figure;
    this.element = document.getElementById("figure-" + figure.id);
    this.plot = this.element.querySelector(".plot");
    this.rows = rowsByName[figure.data];
    this.chosen = Object.fromEntries(figure.choices.map((choice) => [choice.name, choice.options[0]]));
    this.view = null;
    const controls = this.element.querySelector(".controls");
    for (const { name, options } of figure.choices) {
      if (options.length < 2) continue;
      const select = element("select", { name, onchange: (e) => { this.chosen[name] = e.target.value; this.show(); } });
      for (const option of options) select.append(element("option", { value: option }, option));
      controls.append(element("label", {}, name, select));
    }
  }

  columns() {
    return Math.max(1, Math.min(this.figure.columns, Math.floor(this.plot.clientWidth / NARROWEST_PANEL)));
  }

  async draw() {
    const spec = structuredClone(this.figure.spec);
    this.drawnColumns = this.columns();
    const width = Math.max(80, this.plot.clientWidth / this.drawnColumns - 60);
    for (const panel of spec.concat || [spec.spec || spec]) Object.assign(panel, { width, height: this.figure.height });
    if (spec.concat || spec.facet) spec.columns = this.drawnColumns;
    spec.data = { name: "rows", values: this.rows };
    for (const parameter of spec.params) {
      if (parameter.name in this.chosen) parameter.value = this.chosen[parameter.name];
      else parameter.value = [...hiddenMethods];
    }
    const config = structuredClone(page.config);
    config.header.labelLimit = width;
    config.legend.columns = Math.max(1, Math.floor(this.plot.clientWidth / 150));
    // no link to an editor on the net; expressions are interpreted, for the page forbids code that is made from text
    const drawn = await vegaEmbed(this.plot, spec, { actions: false, ast: true, config, logLevel: 1, mode: "vega-lite", renderer: "svg" });
    this.view = drawn.view;
    await this.fit();
    this.element.classList.add("drawn");
    this.note();
  }

  /* What axes and legend take is known once they are drawn: then the panels fill the width. */
  async fit() {
    for (let i = 0; i < 2; i++) {
      const svg = this.plot.querySelector("svg");
      const spare = this.plot.clientWidth - Number(svg.getAttribute("width"));
      if (spare >= 0 && spare < 4) return;
      const widths = this.view.getState({ signals: (name) => /width$/i.test(name), data: () => false }).signals;
      const panels = Object.entries(widths).filter(([name, w]) => w > 0 && (name !== "width" || !("child_width" in widths)));
      for (const [name, w] of panels) this.view.signal(name, Math.max(80, w + (spare - 1) / this.drawnColumns));
      await this.view.resize().runAsync();
    }
  }

  async show() {
    if (!this.view) return;
    for (const [name, option] of Object.entries(this.chosen)) this.view.signal(name, option);
    this.view.signal("hidden", [...hiddenMethods]);
    await this.view.resize().runAsync();
    await this.fit();
    this.note();
  }

  async resize() {
    if (this.view && this.columns() !== this.drawnColumns) await this.draw();
    else if (this.view) await this.fit();
  }

  /* Not every combination was run: then a sentence stands in place of empty axes. */
  note() {
    const shown = this.rows.some((row) => this.figure.choices.every(({ name, all }) =>
      row[name] === this.chosen[name] || (all && this.chosen[name] === all)));
    const empty = this.figure.choices.length > 0 && !shown;
    this.plot.hidden = empty;
    this.element.querySelector(".none")?.remove();
    if (empty) this.plot.after(element("p", { class: "none" }, "No run for this choice."));
  }
}

async function drawAll() {
  for (const figure of page.figures) drawings.push(new Drawing(figure));
  for (const drawing of drawings) {
    await drawing.draw();
    await new Promise((resume) => setTimeout(resume));  // the page stays responsive in between
  }
  let width = document.body.clientWidth;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    for (const drawing of drawings) drawing.resize();
  }).observe(document.body);
  document.documentElement.dataset.drawn = "yes";
}

/* Methods: one switch for all figures. */

const CIRCLE = "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0";
const PATHS = { circle: CIRCLE, square: "M-.9,-.9H.9V.9H-.9Z", diamond: "M0,-1L1,0L0,1L-1,0Z", "triangle-up": "M0,-.9L1,.8H-1Z",
  "triangle-down": "M0,.9L1,-.8H-1Z", "triangle-left": "M-.9,0L.8,-1V1Z", "triangle-right": "M.9,0L-.8,-1V1Z" };

function marker(method, i) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-1.1 -1.1 2.2 2.2");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[method.shape] || method.shape);
  path.setAttribute("fill", `var(--m${i})`);
  svg.append(path);
  return svg;
}

function showSwitches() {
  const bar = document.getElementById("methods");
  if (page.methods.length < 2) return;
  page.methods.forEach((method, i) => {
    const button = element("button", { type: "button", "aria-pressed": "true", "data-method": method.label, onclick: () => {
      const hide = !hiddenMethods.has(method.label);
      if (hide) hiddenMethods.add(method.label); else hiddenMethods.delete(method.label);
      button.setAttribute("aria-pressed", String(!hide));
      for (const drawing of drawings) drawing.show();
    } }, marker(method, i), method.label);
    bar.append(button);
  });
}

/* Tables: sorted by a click on a heading, filtered by a word, fifty rows at a time. */

const PAGE_ROWS = 50;

function showTable(table, container) {
  const columns = table.columns;
  const cellText = (row, j) => columns[j].texts[columns[j].cells[row]];
  const isWide = columns.map((c) => c.texts.some((text) => text.length > 48));
  let rows = [], sortColumn = -1, descending = false, firstRow = 0, filterWord = "";
  const body = element("tbody");
  const headings = columns.map((c, j) => element("th", { scope: "col", class: c.numbers ? "right" : null, "aria-sort": "none" },
    element("button", { type: "button", onclick: () => {
      descending = sortColumn === j ? !descending : false;
      sortColumn = j;
      firstRow = 0;
      arrange();
      show();
    } }, c.heading)));
  const status = element("span");
  const previous = element("button", { type: "button", onclick: () => { firstRow -= PAGE_ROWS; show(); } }, "previous");
  const next = element("button", { type: "button", onclick: () => { firstRow += PAGE_ROWS; show(); } }, "next");
  const filter = element("input", { type: "search", placeholder: "filter", "aria-label": "Filter " + table.title,
    oninput: (e) => { filterWord = e.target.value.toLowerCase(); firstRow = 0; arrange(); show(); } });

  function arrange() {
    rows = Array.from({ length: table.rows }, (_, i) => i);
    if (filterWord) {
      const matches = columns.map((c) => c.texts.map((text) => text.toLowerCase().includes(filterWord)));
      rows = rows.filter((row) => columns.some((c, j) => matches[j][c.cells[row]]));
    }
    if (sortColumn < 0) return;
    const { texts, numbers, cells } = columns[sortColumn];
    const key = (row) => numbers ? numbers[cells[row]] : texts[cells[row]];
    const unknown = (v) => v === null || v === "–";
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y) || a - b;  // the unknown always last
      const sign = numbers ? x - y : x.localeCompare(y, "en", { numeric: true });
      return (descending ? -sign : sign) || a - b;
    });
  }

  function show() {
    headings.forEach((h, j) =>
      h.setAttribute("aria-sort", j === sortColumn ? (descending ? "descending" : "ascending") : "none"));
    body.replaceChildren(...rows.slice(firstRow, firstRow + PAGE_ROWS).map((row) => element("tr", {}, ...columns.map((c, j) =>
      element("td", { class: [c.numbers ? "right" : "", isWide[j] ? "wide" : ""].join(" ").trim() || null }, cellText(row, j))))));
    const lastRow = Math.min(firstRow + PAGE_ROWS, rows.length);
    status.textContent = rows.length
      ? `${firstRow + 1}–${lastRow} of ${rows.length.toLocaleString("en")}` : "no row matches";
    previous.disabled = firstRow === 0;
    next.disabled = lastRow >= rows.length;
  }

  const pageButtons = table.rows > PAGE_ROWS ? [previous, next] : [];
  if (table.rows > 20) container.append(element("div", { class: "pages" }, filter, status, ...pageButtons));
  container.append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.title },
    element("table", {}, element("thead", {}, element("tr", {}, ...headings)), body)));
  const fill = () => { arrange(); show(); };
  const closed = container.closest("details:not([open])");
  if (closed) closed.addEventListener("toggle", fill, { once: true }); else fill();  // rows that nobody sees cost nothing
}

for (const table of page.tables) {
  for (const container of document.querySelectorAll(`[data-table="${table.name}"]`)) showTable(table, container);
}
showSwitches();
if (page.figures.length) drawAll();
