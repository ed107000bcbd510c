// What the language models cost, by study and model. A search that several runs share counts once.
import { cell, scrolling, table, whole } from "./parts.js";

const HEADS = [["study", ""], ["model", ""], ["runs", "number"], ["calls", "number"], ["prompt tokens", "number"],
  ["answer tokens", "number"], ["USD", "number"], ["failed attempts", "number"], ["unusable answers", "number"]];
const CAPTION = "Calls, tokens and dollars by study and model. A transcript that several runs share, as of a search, counts "
  + "once, in the study named first. USD is unknown where a call has no known price.";

export function costs(place, params, known) {
  const box = element("div");
  place.append(element("h1", "", "Costs"), box);
  let sorting = null;

  function update() {
    const asked = new Map(); // by the run whose calls they are: of copies the one with the most calls
    for (const row of [...known.rows.values()].filter((one) => one.llm)) {
      const before = asked.get(row.asked_in);
      if (!before || row.llm.calls > before.llm.calls) asked.set(row.asked_in, row);
    }
    const groups = new Map();
    for (const row of asked.values()) add(groups, row.study, row.llm);
    const all = new Map();
    for (const row of asked.values()) add(all, "all", row.llm, "");
    const rows = [...groups.values()].map((sum) => cells(sum));
    const made = table("costs-table", CAPTION, HEADS, rows, () => {
      const heads = [...made.tHead.rows[0].cells], column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      sorting = [column, heads[column].getAttribute("aria-sort")];
    });
    for (const sum of all.values()) made.createTFoot().insertRow().append(...cells(sum));
    if (sorting) {
      made.tHead.rows[0].cells[sorting[0]].setAttribute("aria-sort", sorting[1]);
      order(made, sorting[0], sorting[1] === "ascending");
    }
    box.replaceChildren(rows.length ? scrolling(made, "Costs")
      : element("p", "quiet", known.loaded ? "No run has asked a language model." : "Reading …"));
  }
  update();
  return { update };
}

function add(groups, study, usage, model = usage.model) {
  const key = `${study}\n${model}`;
  if (!groups.has(key)) groups.set(key, { study, model, runs: 0, calls: 0, prompt: 0, answer: 0, usd: 0, failed: 0, rejected: 0 });
  const sum = groups.get(key);
  sum.runs += 1;
  sum.calls += usage.calls;
  sum.prompt += usage.prompt_tokens;
  sum.answer += usage.completion_tokens;
  sum.usd = sum.usd === null || usage.usd === null ? null : sum.usd + usage.usd;
  sum.failed += usage.failed;
  sum.rejected += usage.rejected;
}

function cells(sum) {
  const number = (value) => cell(whole(value), value, "number");
  return [cell(sum.study), cell(sum.model), number(sum.runs), number(sum.calls), number(sum.prompt), number(sum.answer),
    cell(sum.usd === null ? "unknown" : sum.usd.toFixed(4), sum.usd, "number"), number(sum.failed), number(sum.rejected)];
}
