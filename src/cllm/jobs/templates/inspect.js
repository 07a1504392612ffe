"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const packed = Uint8Array.from(atob(data.attention), (char) => char.charCodeAt(0));
const size = data.tokens.length;
const triangle = (size * (size + 1)) / 2;
const mostBits = Math.log2(data.vocabulary);
const find = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
// From nothing to all, as in the PNG files.
const ramps = {
  light: ["#f1ebdc", "#9fb0b8", "#5d7f91", "#2c4f6b", "#7a3b3f", "#c0492f"],
  dark: ["#171d33", "#3a5a78", "#4f8fa3", "#8fc1a9", "#f0d38a", "#ffb454"],
};
let layer = data.layer, head = data.head, kept = 0, shown = 0;

// The square roots of the weights are packed: what is weak is kept, too.
const root = (l, h, row, column) =>
  packed[(l * data.heads + h) * triangle + (row * (row + 1)) / 2 + column] / 255;
const weight = (l, h, row, column) => root(l, h, row, column) ** 2;
const percent = (share) => share >= 0.0995 ? `${(share * 100).toFixed(0)} %`
  : share >= 0.00095 ? `${(share * 100).toFixed(1)} %` : "< 0.1 %";
const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣");

function make(tag, parent, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

/* The text. Element s is what place s has read: the token that place s − 1 expects. */
const places = [];
function buildText() {
  for (let s = 0; s <= size; s++) {
    const isEdge = s === 0 || data.tokens[s - 1].text === null;
    const text = s === 0 ? (data.read[0] === "⟨start⟩" ? "start" : data.read[0])
      : isEdge ? "what comes next?" : data.tokens[s - 1].text;
    const element = make("span", find("text"), text, s === 0 || isEdge ? "edge" : "");
    element.id = `t${s}`;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", "false");
    if (s > 0) {
      element.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") show(s - 1);
      });
      element.addEventListener("click", () => keep(s - 1));
    } else element.setAttribute("aria-disabled", "true");
    places.push(element);
  }
  find("text").addEventListener("pointerleave", () => show(kept));
  find("text").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 };
    let next = null;
    if (event.key in steps) next = kept + steps[event.key];
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = size - 1;
    if (next === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keep(Math.max(0, Math.min(size - 1, next)));
    places[kept + 1].scrollIntoView({ block: "nearest" });
  });
}

function shade() {
  const kind = document.querySelector("input[name=shade]:checked").value;
  places.forEach((element, s) => {
    let share = 0;
    if (kind === "attention") share = s <= shown ? root(layer, head, shown, s) : 0;
    else if (s > 0) share = Math.min(1, (data.tokens[s - 1][kind] || 0) / mostBits);
    element.style.setProperty("--share", share.toFixed(3));
  });
  find("low").textContent = kind === "attention" ? "ignored" : "0 bits";
  find("high").textContent = kind === "attention" ? "looked at"
    : `${mostBits.toFixed(1)} bits or more`;
}

/* The token in the panel. */
function row(list, name, share, value, isIt) {
  const item = make("li", list, undefined, isIt ? "is-it" : "");
  make("span", item, visible(name), "name").title = name;
  make("i", make("span", item, undefined, "meter")).style.setProperty("--share", share);
  make("span", item, value, "value");
}

function showToken() {
  const token = data.tokens[shown], isNext = token.text === null;
  find("place").textContent = `after ${visible(data.read[shown]).slice(-24)}`;
  find("chosen").textContent = isNext ? "what comes next?" : visible(token.text);
  const share = token.bits === null ? null : 2 ** -token.bits;
  const figures = isNext ? [] : share === null ? ["the vocabulary lacks it"]
    : [percent(share), `${token.bits.toFixed(2)} bits`, `rank ${token.rank.toLocaleString("en")}`,
      `entropy ${token.entropy.toFixed(2)}`];
  find("figures").replaceChildren();
  for (const figure of figures) make("span", find("figures"), figure);
  find("expected").textContent = isNext ? "What is expected" : "What was expected";
  const list = find("alternatives");
  list.replaceChildren();
  token.alternatives.forEach(([name, p], i) => row(list, name, p, percent(p), i + 1 === token.rank));
  if (share !== null && token.rank > token.alternatives.length)
    row(list, token.text, share, percent(share), true);
  showLens(token, isNext);
}

function showLens(token, isNext) {
  const body = find("lens").tBodies[0];
  body.replaceChildren();
  find("lens-bits").textContent = isNext ? "" : "bits";
  token.lens.forEach(([[name, p], bits, rank], l) => {
    const line = make("tr", body);
    make("td", line, l === 0 ? "input" : `layer ${l}`);
    const cell = make("td", line, visible(name), rank === 1 ? "name is-it" : "name");
    cell.title = `${name}  ${percent(p)}`;
    make("td", line, bits === null ? "" : bits.toFixed(1));
    make("td", line, data.norms[l][shown].toFixed(2));
  });
}

