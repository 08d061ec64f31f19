"use strict";

// the first page draws itself anew when the node says that something has changed
(() => {
  const part = document.getElementById("now");
  const live = document.getElementById("live");
  const text = document.getElementById("live-text");
  const title = document.title;

  const say = (state, words) => {
    live.dataset.state = state;
    text.textContent = words;
  };

  const draw = async (told) => {
    if (told.key !== part.dataset.key) {
      const answer = await fetch("/live/now", { redirect: "manual" });
      if (!answer.ok) return;
      const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      part.innerHTML = await answer.text();
      part.dataset.key = told.key;
      // whoever was on a link by keyboard stays on it
      if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    }
    document.title = told.needs ? `(${told.needs}) ${title}` : title;
    say("on", `live, ${new Date().toLocaleTimeString([], { hour12: false })}`);
  };

  const source = new EventSource("/live/events");
  source.addEventListener("now", (event) => draw(JSON.parse(event.data)));
  source.addEventListener("gone", () => {
    source.close();
    location.href = "/login";
  });
  source.addEventListener("error", () => {
    // what was refused, not broken off, is not asked for again by the browser
    const over = source.readyState === EventSource.CLOSED;
    say("off", over ? "not connected, load this page again" : "not connected, trying again");
  });
})();
