// The key "/" leads to the search field, unless it is turned off (WCAG 2.1.4); and ids get a button that copies them.
"use strict";

(() => {
  const CHOICE = "wallet.keys";
  const isOff = () => { try { return localStorage.getItem(CHOICE) === "off"; } catch { return true; } };

  document.addEventListener("keydown", (event) => {
    const field = document.querySelector("[data-key='/']");
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !field || isOff()) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  for (const part of document.querySelectorAll("[data-keys-choice]")) {
    const box = part.querySelector("input");
    part.hidden = false;
    box.checked = !isOff();
    box.addEventListener("change", () => {
      if (box.checked) localStorage.removeItem(CHOICE);
      else localStorage.setItem(CHOICE, "off");
    });
  }

  const said = document.querySelector("[data-copied]");
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      said.textContent = `Copied ${button.dataset.copy}.`;
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 2000);
    });
  }
})();
