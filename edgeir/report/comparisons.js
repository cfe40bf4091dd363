"use strict";
// Lays two layers of a comparison over each other, with a divide that a slider, its arrow keys or a pointer move.
(() => {
  for (const figure of document.querySelectorAll(".comparison")) {
    const layers = [...figure.querySelectorAll(".layer")];
    const stage = figure.querySelector(".stage");
    const divide = figure.querySelector(".divide");
    const width = Number(figure.querySelector("img").getAttribute("width"));
    const zoom = figure.querySelector("select");
    const chosen = (side) => layers[Number(figure.querySelector(`input[data-side="${side}"]:checked`).value)];

    const show = () => {
      const [left, right] = [chosen("left"), chosen("right")];
      for (const layer of layers) {
        layer.hidden = layer !== left && layer !== right;
        layer.classList.toggle("left", layer === left && left !== right);
      }
      stage.style.setProperty("--divide", `${divide.value}%`);
      divide.setAttribute("aria-valuetext", `${divide.value} percent ${left.dataset.name}, then ${right.dataset.name}`);
      const times = Number(zoom.value);
      stage.classList.toggle("zoomed", times > 0);
      figure.style.setProperty("--wide", `${times > 0 ? times * width : Math.max(width, 320)}px`);
    };

    const drag = (event) => {
      if (event.type === "pointermove" && event.buttons !== 1) return;
      const box = stage.getBoundingClientRect();
      divide.value = Math.round((100 * (event.clientX - box.left)) / box.width);
      show();
    };
    stage.addEventListener("pointerdown", drag);
    stage.addEventListener("pointermove", drag);
    figure.addEventListener("input", show);
    figure.querySelectorAll(".controls, .divide").forEach((part) => (part.hidden = false));
    figure.classList.add("live");
    show();
  }
})();
