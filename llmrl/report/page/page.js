"use strict";
// Tables sort and filter; what an LLM read and answered is built when it is unfolded. Texts only ever become text
// nodes: an LLM's answer is never parsed as HTML.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- tables ---------------------------------------------------------------------------------------------------------

function sortValue(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
}

function compare(a, b, numeric) {
  return numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true });
}

function order(table, column, rising) {
  const numeric = table.tHead.rows[0].cells[column].classList.contains("number");
  const rows = [...table.tBodies[0].rows];
  rows.sort((x, y) => {
    const a = sortValue(x, column), b = sortValue(y, column);
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stands last, either way
    return rising ? compare(a, b, numeric) : compare(b, a, numeric);
  });
  table.tBodies[0].append(...rows);
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const head = heads[column];
  const rising = head.getAttribute("aria-sort") !== "ascending";
  order(table, column, rising);
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
}

function wordsOf(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

function filter(table, words, count) {
  const needed = wordsOf(words);
  let visible = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !needed.every((word) => text.includes(word));
    visible += !row.hidden;
  }
  count.textContent = `${visible} of ${table.tBodies[0].rows.length} rows`;
}

function makeSortable(table, sorted = () => {}) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", "", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      sort(table, column);
      sorted();
    });
  });
}

document.querySelectorAll("table.sortable").forEach((table) => makeSortable(table));

for (const box of document.querySelectorAll(".filter")) {
  const table = document.getElementById(box.dataset.table);
  box.querySelector("input").addEventListener("input", (event) => filter(table, event.target.value, box.querySelector("output")));
}

// --- transcripts ----------------------------------------------------------------------------------------------------

function transcript(data) {
  return data.calls.map((call) => {
    if (call.gap) return element("p", "quiet", call.gap);
    const one = element("details", "call");
    one.append(element("summary", "", call.title));
    one.addEventListener("toggle", () => {
      if (one.childElementCount > 1) return;
      for (const [role, text] of call.messages) {
        one.append(element("p", "role", role), element("pre", "", data.texts[text]));
      }
      one.append(element("p", "role", "answer"), element("pre", "answer", data.texts[call.answer]));
      for (const line of call.after) one.append(element("p", "quiet", line));
    });
    return one;
  });
}

// --- details beside a transcript ------------------------------------------------------------------------------------

function bars(column, values) {
  const box = element("div", "vector");
  const largest = Math.max(...values.map(Math.abs)) || 1;
  values.forEach((value, i) => {
    const track = element("span", "track"), fill = element("span", "fill");
    const share = column.signed ? Math.abs(value) / largest / 2 : value; // signed bars grow from the middle
    fill.style.width = `${100 * share}%`;
    fill.style.left = column.signed ? `${value < 0 ? 50 - 100 * share : 50}%` : "0";
    track.append(fill);
    box.append(element("span", "", column.bars[i] ?? ""), element("span", "value", value.toFixed(4)), track);
  });
  return box;
}

function cellOf(column, value) {
  if (typeof value === "number") return element("td", "number", value);
  if (!Array.isArray(value)) return element("td", column.bars.length ? "" : "wide", value);
  const cell = element("td");
  cell.append(bars(column, value));
  return cell;
}

function details(data, number) {
  const { columns, rows } = data.details[number];
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const column of columns) {
    const th = element("th", "", column.head);
    th.scope = "col";
    head.append(th);
  }
  for (const one of rows) {
    const row = body.insertRow();
    if (one.gap) {
      const cell = row.insertCell();
      cell.colSpan = columns.length;
      cell.textContent = one.gap;
      continue;
    }
    one.cells.forEach((value, i) => row.append(cellOf(columns[i], value)));
  }
  const scroll = element("div", "scroll");
  scroll.tabIndex = 0;
  scroll.append(table);
  return [scroll];
}

const builders = { transcript, details };
for (const unfolding of document.querySelectorAll("details[data-build]")) {
  unfolding.addEventListener("toggle", () => {
    if (unfolding.dataset.built) return;
    unfolding.dataset.built = "yes";
    const data = JSON.parse(document.getElementById(unfolding.dataset.from).textContent);
    const [build, number] = unfolding.dataset.build.split(" ");
    unfolding.append(...builders[build](data, number));
  });
}
