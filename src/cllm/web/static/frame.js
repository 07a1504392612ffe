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

/* What is written stays when a page is left or loaded anew, for this tab alone: what is not sent
   yet, and all else where the app that it belonged to is gone. What was sent is in no field. */
const cllmKept = (() => {
  const FIELDS = "textarea, input[type=text]:not([role=combobox])", SHEET = ".cllm-paper-field";
  const UNSENT = ".cllm-composer textarea, .cllm-form :is(textarea, input)";
  // The sheet keeps itself on the way; what was typed just before may have been lost.
  const SHEET_MS = 60_000, WAIT_MS = 30_000, AFTER_MS = 10_000;
  const storage = () => `cllm-kept:${location.pathname}${location.search}`;
  const nameOf = (field) => field.ariaLabel || field.placeholder;
  const typed = new WeakMap(), bases = new WeakMap(), placed = new Set();
  let began = null, ended = -Infinity, kept = {}, isPlacing = false, isUsed = false;
  const written = () => [...document.querySelectorAll(FIELDS)]
    .filter((field) => typed.has(field) && field.value);
  document.addEventListener("input", ({ target }) => {
    if (!target.matches?.(FIELDS)) return;
    typed.set(target, Date.now());
    if (!isPlacing) delete kept[nameOf(target)];
  }, true);
  // What a training begins with is used: the page leads to it then.
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.(".cllm-form .q-btn"))
      window.socket?.once("open", ({ path }) => { isUsed = path.includes("?run="); });
  }, true);
  const keep = () => {
    const isCut = began !== null || Date.now() - ended < AFTER_MS, since = began ?? ended;
    const isKept = (field) => field.matches(SHEET) ? isCut && typed.get(field) > since - SHEET_MS
      : isCut || field.matches(UNSENT) && !(isUsed && field.closest(".cllm-form"));
    const found = {};
    for (const [name, told] of Object.entries(kept)) if (isCut || !told[2]) found[name] = told;
    for (const field of document.querySelectorAll(FIELDS)) {
      if (!typed.has(field) || !nameOf(field)) continue;
      const { value } = field;
      if (value && isKept(field))
        found[nameOf(field)] = [value, bases.get(field) ?? "", field.matches(SHEET)];
      else delete found[nameOf(field)];
    }
    // More than a browser keeps: it stays in the page as long as that does.
    try {
      if (Object.keys(found).length) sessionStorage.setItem(storage(), JSON.stringify(found));
      else sessionStorage.removeItem(storage());
    } catch { /* full */ }
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
      isPlacing = true;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      isPlacing = false;
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
    written: () => written().map((field) => field.value),
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
  const COPY = "Copy what I wrote";
  const [title, note] = popup.querySelectorAll("span");
  popup.setAttribute("role", "status");
  // What stands between ` is a command.
  const say = (first, second) => {
    copy.hidden = !cllmKept.written().length;
    if (title.textContent === first && note.dataset.told === second) return;
    title.textContent = first;
    note.dataset.told = second;
    note.replaceChildren(...second.split("`").map((part, at) =>
      at % 2 ? Object.assign(document.createElement("code"), { textContent: part }) : part));
  };
  const copy = Object.assign(document.createElement("button"),
    { type: "button", className: "cllm-copy", textContent: COPY, hidden: true });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(cllmKept.written().join("\n\n"));
      copy.textContent = "Copied";
    } catch { copy.textContent = "This browser does not let it be copied"; }
    setTimeout(() => { copy.textContent = COPY; }, 3000);
  });
  popup.append(copy);
  const gone = () => say("The app does not answer.",
    "It may have been closed, or be busy. What is written here stays; this page goes on by itself.");
  // A file that is served to whoever may see the pages.
  const isAnswered = async () => {
    try {
      const answer = await fetch("/static/app.css", { method: "HEAD", cache: "no-store" });
      return answer.status;
    } catch { return 0; }
  };
  // What works without the app stays as it is.
  const ASKING = ".q-btn:not(.cllm-switcher, .cllm-open-left, .cllm-open-right, .cllm-side-close)";
  const dim = (is) => {
    const all = document.querySelectorAll(is ? `${ASKING}:not([aria-disabled])` : "[data-offline]");
    for (const button of all) {
      button.toggleAttribute("data-offline", is);
      if (is) button.setAttribute("aria-disabled", "true");
      else button.removeAttribute("aria-disabled");
    }
    const switcher = document.querySelector(".cllm-switcher");
    if (is && switcher) {
      switcher.dataset.label ??= switcher.ariaLabel;
      switcher.ariaLabel = switcher.dataset.label.replace(/[^·]*$/, " not connected");
    } else if (switcher?.dataset.label) {
      switcher.ariaLabel = switcher.dataset.label;
      delete switcher.dataset.label;
    }
  };
  let timer = null;
  const look = async () => {
    const status = await isAnswered();
    if (status === 401) {
      say("The app was started anew.",
        "Run `cllm app` once more: it opens the app in your browser with a new link. This page "
        + "goes on then, and what is written here stays.");
    } else if (status === 0) gone();
    else say("The app is back.", "This page goes on in a moment.");
  };
  new MutationObserver(() => {
    const isShown = popup.getAttribute("aria-hidden") === "false";
    document.documentElement.classList.toggle("is-offline", isShown);
    cllmKept.isOffline(isShown);
    dim(isShown);
    if (isShown && timer === null) { gone(); timer = setInterval(look, 2000); }
    if (!isShown && timer !== null) { clearInterval(timer); timer = null; }
  }).observe(popup, { attributes: true, attributeFilter: ["aria-hidden"] });
  const long = document.getElementById("too_long_message_popup")?.querySelectorAll("span");
  if (long?.length === 2) {
    long[0].textContent = "That is too long.";
    long[1].textContent = "What a page sends at once may have 1 MB: it was not kept.";
  }
});
