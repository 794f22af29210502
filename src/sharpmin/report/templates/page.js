"use strict";
(() => {
  const pairs = JSON.parse(document.getElementById("palette").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const fine = matchMedia("(pointer: fine)").matches;
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const plates = [...document.querySelectorAll(".plate")].map((plate) => ({
    hidden: new Set(),
    plots: [...plate.querySelectorAll(".plot")].map((div) => ({ div, source: div.nextElementSibling.textContent })),
    keys: [...plate.querySelectorAll(".legend button")],
  }));

  // the light colours of the figures become the dark ones; arrays of numbers are left alone
  const recolour = (v) => {
    if (typeof v === "string") return dark.matches ? pairs[v] ?? v : v;
    if (Array.isArray(v)) return v.map(recolour);
    if (v === null || typeof v !== "object" || "bdata" in v) return v;
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, recolour(x)]));
  };

  const draw = (plate) => Promise.all(plate.plots.map(({ div, source }) => {
    const { data, layout } = recolour(JSON.parse(source));
    const shown = data.map((trace) => ({ ...trace, visible: !plate.hidden.has(trace.name) }));
    return Plotly.react(div, shown, { ...layout, autosize: true, dragmode: fine ? "zoom" : false }, config);
  }));

  const all = async () => {
    for (const plate of plates) await draw(plate);
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  };

  for (const plate of plates) for (const key of plate.keys) key.addEventListener("click", () => {
    const on = key.getAttribute("aria-pressed") === "true";
    key.setAttribute("aria-pressed", String(!on));
    plate.hidden[on ? "add" : "delete"](key.dataset.name);
    draw(plate);
  });

  // a link into a folded statement unfolds it
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    target?.querySelector("details")?.setAttribute("open", "");
    target?.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  dark.addEventListener("change", all);
  all().then(unfold);
})();
