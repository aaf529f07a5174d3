// Runs before the first paint, so that a page in the dark does not flash white.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("headrace.theme");
  } catch {
    // Storage may be switched off: the system's choice then holds.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
