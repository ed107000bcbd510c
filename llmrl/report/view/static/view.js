// The live page: keeps the list of runs as the server tells it, and shows the page that the address names.
import { comparison } from "./compare.js";
import { costs } from "./costs.js";
import { list } from "./list.js";
import { notice } from "./parts.js";
import { run } from "./run.js";

const pages = { "": list, run, compare: comparison, costs };
const main = document.getElementById("main"), live = document.getElementById("live");
const known = { rows: new Map(), outputs: "", loaded: false };
let shown = null; // the page that is shown: { update(changed, gone), close() }
let visit = 0;

async function show() {
  const [, name, query] = /^#?\/?([^?]*)\??(.*)$/.exec(location.hash);
  if (name === "main") return; // the link that skips the header
  const mine = ++visit;
  if (shown && shown.close) shown.close();
  shown = null;
  const place = element("div"), page = pages[name];
  if (!page) {
    main.replaceChildren(notice(`there is no page ${name}`));
    return;
  }
  main.replaceChildren(place);
  for (const one of document.querySelectorAll("nav a")) {
    if (one.getAttribute("href") === `#/${name}`) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  try {
    const made = await page(place, new URLSearchParams(query), known);
    if (mine === visit) shown = made;
    else if (made.close) made.close();
  } catch (error) {
    if (mine === visit) main.replaceChildren(notice(error.message));
  }
}

function listen() {
  const stream = new EventSource("events");
  let whole = true; // the first message of a connection holds all runs
  stream.addEventListener("open", () => {
    whole = true;
    live.textContent = "live";
    live.classList.add("on");
  });
  stream.addEventListener("error", () => {
    live.textContent = "the server does not answer";
    live.classList.remove("on");
  });
  stream.addEventListener("runs", (event) => {
    const news = JSON.parse(event.data);
    const there = new Set(news.rows.map((row) => row.path));
    const gone = whole ? [...known.rows.keys()].filter((path) => !there.has(path)) : news.gone;
    whole = false;
    gone.forEach((path) => known.rows.delete(path));
    news.rows.forEach((row) => known.rows.set(row.path, row));
    known.outputs = news.outputs;
    known.loaded = true;
    document.getElementById("place").textContent = news.outputs;
    const problem = document.getElementById("problem"), texts = [news.problem, ...news.notices].filter(Boolean);
    problem.hidden = !texts.length;
    problem.textContent = texts.join("; ");
    if (shown && shown.update) shown.update([...there], gone);
  });
}

addEventListener("hashchange", async () => {
  await show();
  if (document.activeElement === document.body) main.focus({ preventScroll: true });
});
addEventListener("keydown", (event) => {
  const search = document.querySelector("main input[type=search]");
  if (event.key === "/" && search && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  }
});
show();
listen();
