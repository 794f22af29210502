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

  // the light colors of the figures become the dark ones; arrays of numbers are left alone
  const recolor = (v) => {
    if (typeof v === "string") return dark.matches ? pairs[v] ?? v : v;
    if (Array.isArray(v)) return v.map(recolor);
    if (v === null || typeof v !== "object" || "bdata" in v) return v;
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, recolor(x)]));
  };

  // plotly is embedded as base64 of gzip, and runs as a script of the page
  const load = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(plain).text();
    document.head.append(script);
  };
  const ready = load().then(() => true, () => {
    document.body.insertAdjacentHTML("afterbegin",
      '<p class="notice">The figures need a browser of 2023 or newer; the tables do not.</p>');
    return false;
  });

  const draw = (plate) => Promise.all(plate.plots.map(({ div, source }) => {
    const { data, layout } = recolor(JSON.parse(source));
    const shown = data.map((trace) => ({ ...trace, visible: !plate.hidden.has(trace.name) }));
    return Plotly.react(div, shown, { ...layout, autosize: true, dragmode: fine ? "zoom" : false }, config);
  }));

  const all = async () => {
    if (!(await ready)) return;
    for (const plate of plates) await draw(plate);
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  };

  for (const plate of plates) for (const key of plate.keys) key.addEventListener("click", () => {
    const on = key.getAttribute("aria-pressed") === "true";
    key.setAttribute("aria-pressed", String(!on));
    plate.hidden[on ? "add" : "delete"](key.dataset.name);
    ready.then((ok) => ok && draw(plate));
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
