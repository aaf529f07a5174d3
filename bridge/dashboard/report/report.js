"use strict";
// Lines come and go, tables are filtered, data can be saved. Without scripts the page shows the same.
for (const figure of document.querySelectorAll("figure")) {
  for (const button of figure.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const line of figure.querySelectorAll(`.line[data-line="${button.dataset.line}"]`)) {
        line.classList.toggle("off", !on);
      }
    });
  }
}
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.querySelectorAll(`[data-testid="${input.dataset.filter}"] tbody tr`)];
  input.hidden = false;
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
for (const button of document.querySelectorAll("button.save")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const text = document.getElementById("data").textContent;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "run.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
