// The programs of a search, by iteration: verdict, score, the program, and its difference to the best one before.
import { get, link, notice, rounded } from "./parts.js";

export async function programs(place, path) {
  const line = element("p"), box = element("div");
  const open = new Set(); // what is unfolded stays so
  let before = "";
  place.append(line, box);

  async function update() {
    const data = await get("programs", { run: path });
    const text = JSON.stringify(data);
    if (text === before) return;
    before = text;
    const trained = data.programs.filter((one) => one.training);
    line.replaceChildren();
    if (trained.length > 1) {
      const some = trained.sort((a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity)).slice(0, 12);
      line.append(link(some.length < trained.length ? `Compare the trainings of the ${some.length} best` : "Compare their trainings",
        "compare", some.map((one) => ["run", one.training])));
    }
    const groups = new Map();
    for (const one of data.programs) {
      const name = [one.series, one.iteration || one.before || hasIterations(data.programs) ? `iteration ${one.iteration}` : ""]
        .filter(Boolean).join(", ");
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(one);
    }
    box.replaceChildren(...data.problems.map(notice));
    for (const [name, group] of groups) box.append(element("h2", "iteration", name), ...group.map(program));
  }

  const hasIterations = (all) => all.some((one) => one.iteration > 0) || all.every((one) => !one.series);

  function program(one) {
    const key = `${one.purpose} ${one.index}`, made = element("details", "call"), summary = element("summary");
    summary.append(element("span", "index", one.index), " ");
    if (one.outcome) summary.append(element("span", `status ${one.outcome}`, one.outcome), " ");
    if (one.score !== null) summary.append(element("span", "", `score ${rounded(one.score)}`));
    if (one.reason) summary.append(element("span", "begin quiet", one.reason));
    made.append(summary);
    const build = () => {
      if (!made.open || made.childElementCount > 1) return;
      if (one.training) {
        const where = element("p");
        where.append(link("its training", "run", [["run", one.training]]));
        made.append(where);
      }
      if (one.before) {
        const text = one.diff ? `Difference to ${one.before}, the best of the iteration before` : `The same as ${one.before}`;
        const folded = element("details", "inner");
        folded.open = Boolean(one.diff);
        folded.append(element("summary", "", text));
        if (one.diff) folded.append(difference(one.diff));
        made.append(folded);
      }
      made.append(element("p", "role", "program"), element("pre", "code", one.code));
    };
    made.addEventListener("toggle", () => {
      build();
      open[made.open ? "add" : "delete"](key);
    });
    made.open = open.has(key);
    build();
    return made;
  }

  await update();
  return { update };
}

function difference(text) {
  const made = element("pre", "code diff");
  for (const line of text.split("\n").slice(2)) { // without the names of the two
    const kind = { "+": "plus", "-": "minus", "@": "at" }[line[0]] || "";
    made.append(element("span", kind, `${line}\n`));
  }
  return made;
}
