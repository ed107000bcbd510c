// Several runs side by side: one panel with a curve for each, and what differs between their configurations.
import { chart, colour, dash } from "./chart.js";
import { cell, field, get, link, progress, rounded, scrolling, select, status, table, titleOf } from "./parts.js";

const FIRST = "evaluation return, greedy";

export async function comparison(place, params) {
  const paths = params.getAll("run");
  place.append(element("h1", "", `${paths.length} runs side by side`));
  if (!paths.length) {
    place.append(element("p", "", "Tick two runs or more in the list, then choose Compare."));
    return {};
  }
  const query = paths.map((path) => ["run", path]);
  let data = await get("compare", query), chosen = FIRST, offered = "", reading = false;
  const units = new Set(data.runs.map((one) => one.row.unit));
  const line = element("div", "filter"), panel = chart("", [...units].join(" or ")), lists = element("div");
  place.append(line, panel.box, lists);

  function draw() {
    const names = [...new Set(data.runs.flatMap((one) => Object.keys(one.curves)))].sort();
    if (!names.includes(chosen)) chosen = names.includes(FIRST) ? FIRST : names[0];
    if (offered !== names.join()) {
      offered = names.join();
      line.replaceChildren(field("Curve", select(names.map((name) => [name, name]), chosen, (name) => {
        chosen = name;
        draw();
      })));
    }
    panel.name(chosen || "no curve yet");
    const labels = labelled(data.runs);
    panel.draw(data.runs.flatMap((one, i) => {
      const points = one.curves[chosen];
      return points ? [{ name: labels[i], x: points[0], y: points[1], colour: colour(i), dash: dash(i) }] : [];
    }));
    const rows = data.runs.map((one, i) => {
      const name = element("td"), state = element("td"), mark = element("span", "swatch");
      mark.style.background = colour(i);
      name.append(mark, link(labels[i], "run", [["run", one.row.path]]));
      state.append(status(one.row));
      return [name, state, cell(progress(one.row), one.row.steps, "number"), cell(rounded(one.row.last), one.row.last, "number"),
        cell(rounded(one.row.best), one.row.best, "number")];
    });
    const heads = [["run", ""], ["status", ""], ["progress", "number"], ["return", "number"], ["best", "number"]];
    const known = [scrolling(table("compared", "Return: the newest greedy evaluation.", heads, rows), "Runs")];
    if (data.differences.length) {
      const differing = data.differences.map(([key, ...values]) => [cell(key), ...values.map((value) => cell(value, undefined, "wide"))]);
      const caption = "What differs between their configurations.";
      known.push(scrolling(table("differences", caption, [["key", ""], ...labels.map((name) => [name, ""])], differing), "Differences"));
    } else known.push(element("p", "quiet", "Their configurations are the same."));
    lists.replaceChildren(...known);
  }

  async function update(changed) {
    if (reading || !changed.some((path) => paths.includes(path))) return;
    reading = true;
    try {
      data = await get("compare", query);
      draw();
    } finally {
      reading = false;
    }
  }
  draw();
  return { update };
}

// Names that tell the runs apart: the id where all else is the same.
function labelled(runs) {
  const names = runs.map((one) => titleOf(one.row));
  return names.map((name, i) => {
    if (names.filter((other) => other === name).length < 2) return name;
    return `${name} (${runs[i].row.path.split("/").at(-1)})`;
  });
}
