"use strict";
/* Every page: what keyboards and screen readers need of the toolkit's parts. */

/* What closes gives the focus back to what opened it, also where that was drawn anew. */
const cllmFocus = (() => {
  const above = ".q-dialog, .q-menu, .q-notification, .cllm-undo";
  let opener = null, last = null;
  document.addEventListener("focusin", ({ target }) => {
    last = target;
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
  const offer = (id, tries = 10) => {
    const button = document.getElementById(id);
    // Who writes meanwhile goes on writing.
    if (document.activeElement?.matches("input, textarea")) return;
    if (button) button.focus({ preventScroll: true });
    else if (tries) setTimeout(offer, 50, id, tries - 1);
  };
  return {
    offer,
    // Of a bar that is taken away; whoever was elsewhere stays there.
    giveBack: () => { if (last?.closest(".cllm-undo")) setTimeout(giveBack, 60); },
  };
})();

/* Menus: the arrows go from line to line, Home and End to the first and last. */
(() => {
  let pressed = null;
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    pressed = target;
    if (key === "ArrowDown" && target.matches?.("[aria-haspopup=menu]")) {
      event.preventDefault();
      target.click();
    }
    const menu = target.closest?.(".q-menu[role=menu]");
    const lines = menu ? [...menu.querySelectorAll(".q-item[tabindex]")] : [];
    const at = lines.indexOf(document.activeElement), end = lines.length - 1;
    const to = { ArrowDown: at < end ? at + 1 : 0, ArrowUp: at > 0 ? at - 1 : end, Home: 0,
      End: end }[key];
    if (to === undefined || !lines.length) return;
    event.preventDefault();
    lines[to].focus();
  }, true);
  // A key that opened a menu is let go over its first line: nothing was chosen there yet.
  document.addEventListener("keyup", (event) => {
    if (event.target !== pressed && event.target.closest?.(".q-menu .q-item"))
      event.stopImmediatePropagation();
  }, true);
})();

/* Sliders: the toolkit tells of them on an element that never has the focus. */
(() => {
  const TOLD = ["role", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow",
    "aria-valuetext", "aria-orientation"];
  // These come and go: they stay where the toolkit takes them away again.
  const STATES = ["aria-disabled", "aria-readonly"];
  const move = (slider) => {
    const inner = slider.querySelector(".q-slider__track-container");
    if (!inner) return;
    for (const name of TOLD) {
      const told = slider.getAttribute(name);
      if (told === null || told === "none") continue;
      inner.setAttribute(name, told);
      if (name !== "role") slider.removeAttribute(name);
    }
    for (const name of STATES) {
      if (slider.hasAttribute(name)) inner.setAttribute(name, slider.getAttribute(name));
      else inner.removeAttribute(name);
    }
    if (slider.getAttribute("role") !== "none") slider.setAttribute("role", "none");
  };
  addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") {
        if (target.matches(".q-slider")) move(target);
      } else for (const node of addedNodes) {
        if (node.matches?.(".q-slider")) move(node);
        else node.querySelectorAll?.(".q-slider").forEach(move);
      }
    }
  }).observe(document.body,
    { childList: true, subtree: true, attributeFilter: [...TOLD, ...STATES] }));
})();