/* The maps. */
function colours() {
  return ramps[dark.matches ? "dark" : "light"].map((hex) =>
    [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
}

function paint(canvas, pixels, valueAt) {
  const ramp = colours(), context = canvas.getContext("2d");
  canvas.width = canvas.height = pixels;
  const image = context.createImageData(pixels, pixels);
  for (let y = 0; y < pixels; y++) {
    for (let x = 0; x <= y; x++) {
      const at = valueAt(y, x) * (ramp.length - 1), low = Math.min(ramp.length - 2, at | 0);
      const offset = 4 * (y * pixels + x);
      for (let c = 0; c < 3; c++)
        image.data[offset + c] = ramp[low][c] + (ramp[low + 1][c] - ramp[low][c]) * (at - low);
      image.data[offset + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function paintThumb(canvas, l, h) {
  const pixels = Math.min(size, 64), step = size / pixels;
  paint(canvas, pixels, (y, x) => {
    // The strongest weight of what falls on the dot: a thin line stays one.
    let most = 0;
    for (let r = Math.floor(y * step); r < (y + 1) * step && r < size; r++)
      for (let c = Math.floor(x * step); c < (x + 1) * step && c <= r; c++)
        most = Math.max(most, root(l, h, r, c));
    return most;
  });
}

function buildHeads() {
  const group = find("heads");
  group.style.setProperty("--heads", data.heads);
  for (let l = 0; l < data.layers; l++) {
    for (let h = 0; h < data.heads; h++) {
      const button = make("button", group);
      button.type = "button";
      button.title = `layer ${l + 1}, head ${h + 1}`;
      button.setAttribute("aria-label", button.title);
      paintThumb(make("canvas", button), l, h);
      button.addEventListener("click", () => choose(l, h));
    }
  }
}

function choose(l, h) {
  [layer, head] = [l, h];
  [...find("heads").children].forEach((button, i) =>
    button.setAttribute("aria-pressed", String(i === l * data.heads + h)));
  find("head-name").textContent = `layer ${l + 1}, head ${h + 1}`;
  find("map").setAttribute("aria-label", `Attention of layer ${l + 1}, head ${h + 1}`);
  paint(find("map"), size, (y, x) => root(l, h, y, x));
  note();
  shade();
}

function note(column) {
  const caption = find("map-note");
  let best = column;
  if (best === undefined || best > shown) {
    best = 0;
    for (let s = 1; s <= shown; s++)
      if (weight(layer, head, shown, s) > weight(layer, head, shown, best)) best = s;
  }
  caption.replaceChildren("having read ");
  make("b", caption, visible(data.read[shown]));
  caption.append(column === best ? " it looks at " : " it looks most at ");
  make("b", caption, visible(data.read[best]));
  const back = shown - best;
  const where = back === 0 ? "itself" : back === 1 ? "1 token back" : `${back} tokens back`;
  caption.append(` (${where}): ${percent(weight(layer, head, shown, best))}`);
}

function watchMap() {
  const cell = (event) => {
    const box = find("map").getBoundingClientRect();
    const at = (offset, length) =>
      Math.max(0, Math.min(size - 1, Math.floor((offset / length) * size)));
    return [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
  };
  find("map").addEventListener("pointermove", (event) => {
    const [y, x] = cell(event);
    show(y);
    note(x);
  });
  find("map").addEventListener("pointerleave", () => show(kept));
  find("map").addEventListener("click", (event) => keep(cell(event)[0]));
}

/* Choosing. */
function show(position) {
  places[shown + 1].setAttribute("aria-selected", "false");
  shown = position;
  places[shown + 1].setAttribute("aria-selected", "true");
  find("text").setAttribute("aria-activedescendant", `t${shown + 1}`);
  showToken();
  note();
  if (document.querySelector("input[name=shade]:checked").value === "attention") shade();
}

function keep(position) {
  kept = position;
  show(position);
}

buildText();
buildHeads();
watchMap();
document.querySelectorAll("input[name=shade]").forEach((input) =>
  input.addEventListener("change", shade));
dark.addEventListener("change", () => {
  [...find("heads").children].forEach((button, i) =>
    paintThumb(button.firstChild, Math.floor(i / data.heads), i % data.heads));
  choose(layer, head);
});
// It opens at the greatest surprise; the first token of a text always is one.
keep(data.tokens.reduce((best, token, i) =>
  best === 0 || (token.bits || 0) > (data.tokens[best].bits || 0) ? i : best, 0));
choose(layer, head);
