"use strict";
// before the page is drawn, so that it does not flash in the other colours
(() => {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
