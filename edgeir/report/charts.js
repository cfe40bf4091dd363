"use strict";
// Draws each figure that stands beside a chart, in the colours of the theme, and again when the theme changes.
(() => {
  const root = document.documentElement;
  const fine = matchMedia("(hover: hover) and (pointer: fine)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  const charts = [...document.querySelectorAll(".chart")].map((place) => ({
    place,
    figure: JSON.parse(place.parentElement.querySelector("script").textContent),
  }));

  // Only what is named a colour is looked up: a text that begins with "--" is a text.
  const coloured = (value, key, style) => {
    if (Array.isArray(value)) return value.map((part) => coloured(part, key, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, coloured(part, name, style)]));
    }
    const named = typeof value === "string" && key.endsWith("color") && value.startsWith("--");
    return named ? style.getPropertyValue(value).trim() : value;
  };

  // A label that would lie on a point or on an earlier label is not shown; hover and the table have them all.
  const unoverlap = (place) => {
    const frame = place.getBoundingClientRect();
    const kept = [...place.querySelectorAll(".points path")]
      .filter((point) => point.style.opacity !== "0")
      .map((point) => point.getBoundingClientRect());
    for (const label of place.querySelectorAll(".textpoint text")) {
      label.style.visibility = "";
      const box = label.getBoundingClientRect();
      const free = kept.every(
        (other) =>
          box.right < other.left || box.left > other.right || box.bottom < other.top || box.top > other.bottom,
      );
      if (free && box.right <= frame.right) kept.push(box);
      else label.style.visibility = "hidden";
    }
  };

  const draw = (width) => {
    const style = getComputedStyle(root);
    for (const { place, figure } of charts) {
      const layout = coloured(figure.layout, "", style);
      if (fine.matches) layout.dragmode = "zoom";
      if (width) layout.width = width;
      Plotly.react(place, coloured(figure.data, "", style), layout, {
        responsive: !width,
        displaylogo: false,
        displayModeBar: fine.matches ? "hover" : false,
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
        doubleClick: "reset",
      });
      unoverlap(place);
    }
  };

  const PAPER_PIXELS = 660; // what fits between the margins of A4 and of Letter
  let closed = [];
  const toPaper = () => {
    if (root.classList.contains("on-paper")) return;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => (part.open = true));
    root.classList.add("on-paper");
    draw(PAPER_PIXELS);
  };
  const fromPaper = () => {
    closed.forEach((part) => (part.open = false));
    root.classList.remove("on-paper");
    draw();
  };

  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", fromPaper);
  paper.addEventListener("change", () => (paper.matches ? toPaper() : fromPaper()));
  dark.addEventListener("change", () => draw());
  if (paper.matches) toPaper();
  else draw();
  for (const { place } of charts) place.on("plotly_afterplot", () => unoverlap(place));
})();
