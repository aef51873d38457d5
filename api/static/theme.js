// Runs before the first paint, so that a chosen theme never flashes the other one. Everything else is a module.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("ray-history-theme");
  } catch {
    // storage may be forbidden: then the system decides
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
