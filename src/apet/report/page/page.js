"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();
const drawn = new Map();

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

function figure(view) {
  const section = document.getElementById(view.id);
  const chosen = {};
  const names = Object.keys(view.choices);
  let log = view.log;
  const controls = element("div", { class: "controls" });
  for (const name of names) {
    const options = view.choices[name];
    chosen[name] = options[0];
    if (options.length < 2) continue;
    const select = element("select", { onchange: (e) => { chosen[name] = e.target.value; draw(); } });
    for (const option of options) select.append(element("option", { value: option }, option));
    controls.append(element("label", {}, name, select));
  }
  if (view.log) {
    const button = element("button", { type: "button", "aria-pressed": "true", onclick: () => {
      log = !log;
      button.setAttribute("aria-pressed", String(log));
      button.textContent = log ? "axis: log" : "axis: linear";
      draw();
    } }, "axis: log");
    controls.append(button);
  }
  const place = element("div", { class: "plot" });
  section.querySelector(".figure").append(controls, place);

  function draw() {
    const plot = view.plots[names.map((n) => chosen[n]).join("|")];
    if (!plot) {
      Plotly.purge(place);
      place.replaceChildren(element("p", { class: "none" }, "No run for this choice."));
      return;
    }
    place.querySelector(".none")?.remove();
    const narrow = place.clientWidth < 560;
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
      const x = plot.data.flatMap((t) => t.x).filter((v) => v !== null);  // null parts whiskers
      layout.xaxis.dtick = Math.max(...x) > 30 * Math.min(...x) ? 1 : "D2";  // powers of ten, or 1, 2 and 5
      if (!log) layout.xaxis = { ...layout.xaxis, type: "linear", dtick: null };
    }
    const data = plot.data.map((t) => ({ ...t, visible: !hidden.has(t.meta) }));
    Plotly.react(place, data, layout, { responsive: true, displaylogo: false, displayModeBar: !narrow,
      modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
    drawn.set(view.id, draw);
  }

  new IntersectionObserver((seen, observer) => {
    if (seen.some((s) => s.isIntersecting)) { observer.disconnect(); draw(); }
  }, { rootMargin: "300px" }).observe(place);
}

/* Methods: one switch for all figures. */

function swatch(method) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-6 -6 12 12");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", page.shapes[method.symbol] || "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0");
  path.setAttribute("fill", method.colour);
  svg.append(path);
  return svg;
}

for (const method of page.methods) {
  const button = element("button", { type: "button", "aria-pressed": "true", "data-method": method.name, onclick: () => {
    const off = !hidden.has(method.name);
    if (off) hidden.add(method.name); else hidden.delete(method.name);
    button.setAttribute("aria-pressed", String(!off));
    for (const draw of drawn.values()) draw();
  } }, swatch(method), method.label);
  document.getElementById("methods").append(button);
}

/* Tables: sorted by a click on a heading, filtered by a word, fifty rows at a time. */

const ROWS = 50;

function table(spec) {
  const place = document.getElementById("table-" + spec.name);
  const columns = spec.columns;
  const text = (i, j) => columns[j].texts[columns[j].at[i]];
  const wide = columns.map((c) => c.texts.some((t) => t.length > 48));
  let order = [], by = -1, down = false, at = 0, word = "";
  const body = element("tbody");
  const heads = columns.map((c, j) => element("th", { scope: "col", class: c.numbers ? "right" : null, "aria-sort": "none" },
    element("button", { type: "button", onclick: () => { down = by === j ? !down : false; by = j; at = 0; sort(); show(); } }, c.title)));
  const state = element("span");
  const back = element("button", { type: "button", onclick: () => { at -= ROWS; show(); } }, "previous");
  const next = element("button", { type: "button", onclick: () => { at += ROWS; show(); } }, "next");
  const filter = element("input", { type: "search", placeholder: "filter", "aria-label": "Filter " + spec.title,
    oninput: (e) => { word = e.target.value.toLowerCase(); at = 0; sort(); show(); } });

  function sort() {
    order = Array.from({ length: spec.rows }, (_, i) => i);
    if (word) {
      const fits = columns.map((c) => c.texts.map((t) => t.toLowerCase().includes(word)));
      order = order.filter((i) => columns.some((c, j) => fits[j][c.at[i]]));
    }
    if (by < 0) return;
    const { texts, numbers, at: cell } = columns[by];
    const key = (i) => numbers ? numbers[cell[i]] : texts[cell[i]];
    const unknown = (v) => v === null || v === "–";
    order.sort((a, b) => {
      const x = key(a), y = key(b);
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y) || a - b;  // the unknown always last
      const sign = numbers ? x - y : x.localeCompare(y, "en", { numeric: true });
      return (down ? -sign : sign) || a - b;
    });
  }

  function show() {
    heads.forEach((h, j) => h.setAttribute("aria-sort", j === by ? (down ? "descending" : "ascending") : "none"));
    body.replaceChildren(...order.slice(at, at + ROWS).map((i) => element("tr", {}, ...columns.map((c, j) =>
      element("td", { class: [c.numbers ? "right" : "", wide[j] ? "wide" : ""].join(" ").trim() || null }, text(i, j))))));
    const last = Math.min(at + ROWS, order.length);
    state.textContent = order.length ? `${at + 1}–${last} of ${order.length.toLocaleString("en")}` : "nothing fits";
    back.disabled = at === 0;
    next.disabled = last >= order.length;
  }

  const turn = spec.rows > ROWS ? [back, next] : [];
  if (spec.rows > 20) place.append(element("div", { class: "pages" }, filter, state, ...turn));
  place.append(element("div", { class: "scroll", tabindex: "0" },
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)));
  const open = () => { sort(); show(); };
  const closed = place.closest("details:not([open])");
  if (closed) closed.addEventListener("toggle", open, { once: true }); else open();
}

page.views.forEach(figure);
page.tables.forEach(table);
