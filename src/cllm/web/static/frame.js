"use strict";
/* Every page: answers a click on a link at once, while the next page is on its way. */
(() => {
  const root = document.documentElement;
  const leave = () => root.classList.add("is-leaving");
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const isPlain = link && !event.defaultPrevented && !event.button && !link.target
      && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)
      && !link.hasAttribute("download");
    if (!isPlain || link.origin !== location.origin || link.hash) return;
    leave();
    const nav = link.closest("nav");
    if (!nav) return;
    nav.querySelector("[aria-current]")?.removeAttribute("aria-current");
    link.setAttribute("aria-current", "page");
  });
  addEventListener("beforeunload", leave);
  // Stopped, or come back to.
  addEventListener("pageshow", () => root.classList.remove("is-leaving"));
})();

/* A dialog that closes gives the focus back to what opened it, also where that was drawn anew. */
(() => {
  const above = ".q-dialog, .q-menu, .q-notification, .cllm-undo";
  let opener = null;
  document.addEventListener("focusin", ({ target }) => {
    if (!target.closest(above)) opener = { element: target, label: target.ariaLabel };
  });
  const giveBack = () => {
    if (document.querySelector(".q-dialog") || document.activeElement !== document.body) return;
    const { element, label } = opener ?? {};
    const again = label && document.querySelector(`[aria-label="${CSS.escape(label)}"]`);
    const found = element?.isConnected ? element : again || document.getElementById("content");
    found?.focus({ preventScroll: true });
  };
  addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
    const isClosed = changes.some(({ removedNodes }) => [...removedNodes].some((node) =>
      node.id?.startsWith("q-portal--dialog") || node.classList?.contains("q-dialog")));
    if (isClosed) setTimeout(giveBack, 30);
  }).observe(document.body, { childList: true }));
})();

/* What is written stays when a page is loaded anew, because the app that it belonged to is gone.
   All of it is kept at that moment, for this tab alone: what was sent before is in no field. */
const cllmKept = (() => {
  const FIELDS = "textarea, input[type=text]:not([role=combobox])", SHEET = ".cllm-paper-field";
  // The sheet keeps itself on the way; what was typed just before may have been lost.
  const SHEET_MS = 60_000, WAIT_MS = 30_000, AFTER_MS = 10_000;
  const storage = () => `cllm-kept:${location.pathname}${location.search}`;
  const nameOf = (field) => field.ariaLabel || field.placeholder;
  const typed = new WeakMap(), bases = new WeakMap(), placed = new Set();
  let began = null, ended = -Infinity, kept = {};
  document.addEventListener("input", ({ target }) => {
    if (target.matches?.(FIELDS)) typed.set(target, Date.now());
  }, true);
  const keep = () => {
    if (began === null && Date.now() - ended > AFTER_MS) return;
    const since = began ?? ended;
    const found = { ...kept };
    for (const field of document.querySelectorAll(FIELDS)) {
      const isNew = typed.has(field)
        && (!field.matches(SHEET) || typed.get(field) > since - SHEET_MS);
      const text = field.value;
      if (isNew && text && nameOf(field)) found[nameOf(field)] = [text, bases.get(field) ?? ""];
    }
    // More than a browser keeps: it stays in the page as long as that does.
    try { sessionStorage.setItem(storage(), JSON.stringify(found)); } catch { /* full */ }
  };
  addEventListener("beforeunload", keep);
  addEventListener("pagehide", keep);
  const isFree = (field, text, base) => {
    if (!field.matches(SHEET)) return !field.value;
    if (!field.value) return !location.search || !base;
    return field.value !== text && (field.value === base || text.startsWith(field.value));
  };
  const place = () => {
    for (const field of document.querySelectorAll(FIELDS)) {
      const [text, base] = kept[nameOf(field)] ?? [];
      if (text === undefined || field.readOnly || !isFree(field, text, base)) continue;
      field.value = text;
      placed.add(nameOf(field));
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  addEventListener("DOMContentLoaded", () => {
    kept = JSON.parse(sessionStorage.getItem(storage()) ?? "{}");
    sessionStorage.removeItem(storage());
    if (!Object.keys(kept).length) return;
    // Fields come when they come, and some are drawn again: until a person takes over.
    const seen = new MutationObserver(place);
    seen.observe(document.body, { childList: true, subtree: true });
    const taken = () => placed.forEach((name) => delete kept[name]);
    for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, taken, true);
    setTimeout(() => { seen.disconnect(); kept = {}; }, WAIT_MS);
    place();
  });
  return {
    isOffline: (is) => {
      if (is && began === null) {
        began = Date.now();
        for (const field of document.querySelectorAll(FIELDS)) bases.set(field, field.value);
      } else if (!is && began !== null) [began, ended] = [null, Date.now()];
    },
  };
})();

/* Says calmly that the app does not answer, what that means, and when it is back. */
addEventListener("DOMContentLoaded", () => {
  const popup = document.getElementById("popup");
  if (!popup) return;
  const [title, note] = popup.querySelectorAll("span");
  popup.setAttribute("role", "status");
  const say = (first, second) => {
    if (title.textContent === first && note.textContent === second) return;
    title.textContent = first;
    note.textContent = second;
  };
  const gone = () => say("The app does not answer.",
    "It may have been closed, or be busy. What is written here stays; this page goes on by itself.");
  // A file that is served to whoever may see the pages.
  const isAnswered = async () => {
    try {
      const answer = await fetch("/static/app.css", { method: "HEAD", cache: "no-store" });
      return answer.status;
    } catch { return 0; }
  };
  let timer = null;
  const look = async () => {
    const status = await isAnswered();
    if (status === 401) {
      say("The app was started anew.",
        "Open the address that it said at its start; what is written here stays.");
    } else if (status === 0) gone();
    else say("The app is back.", "This page goes on in a moment.");
  };
  new MutationObserver(() => {
    const isShown = popup.getAttribute("aria-hidden") === "false";
    document.documentElement.classList.toggle("is-offline", isShown);
    cllmKept.isOffline(isShown);
    if (isShown && timer === null) { gone(); timer = setInterval(look, 2000); }
    if (!isShown && timer !== null) { clearInterval(timer); timer = null; }
  }).observe(popup, { attributes: true, attributeFilter: ["aria-hidden"] });
  const long = document.getElementById("too_long_message_popup")?.querySelectorAll("span");
  if (long?.length === 2) {
    long[0].textContent = "That is too long.";
    long[1].textContent = "What a page sends at once may have 1 MB: it was not kept.";
  }
});
