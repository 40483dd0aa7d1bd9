// A double click sends a form once. (Whoever has no scripts is safe too: what two requests ask for is done once, but
// the answer of the first is lost, and with it the session that a sign-in has begun.)
"use strict";

(() => {
  const SECONDS = 2;
  const sentAt = new WeakMap();

  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.getAttribute("method") !== "post") return;
    const before = sentAt.get(event.target);
    // Not for good: an answer that never comes must not leave a form that cannot be sent again.
    if (before !== undefined && performance.now() - before < SECONDS * 1000) event.preventDefault();
    else sentAt.set(event.target, performance.now());
  });
})();
