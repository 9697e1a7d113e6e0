"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const hiddenMethods = new Set();
const redrawByFigure = new Map();

function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== null) e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

/* Figures: a plot is made when it comes into sight, and again whenever something is chosen. */

function showFigure(figure) {
  const section = document.getElementById(figure.id);
  const chosen = {};
  const names = Object.keys(figure.choices);
  let log = figure.log;
  const controls = element("div", { class: "controls" });
  for (const name of names) {
    const options = figure.choices[name];
    chosen[name] = options[0];
    if (options.length < 2) continue;
    const select = element("select", { onchange: (e) => { chosen[name] = e.target.value; draw(); } });
    for (const option of options) select.append(element("option", { value: option }, option));
    controls.append(element("label", {}, name, select));
  }
  if (figure.log) {
    const button = element("button", { type: "button", "aria-pressed": "true", onclick: () => {
      log = !log;
      button.setAttribute("aria-pressed", String(log));
      button.textContent = log ? "axis: log" : "axis: linear";
      draw();
    } }, "axis: log");
    controls.append(button);
  }
  const plotElement = element("div", { class: "plot" });
  section.querySelector(".figure").append(controls, plotElement);

  function draw() {
    const plot = figure.plots[names.map((n) => chosen[n]).join("|")];
    if (!plot) {
      Plotly.purge(plotElement);
      plotElement.replaceChildren(element("p", { class: "none" }, "No run for this choice."));
      return;
    }
    plotElement.querySelector(".none")?.remove();
    const narrow = plotElement.clientWidth < 560;
    const layout = {
      height: narrow ? 340 : 440,
      ...plot.layout,
      xaxis: { ...plot.layout.xaxis, automargin: true, gridcolor: "#e6e9ed", zeroline: false },
      yaxis: { ...plot.layout.yaxis, automargin: true, gridcolor: "#e6e9ed", zeroline: false },
      font: { family: "system-ui, sans-serif", size: narrow ? 11 : 13, color: "#1c2430" },
      margin: { l: narrow ? 44 : 64, r: 12, t: narrow ? 14 : 34, b: narrow ? 44 : 54 },
      showlegend: false,
      paper_bgcolor: "#fff",
      plot_bgcolor: "#fff",
      hoverlabel: { bgcolor: "#fff", bordercolor: "#5b6675", align: "left", font: { size: 12, color: "#1c2430" } },
    };
    if (layout.xaxis.type === "log") {
      const x = plot.data.flatMap((trace) => trace.x).filter((v) => v !== null);  // null parts whiskers
      layout.xaxis.dtick = Math.max(...x) > 30 * Math.min(...x) ? 1 : "D2";  // powers of ten, or 1, 2 and 5
      if (!log) layout.xaxis = { ...layout.xaxis, type: "linear", dtick: null };
    }
    const data = plot.data.map((trace) => ({ ...trace, visible: !hiddenMethods.has(trace.meta) }));
    Plotly.react(plotElement, data, layout, { responsive: true, displaylogo: false, displayModeBar: !narrow,
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
    redrawByFigure.set(figure.id, draw);
  }

  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); draw(); }
  }, { rootMargin: "300px" }).observe(plotElement);
}

/* Methods: one switch for all figures. */

function marker(method) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-6 -6 12 12");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", page.shapes[method.symbol] || "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0");
  path.setAttribute("fill", method.color);
  svg.append(path);
  return svg;
}

for (const method of page.methods) {
  const button = element("button", { type: "button", "aria-pressed": "true", "data-method": method.name, onclick: () => {
    const hide = !hiddenMethods.has(method.name);
    if (hide) hiddenMethods.add(method.name); else hiddenMethods.delete(method.name);
    button.setAttribute("aria-pressed", String(!hide));
    for (const redraw of redrawByFigure.values()) redraw();
  } }, marker(method), method.label);
  document.getElementById("methods").append(button);
}

/* Tables: sorted by a click on a heading, filtered by a word, fifty rows at a time. */

const PAGE_ROWS = 50;

function showTable(table) {
  const container = document.getElementById("table-" + table.name);
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
  container.append(element("div", { class: "scroll", tabindex: "0" },
    element("table", {}, element("thead", {}, element("tr", {}, ...headings)), body)));
  const fill = () => { arrange(); show(); };
  const closed = container.closest("details:not([open])");
  if (closed) closed.addEventListener("toggle", fill, { once: true }); else fill();  // rows that nobody sees cost nothing
}

page.figures.forEach(showFigure);
page.tables.forEach(showTable);
