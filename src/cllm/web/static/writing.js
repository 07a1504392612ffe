"use strict";
/* Chat and Write: what a token was expected to be, the sheet, and staying at the end of a text. */
window.cllmWriting ??= (() => {
  const percent = (share) => share >= 0.0995 ? `${(share * 100).toFixed(0)} %`
    : share >= 0.00095 ? `${(share * 100).toFixed(1)} %` : "< 0.1 %";
  const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣");
  const make = (tag, parent, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    parent.append(element);
    return element;
  };

  /* The card that says what else might have come. */
  let card = null, shown = null;
  function show(token) {
    if (token === shown) return;
    hide();
    if (!token) return;
    const [name, share, others] = JSON.parse(token.dataset.token);
    card = make("div", document.body, undefined, "cllm-card-token");
    card.setAttribute("role", "status");
    const head = make("div", card, undefined, "cllm-card-head");
    make("b", head, visible(name));
    make("span", head, `${percent(share)} · ${Math.max(0, -Math.log2(share)).toFixed(1)} bits`);
    const list = make("ol", card);
    for (const [other, chance] of others) {
      const row = make("li", list, undefined, other === name ? "is-it" : "");
      make("span", row, visible(other), "name");
      make("i", make("span", row, undefined, "meter")).style.setProperty("--share", chance);
      make("span", row, percent(chance), "value");
    }
    const box = token.getClientRects()[0], size = card.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left), innerWidth - size.width - 8);
    const below = box.bottom + size.height + 8 < innerHeight;
    card.style.left = `${left}px`;
    card.style.top = `${below ? box.bottom + 6 : box.top - size.height - 6}px`;
    shown = token;
    token.classList.add("is-shown");
  }
  function hide() {
    card?.remove();
    shown?.classList.remove("is-shown");
    card = shown = null;
  }
  // Under a text field, too: the sheet's shades lie behind it.
  const tokenAt = (event) => document.elementsFromPoint(event.clientX, event.clientY)
    .find((element) => element.classList.contains("cllm-token")) || null;
  document.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && !event.buttons)
      show(event.target.closest?.(".cllm-text, .cllm-paper") ? tokenAt(event) : null);
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".cllm-text")) show(tokenAt(event));
  });
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => {
    const text = event.target.closest?.(".cllm-text");
    if (event.key === "Escape") hide();
    if (!text || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const tokens = [...text.querySelectorAll(".cllm-token")];
    if (!tokens.length) return;
    const step = event.key === "ArrowRight" ? 1 : -1;
    const at = tokens.indexOf(shown);
    event.preventDefault();
    show(tokens[Math.max(0, Math.min(tokens.length - 1, at < 0 ? 0 : at + step))]);
  });

  /* A text that grows stays in sight for whoever looks at its end. */
  const scroller = () => document.scrollingElement;
  let isAtEnd = true;
  addEventListener("scroll", () => {
    const page = scroller();
    isAtEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 120;
  }, { passive: true });
  // Twice: what comes into sight only then has its true height.
  const toEnd = () => [60, 180].forEach((wait) =>
    setTimeout(() => { scroller().scrollTop = scroller().scrollHeight; }, wait));
  /* What is added above pushes nothing that is being read out of sight. */
  const holdPlace = () => {
    const page = scroller(), height = page.scrollHeight, top = page.scrollTop;
    const list = document.querySelector(".cllm-messages");
    const seen = new MutationObserver(() => {
      seen.disconnect();
      page.scrollTop = top + page.scrollHeight - height;
    });
    if (list) seen.observe(list, { childList: true });
    setTimeout(() => seen.disconnect(), 5000);
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".cllm-earlier .q-btn")) holdPlace();
  }, true);
  new MutationObserver(() => {
    if (isAtEnd && document.querySelector(".cllm-actions.is-live, .cllm-paper.is-locked"))
      scroller().scrollTop = scroller().scrollHeight;
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  /* The outer columns slide over the text of narrow windows: open one, and close it again. */
  const sideOf = (opener) =>
    document.querySelector(opener.matches(".cllm-open-left") ? ".is-left" : ".cllm-side.is-right");
  const openerOf = (side) => document.querySelector(
    side.matches(".is-left") ? ".cllm-open-left" : ".cllm-open-right");
  const closeSide = (side) => {
    side.classList.remove("is-open");
    openerOf(side)?.setAttribute("aria-expanded", "false");
    openerOf(side)?.focus({ preventScroll: true });
  };
  const openSide = () => document.querySelector(".cllm-side.is-open");
  document.addEventListener("click", ({ target }) => {
    const opener = target.closest?.(".cllm-open-left, .cllm-open-right");
    const open = openSide();
    if (open && (opener || target.closest?.(".cllm-side-close"))) closeSide(open);
    if (!opener || sideOf(opener) === open) return;
    const side = sideOf(opener);
    side.classList.add("is-open");
    opener.setAttribute("aria-expanded", "true");
    side.querySelector(".cllm-side-close")?.focus({ preventScroll: true });
  });
  document.addEventListener("keydown", (event) => {
    const open = openSide();
    const isAbove = document.querySelector(".q-menu, .q-dialog");
    if (event.key === "Escape" && open && !isAbove && !event.defaultPrevented) closeSide(open);
  });

  /* How high the composer is: what is told in passing stands above it. */
  const measure = (tries = 100) => {
    const composer = document.querySelector(".cllm-composer");
    if (!composer) { if (tries) setTimeout(measure, 100, tries - 1); return; }
    new ResizeObserver(() => document.documentElement.style.setProperty(
      "--composer", `${composer.offsetHeight}px`)).observe(composer);
  };
  addEventListener("DOMContentLoaded", () => measure());

  /* The sheet. */
  const sheet = (id) => {
    const root = document.getElementById(`c${id}`);
    return root && { root, shades: root.querySelector(".cllm-paper-shades"),
      field: root.querySelector("textarea") };
  };
  // A last line of its own, so that an end of line at the end has its height.
  const pad = (shades) => {
    shades.querySelector(":scope > br")?.remove();
    shades.append(document.createElement("br"));
  };
  function keepShades(shades, text) {
    let at = 0;
    for (const node of [...shades.childNodes]) {
      const piece = node.textContent;
      if (at >= 0 && piece && text.startsWith(piece, at) && node.nodeName !== "BR") at += piece.length;
      else { if (at >= 0) shades.append(text.slice(at)); at = -1; node.remove(); }
    }
    if (at >= 0) shades.append(text.slice(at));
    pad(shades);
  }
  function attach(id, tries = 20) {
    const found = sheet(id);
    if (!found?.field) { if (tries) setTimeout(() => attach(id, tries - 1), 50); return; }
    if (found.root.dataset.attached) return;
    found.root.dataset.attached = "1";
    let timer = null;
    const tell = () => {
      clearTimeout(timer);
      timer = null;
      found.root.dispatchEvent(new CustomEvent("paper", { detail: found.field.value }));
    };
    found.field.addEventListener("input", () => {
      keepShades(found.shades, found.field.value);
      clearTimeout(timer);
      timer = setTimeout(tell, 900);
    });
    found.field.addEventListener("blur", () => { if (timer) tell(); });
    // What was typed before anybody listened.
    if (found.field.value) timer = setTimeout(tell, 900);
  }
  const whenThere = (act) => (id, ...given) => {
    const found = sheet(id);
    if (found?.field) act(found, ...given);
    else setTimeout(() => { const later = sheet(id); if (later?.field) act(later, ...given); }, 120);
  };
  return {
    attach, toEnd,
    text: (id) => sheet(id)?.field.value ?? "",
    show: whenThere(({ shades, field }, text, html) => {
      field.value = text;
      shades.innerHTML = html;
      pad(shades);
    }),
    grow: whenThere(({ shades, field }, text, html) => {
      field.value += text;
      shades.querySelector(":scope > br")?.remove();
      shades.insertAdjacentHTML("beforeend", html);
      pad(shades);
    }),
    lock: whenThere(({ root, field }, is) => {
      field.readOnly = is;
      root.classList.toggle("is-locked", is);
    }),
    focus: whenThere(({ field }) => {
      field.focus({ preventScroll: true });
      field.setSelectionRange(field.value.length, field.value.length);
    }),
  };
})();
