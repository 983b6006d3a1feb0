
// One listener for the whole page: what is pointed at, or has the focus, is lit together with its box and its masks.
(function () {
  function choose(target) {
    document.querySelectorAll(".on, .choosing").forEach((lit) => lit.classList.remove("on", "choosing"));
    const chosen = target && target.closest && target.closest("[data-crop]");
    if (!chosen) return;
    document.querySelectorAll(`[data-crop="${chosen.dataset.crop}"]`).forEach((own) => own.classList.add("on"));
    const box = document.querySelector(`.box[data-crop="${chosen.dataset.crop}"]`);
    box.closest(".source").classList.add("choosing");
    const level = target.closest(".level");
    if (!level) return;
    level.classList.add("on");
    box.querySelector(`.placed[data-level="${level.dataset.level}"]`).classList.add("on");
  }
  document.addEventListener("pointerover", (event) => choose(event.target));
  document.addEventListener("focusin", (event) => choose(event.target));
  document.documentElement.addEventListener("pointerleave", () => choose(null));
})();
