// Curves as SVG: axes with round numbers, a legend, and a reading under the pointer or the arrow keys.
import { rounded, whole } from "./parts.js";

// Okabe and Ito, as in the report's figures; the first one is lighter on dark, the last one the text's own colour
export const COLOURS = ["var(--curve)", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor"];
const DASHES = ["", "7 4", "2 3"];
const LEFT = 64, RIGHT = 14, TOP = 12, BOTTOM = 42, HEIGHT = 320;
const SVG = "http://www.w3.org/2000/svg";

export const colour = (i) => COLOURS[i % COLOURS.length];
export const dash = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];

function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function range(values) {
  const known = values.filter((v) => v !== null && Number.isFinite(v));
  if (!known.length) return [0, 1];
  const low = Math.min(...known), high = Math.max(...known);
  const room = high > low ? 0.05 * (high - low) : Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

// series: [{ name, x, y, colour, dash, faint, level }]; level: a horizontal line at this value. Returns { box, draw }.
export function chart(label, unit) {
  const box = element("figure", "chart"), reading = element("output", "quiet reading"), legend = element("ul", "legend");
  const image = svg("svg", { role: "img", tabindex: "0", height: HEIGHT });
  const heading = element("figcaption", "", label);
  box.append(heading, image, legend, reading);
  let series = [], at = null;

  function draw(next = series) {
    series = next;
    const width = Math.max(300, box.clientWidth - 2);
    const lines = series.filter((one) => one.level === undefined);
    const far = Math.max(1, ...lines.map((one) => one.x.at(-1) ?? 0));
    const [low, high] = range(series.flatMap((one) => (one.level === undefined ? one.y : [one.level])));
    const px = (x) => LEFT + (x / far) * (width - LEFT - RIGHT);
    const py = (y) => TOP + (1 - (y - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    image.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    image.setAttribute("width", width);
    image.setAttribute("aria-label", `${label}: ${lines.map(last).join("; ") || "no value yet"}`);
    const drawn = [];
    for (const y of ticks(low, high, 5)) {
      drawn.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y), class: "grid" }));
      drawn.push(svg("text", { x: LEFT - 8, y: py(y) + 4, class: "right" }, short(y)));
    }
    for (const x of ticks(0, far, Math.min(6, width / 120))) {
      drawn.push(svg("text", { x: px(x), y: HEIGHT - BOTTOM + 18, class: x / far > 0.94 ? "right" : "middle" }, whole(x)));
    }
    drawn.push(svg("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, class: "middle" }, unit));
    for (const one of series) drawn.push(...curve(one, px, py, width));
    image.replaceChildren(...drawn);
    legend.replaceChildren(...series.map(entry));
    if (at !== null) read(at);
  }

  function curve(one, px, py, width) {
    const style = { class: one.faint ? "curve faint" : "curve", stroke: one.colour, "stroke-dasharray": one.dash || "" };
    if (one.level !== undefined) {
      return [svg("line", { ...style, x1: LEFT, x2: width - RIGHT, y1: py(one.level), y2: py(one.level) })];
    }
    const parts = [];
    let pen = "M";
    one.x.forEach((x, i) => {
      if (one.y[i] === null) pen = "M";
      else {
        parts.push(`${pen}${px(x).toFixed(1)} ${py(one.y[i]).toFixed(1)}`);
        pen = "L";
      }
    });
    const dots = one.x.length > 40 ? [] : one.x.flatMap((x, i) => (one.y[i] === null ? []
      : [svg("circle", { cx: px(x), cy: py(one.y[i]), r: 2.5, fill: one.colour })]));
    return [svg("path", { ...style, d: parts.join("") }), ...dots];
  }

  function entry(one) {
    const made = element("li"), line = svg("svg", { width: 26, height: 10, "aria-hidden": "true" });
    line.append(svg("line", { x1: 0, x2: 26, y1: 5, y2: 5, class: one.faint ? "curve faint" : "curve", stroke: one.colour,
      "stroke-dasharray": one.dash || "" }));
    made.append(line, ` ${one.name}`);
    return made;
  }

  function read(x) {
    const far = Math.max(1, ...series.filter((one) => one.x).map((one) => one.x.at(-1) ?? 0));
    at = Math.max(0, Math.min(far, x));
    const texts = series.filter((one) => one.x && one.x.length).map((one) => {
      const i = one.x.reduce((best, value, j) => (Math.abs(value - at) < Math.abs(one.x[best] - at) ? j : best), 0);
      return `${one.name}: ${one.y[i] === null ? "none" : rounded(one.y[i])} at ${whole(one.x[i])}`;
    });
    reading.textContent = texts.join("; ");
    image.querySelector(".cursor")?.remove();
    const place = LEFT + (at / far) * (image.clientWidth - LEFT - RIGHT);
    image.append(svg("line", { class: "cursor", x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM }));
  }

  const reach = () => Math.max(1, ...series.filter((one) => one.x).map((one) => one.x.at(-1) ?? 0));
  image.addEventListener("pointermove", (event) => {
    const left = image.getBoundingClientRect().left + LEFT;
    read(((event.clientX - left) / (image.clientWidth - LEFT - RIGHT)) * reach());
  });
  image.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    read((at ?? (step > 0 ? 0 : reach())) + (step * reach()) / 50);
  });
  const watcher = new ResizeObserver(() => draw());
  watcher.observe(box);
  return { box, draw, name: (text) => { heading.textContent = label = text; } };
}

const last = (one) => `${one.name} ${one.y.length ? `${rounded(one.y.at(-1))} at ${whole(one.x.at(-1))}` : "no value"}`;
const short = (y) => (y || 0).toLocaleString("en-US", { maximumSignificantDigits: 4 });
