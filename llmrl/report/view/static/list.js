// The list of runs: filter, sort, choose some to compare. Rows change in place, so that nothing jumps while one reads.
import { address, age, bar, breakable, cell, dollars, duration, link, nameOf, progress, rounded, scrolling, share, status, table, whole }
  from "./parts.js";

const HEADS = [
  ["", "pick"], ["run", ""], ["env", ""], ["seed", "number"], ["study", "least"], ["status", ""], ["progress", "number"],
  ["left", "number"], ["return", "number"], ["best", "number less"], ["model", "less"], ["calls", "number less"],
  ["USD", "number less"], ["changed", "number less"],
];
const MOST = 12; // runs that are compared
const CAPTION = "All runs, as their files say, and what tells each from others of its kind. Return: the newest greedy "
  + "evaluation, best: the highest one. Left: at the run's own speed. Searches that runs share are listed as studies named artifacts/….";

export function list(place, params, known) {
  const rows = new Map(), picked = new Set(params.getAll("run"));
  let wanted = params.get("status") || "";
  const search = element("input"), count = element("output", "quiet"), chips = element("div", "chips");
  const compare = element("a", "action", "Compare"), exported = element("p", "quiet");
  search.type = "search";
  search.id = "runs-filter";
  search.placeholder = "words that a row has";
  search.value = params.get("words") || "";
  const label = element("label", "", "Filter");
  label.htmlFor = search.id;
  const made = table("runs-table", CAPTION, HEADS, [], remember);
  const line = element("div", "filter");
  line.append(label, search, count, compare);
  const box = scrolling(made, "Runs");
  const title = element("h1", "", "Runs");
  place.append(title, chips, line, box, exported);
  search.addEventListener("input", () => {
    select();
    remember();
  });

  function remember() {
    const kept = [["words", search.value], ["status", wanted], ...[...picked].map((path) => ["run", path])];
    history.replaceState(null, "", address("", kept.filter(([, value]) => value)));
  }

  function mark() {
    const some = picked.size > 1;
    compare.textContent = picked.size ? `Compare (${picked.size})` : "Compare";
    compare.title = some ? "" : "tick two runs or more";
    if (some) compare.href = address("compare", [...picked].map((path) => ["run", path]));
    else compare.removeAttribute("href");
  }

  function pick(row) {
    const made = element("td", "pick"), tick = element("input");
    tick.type = "checkbox";
    tick.checked = picked.has(row.path);
    tick.setAttribute("aria-label", `compare ${row.path}`);
    tick.addEventListener("change", () => {
      if (tick.checked && picked.size >= MOST) tick.checked = false;
      else if (tick.checked) picked.add(row.path);
      else picked.delete(row.path);
      mark();
      remember();
    });
    made.append(tick);
    return made;
  }

  function fixed(row) {
    const name = element("td");
    name.append(link(nameOf(row), "run", [["run", row.path]]), element("span", "differs quiet", row.differs));
    return [pick(row), name, breakable(row.env), cell(whole(row.seed), row.seed, "number"), cell(row.study, undefined, "least")];
  }

  function moving(row) {
    const state = element("td"), far = element("td", "number");
    state.append(status(row));
    if (row.reason) state.append(element("span", "reason quiet", row.reason.split("\n")[0]));
    far.dataset.value = share(row);
    far.append(progress(row), bar(row));
    const llm = row.llm;
    return [
      state, far, cell(duration(row.left_s), row.left_s, "number"), cell(rounded(row.last), row.last, "number"),
      cell(rounded(row.best), row.best, "number less"), cell(llm ? llm.model : "", undefined, "less"),
      cell(llm ? whole(llm.calls) : "", llm ? llm.calls : null, "number less"),
      cell(dollars(llm), llm ? llm.usd : null, "number less"),
      cell(age(row.changed), -row.changed, "number less"),
    ];
  }

  function put(row) {
    const known = rows.get(row.path);
    if (known) {
      const cells = moving(row);
      known.querySelector(".differs").textContent = row.differs;
      cells.forEach((one, i) => known.cells[i + 5].replaceWith(one));
      known.dataset.status = row.status;
      return null;
    }
    const made = element("tr");
    made.dataset.path = row.path;
    made.dataset.status = row.status;
    made.append(...fixed(row), ...moving(row));
    rows.set(row.path, made);
    return made;
  }

  function select() {
    const needed = wordsOf(search.value);
    let visible = 0;
    for (const row of rows.values()) {
      const text = row.textContent.toLowerCase();
      const fits = (!wanted || row.dataset.status === wanted) && needed.every((word) => text.includes(word));
      row.hidden = !fits;
      visible += fits;
    }
    count.textContent = `${whole(visible)} of ${whole(rows.size)} runs`;
  }

  function summarise() {
    const counts = new Map();
    for (const row of rows.values()) counts.set(row.dataset.status, (counts.get(row.dataset.status) || 0) + 1);
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.status : null;
    chips.replaceChildren(...[["", rows.size], ...[...counts].sort()].map(([name, n]) => {
      const chip = element("button", `chip ${name.toLowerCase()}`, `${whole(n)} ${name || "in all"}`);
      chip.type = "button";
      chip.dataset.status = name;
      chip.setAttribute("aria-pressed", wanted === name);
      chip.addEventListener("click", () => {
        wanted = name;
        summarise();
        select();
        remember();
      });
      return chip;
    }));
    if (focused !== null) [...chips.children].find((chip) => chip.dataset.status === focused)?.focus();
  }

  function update(changed, gone) {
    for (const path of gone) {
      rows.get(path)?.remove();
      rows.delete(path);
      picked.delete(path);
    }
    const fresh = changed.map((path) => put(known.rows.get(path))).filter(Boolean);
    made.tBodies[0].append(...fresh);
    const sorted = [...made.tHead.rows[0].cells].findIndex((head) => head.hasAttribute("aria-sort"));
    const active = document.activeElement;
    if (sorted >= 0) {
      order(made, sorted, made.tHead.rows[0].cells[sorted].getAttribute("aria-sort") === "ascending");
      if (active !== document.activeElement) active.focus(); // moving a row takes the focus from it
    }
    summarise();
    select();
    mark();
    title.textContent = rows.size || !known.loaded ? "Runs" : "No run here yet";
    exported.textContent = known.loaded ? `As one file that needs no server: llmrl report ${known.outputs}` : "Reading …";
  }

  const clock = setInterval(() => {
    for (const [path, row] of rows) row.cells[13].textContent = age(known.rows.get(path).changed);
  }, 30000);
  update([...known.rows.keys()], []);
  return { update, close: () => clearInterval(clock) };
}
