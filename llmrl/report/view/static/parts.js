// What all pages of the view share: requests, links, numbers in words. `element` is the report's (page.js).

export async function get(name, params) {
  const answer = await fetch(`api/${name}?${new URLSearchParams(params)}`);
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error);
  return data;
}

export const address = (page, params = []) => `#/${page}${[...params].length ? `?${new URLSearchParams(params)}` : ""}`;

export function link(text, page, params) {
  const made = element("a", "", text);
  made.href = address(page, params);
  return made;
}

export function notice(text) {
  const made = element("p", "notice", text);
  made.setAttribute("role", "alert");
  return made;
}

export const whole = (value) => (value === null ? "" : value.toLocaleString("en-US"));

export function rounded(value) {
  if (value === null || value === undefined) return "";
  const digits = Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 2 : 4;
  return value.toLocaleString("en-US", { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits });
}

export function dollars(usage) {
  if (!usage) return "";
  if (usage.usd === null) return "unknown";
  return usage.usd === 0 || usage.usd >= 0.005 ? usage.usd.toFixed(2) : usage.usd.toPrecision(2);
}

export function duration(seconds) {
  if (seconds === null) return "";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * length) return `${Math.round(seconds / length)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

export const age = (seconds) => (seconds ? duration(Math.max(0, Date.now() / 1000 - seconds)) : "");
export const nameOf = (row) => `${row.method} · ${row.agent}`;

export function titleOf(row) {
  const candidate = /\/candidates\/(.+)$/.exec(row.path); // of a search; its seed is a hash
  return `${nameOf(row)} · ${row.env} · ${candidate ? `candidate ${candidate[1]}` : `seed ${row.seed}`}`;
}

export function progress(row) {
  const unit = row.unit === "env_steps" ? "" : ` ${row.unit}`;
  if (row.status === "DONE") return row.steps ? `${whole(row.steps)}${unit}` : "";
  // a search counts the steps of all its trainings, its target is of one
  return row.target > row.steps ? `${whole(row.steps)} of ${whole(row.target)}${unit}` : `${whole(row.steps)}${unit}`;
}

export const share = (row) => (row.status === "DONE" ? 1 : row.target ? Math.min(1, row.steps / row.target) : 0);

export function bar(row) {
  const track = element("span", "track"), fill = element("span", "fill");
  fill.style.width = `${100 * share(row)}%`;
  track.append(fill);
  return track;
}

export function status(row) {
  return element("span", `status ${row.status.toLowerCase().replace(/\W/g, "-")}`, row.status);
}

export function cell(text, value, className = "") {
  const made = element("td", className, text);
  if (value !== undefined && value !== null) made.dataset.value = value;
  else if (value === null) made.dataset.value = "";
  return made;
}

// A name that may be broken behind / and _ where a column is narrow.
export function breakable(text) {
  const made = element("td");
  text.split(/(?<=[/_])/).forEach((part, i) => made.append(...(i ? [element("wbr")] : []), part));
  return made;
}

// A table in the report's manner. heads: [text, class of its column]; rows: arrays of cells.
export function table(id, caption, heads, rows, sorted) {
  const made = element("table", "sortable");
  made.id = id;
  made.append(element("caption", "", caption));
  const line = made.createTHead().insertRow();
  for (const [text, className] of heads) {
    const head = element("th", className, text);
    head.scope = "col";
    line.append(head);
  }
  const body = made.createTBody();
  for (const cells of rows) body.insertRow().append(...cells);
  makeSortable(made, sorted);
  return made;
}

export function scrolling(inside, label) {
  const box = element("div", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  box.append(inside);
  return box;
}

export function field(label, input) {
  const made = element("label", "field", label);
  made.append(input);
  return made;
}

export function select(choices, chosen, changed) {
  const made = element("select");
  for (const [value, text] of choices) made.append(new Option(text, value, false, value === chosen));
  made.addEventListener("change", () => changed(made.value));
  return made;
}
