"use strict";
/* On a dashboard: asks its own server whether runs were added, and shows the page anew where the reader stands. */
(() => {
  const shown = document.documentElement.dataset.version;
  const status = document.getElementById("live");
  const key = "apet-live";

  function remember() {
    const options = [...document.querySelectorAll(".controls select")].map((s) => [s.closest("figure")?.id, s.name, s.value]);
    const hidden = [...document.querySelectorAll('#methods [aria-pressed="false"]')].map((b) => b.dataset.method);
    sessionStorage.setItem(key, JSON.stringify({ options, hidden, y: scrollY }));
  }

  function restore() {
    const kept = JSON.parse(sessionStorage.getItem(key) || "null");
    if (!kept) return;
    for (const [figure, name, value] of kept.options) {
      const select = document.querySelector(`#${CSS.escape(figure || "main")} select[name="${CSS.escape(name)}"]`);
      if (!select || select.value === value || ![...select.options].some((o) => o.value === value)) continue;
      select.value = value;
      select.dispatchEvent(new Event("change"));
    }
    for (const button of document.querySelectorAll("#methods button")) if (kept.hidden.includes(button.dataset.method)) button.click();
    scrollTo(0, kept.y);
  }

  async function ask() {
    try {
      const answer = await (await fetch("/state", { cache: "no-store" })).json();
      status.textContent = answer.status;
      if (answer.version !== shown && !document.hidden) {
        remember();
        location.reload();
        return;
      }
    } catch {
      status.textContent = "The dashboard has ended; what is shown is its last state.";
    }
    setTimeout(ask, 2000);
  }

  const whenDrawn = () => (document.documentElement.dataset.drawn || !document.querySelector("figure") ? restore() : setTimeout(whenDrawn, 50));
  whenDrawn();
  setTimeout(ask, 2000);
})();
