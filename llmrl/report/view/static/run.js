// One run: how it stands, its curves, and in parts of their own what its language model was asked and what it wrote.
import { chart, colour } from "./chart.js";
import { age, bar, dollars, duration, get, link, notice, progress, rounded, select, status, titleOf, whole, field }
  from "./parts.js";
import { programs } from "./programs.js";
import { transcript } from "./transcript.js";

const EVALUATED = "evaluation return, greedy", TRAINED = "training return";
const PARTS = { "": curves, transcript, programs, configuration };

export async function run(place, params) {
  const path = params.get("run"), part = params.get("part") || "";
  let data = await get("run", { run: path });
  const title = element("h1", "", titleOf(data.row)), facts = element("dl", "facts"), where = element("p", "quiet", path);
  const parts = element("nav", "parts"), body = element("div"), notices = element("div");
  parts.setAttribute("aria-label", "Parts of the run");
  place.append(title, where, facts, notices, parts, body);
  head();
  const shown = PARTS[part] ? await PARTS[part](body, path, data) : null;
  let reading = false, again = false;

  function head() {
    const { row } = data, state = element("dd"), far = element("dd");
    state.append(status(row));
    far.append(progress(row), bar(row));
    const known = [["status", state], ["progress", far]];
    for (const [name, text] of [
      ["left", duration(row.left_s)], ["return", rounded(row.last)], ["best", rounded(row.best)],
      ["training, last 100 episodes", rounded(row.training)], ["random policy", rounded(data.random)],
      ["model", row.llm ? row.llm.model : ""], ["calls", row.llm ? whole(row.llm.calls) : ""],
      ["failed attempts", row.llm && row.llm.failed ? whole(row.llm.failed) : ""],
      ["unusable answers", row.llm && row.llm.rejected ? whole(row.llm.rejected) : ""], ["USD", dollars(row.llm)],
      ["changed", row.changed ? `${age(row.changed)} ago` : ""],
    ]) if (text) known.push([name, element("dd", "", text)]);
    facts.replaceChildren(...known.map(([name, value]) => {
      const one = element("div");
      one.append(element("dt", "", name), value);
      return one;
    }));
    notices.replaceChildren(...[row.reason, ...data.problems].filter(Boolean).map(notice));
    if (data.error) {
      const more = element("details");
      more.append(element("summary", "", "error.txt"), element("pre", "", data.error));
      notices.append(more);
    }
    const offered = [["", "Curves"]];
    if (data.has_calls) offered.push(["transcript", "Transcript"]);
    if (data.programs) offered.push(["programs", `Programs (${data.programs})`]);
    offered.push(["configuration", "Configuration"]);
    const focused = [...parts.children].indexOf(document.activeElement);
    parts.replaceChildren(...offered.map(([name, text]) => {
      const made = link(text, "run", [["run", path], ...(name ? [["part", name]] : [])]);
      if (name === part) made.setAttribute("aria-current", "page");
      return made;
    }));
    if (focused >= 0) parts.children[focused]?.focus();
  }

  async function update(changed) {
    if (!changed.includes(path)) return;
    again = true;
    if (reading) return;
    reading = true;
    while (again) {
      again = false;
      try {
        data = await get("run", { run: path });
        head();
        if (shown) await shown.update(data);
      } catch (error) {
        notices.replaceChildren(notice(error.message));
      }
    }
    reading = false;
  }
  return { update };
}

// --- curves ---------------------------------------------------------------------------------------------------------

function curves(place, path, data) {
  const unit = data.row.unit, returns = chart("return", unit), other = chart("", unit), chooser = element("div", "filter");
  const none = element("p", "quiet", "No evaluation or episode yet.");
  let chosen = "", offered = "";
  place.append(none, returns.box, chooser, other.box);

  function others() {
    return Object.keys(data.curves).filter((name) => ![EVALUATED, TRAINED].includes(name)).sort();
  }

  function draw() {
    const found = [];
    for (const [name, stroke, faint] of [[TRAINED, "var(--quiet)", true], [EVALUATED, colour(0), false]]) {
      const points = data.curves[name];
      if (points) found.push({ name, x: points[0], y: points[1], colour: stroke, faint });
    }
    none.hidden = returns.box.hidden = false;
    none.hidden = found.length > 0;
    returns.box.hidden = !found.length;
    if (data.random !== null) found.push({ name: "random policy", level: data.random, colour: "currentColor", dash: "7 4" });
    returns.draw(found);
    const names = others();
    chooser.hidden = other.box.hidden = !names.length;
    if (!names.includes(chosen)) [chosen] = names;
    if (offered !== names.join()) {
      offered = names.join();
      chooser.replaceChildren(field("Also logged", select(names.map((name) => [name, name]), chosen, (name) => {
        chosen = name;
        draw();
      })));
    }
    if (names.length) {
      const [x, y] = data.curves[chosen];
      other.name(chosen);
      other.draw([{ name: chosen, x, y, colour: colour(2) }]);
    }
  }
  draw();
  return { update(next) { data = next; draw(); } };
}

// --- configuration --------------------------------------------------------------------------------------------------

function configuration(place, path, data) {
  const made = element("dl", "facts");
  for (const [name, value] of [["code", data.code.join(", ")], ["processor", data.processors.join(", ")],
    ...Object.entries(data.packages)]) {
    const one = element("div");
    one.append(element("dt", "", name), element("dd", "", value));
    made.append(one);
  }
  place.append(made, element("pre", "", JSON.stringify(data.config, null, 2)));
  return null;
}
