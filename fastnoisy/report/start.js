// The page of an audit as it opens: head line, filters, matrix, and who listens to what.

const MATRIX = 30; // classes; of more, the pairs that occur are listed
const PAIRS = 300;

function option(value, text) {
  const element = make("option", "", text);
  element.value = value;
  return element;
}

function narrowing(className, text, dataset) {
  const button = make("button", className, text);
  Object.assign(button.dataset, dataset);
  return button;
}

function matrix() {
  const counts = new Map();
  for (const i of flagged) {
    const pair = `${cards[i].given} ${suggestion(cards[i])}`;
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  const most = Math.max(1, ...counts.values());
  return names.length <= MATRIX ? table(counts, most) : pairs(counts, most);
}

function table(counts, most) {
  const element = make("table", names.every((name) => name.length < 3) ? "short" : "");
  const head = make("thead").appendChild(make("tr")), body = make("tbody");
  head.append(make("th"));
  for (let label = 0; label < names.length; label++) {
    const cell = make("th"), button = narrowing("name", nameOf(label), { suggested: label });
    button.title = `Suggested ${nameOf(label)}`;
    cell.append(button);
    head.append(cell);
  }
  for (let given = 0; given < names.length; given++) {
    const row = make("tr"), title = make("th");
    title.append(narrowing("name", nameOf(given), { given }));
    row.append(title);
    for (let suggested = 0; suggested < names.length; suggested++) {
      const cell = make("td", given === suggested ? "same" : ""), count = counts.get(`${given} ${suggested}`);
      if (count) {
        const share = 0.12 + 0.88 * (count / most);
        const button = narrowing(share > 0.78 ? "dense" : "", whole(count), { given, suggested });
        button.style.setProperty("--share", share);
        button.title = `${nameOf(given)} \u2192 ${nameOf(suggested)}: ${whole(count)}`;
        button.setAttribute("aria-label", button.title);
        cell.append(button);
      }
      row.append(cell);
    }
    body.append(row);
  }
  element.append(head.parentNode, body);
  return element;
}

function pairs(counts, most) {
  const element = make("div", "pairs"), found = [...counts].sort((a, b) => b[1] - a[1]);
  for (const [pair, count] of found.slice(0, PAIRS)) {
    const [given, suggested] = pair.split(" ").map(Number);
    const button = narrowing("", undefined, { given, suggested });
    const [from, to] = [nameOf(given), `\u2192 ${nameOf(suggested)}`].map((text) => make("span", "", text));
    button.append(from, to, make("b", "", whole(count)));
    button.style.setProperty("--share", count / most);
    element.append(button);
  }
  const rest = found.length - PAIRS;
  if (rest > 0) element.append(make("p", "fine", `${whole(rest)} rarer pairs: use the filters above`));
  return element;
}

function classes() {
  const element = make("table"), head = make("thead").appendChild(make("tr")), body = make("tbody");
  for (const text of ["class", "images", "wrong", ""]) head.append(make("th", "", text));
  const rate = ({ images, wrong }) => (images ? wrong / images : 0);
  const share = (row) => (row.wrong ? percent(rate(row)) : "0%");
  const order = [...names.keys()].sort((a, b) => rate(data.classes[b]) - rate(data.classes[a]));
  const most = Math.max(0.01, ...data.classes.map(rate));
  for (const given of order) {
    const row = make("tr"), title = make("th"), bar = make("td", "rate", share(data.classes[given]));
    title.append(narrowing("name", nameOf(given), { given }));
    bar.style.setProperty("--share", rate(data.classes[given]) / most);
    const { images, wrong } = data.classes[given];
    row.append(title, make("td", "", whole(images)), make("td", "", whole(Math.round(wrong))), bar);
    body.append(row);
  }
  element.append(head.parentNode, body);
  return element;
}

function head() {
  const rate = (data.rate * 100).toFixed(1);
  document.title = `${plain(data.title)}: label audit`;
  $("title").textContent = plain(data.title);
  const estimate = `${whole(data.wrong)} of ${whole(data.judged)} labels are wrong by estimate (${rate}%)`;
  $("found").textContent = `${estimate}; ${whole(data.flagged)} are flagged`;
  const few = data.images - data.judged;
  $("network").textContent = (few ? `${whole(few)} images are of classes with too few to be judged. ` : "") +
    (flagged.length < data.flagged ? `The ${whole(flagged.length)} most suspect of those flagged are shown. ` : "") +
    `Judged by the features of ${plain(data.network)}`;
  const others = suspects.length - flagged.length;
  $("all-label").hidden = !others;
  const rest = whole(data.judged - data.flagged);
  $("all-text").textContent = `Also the ${whole(others)} most suspect of the ${rest} others`;
}

function tabs() {
  const known = [
    ["suspects", "Suspects", flagged.length],
    ["duplicates", "Duplicates", data.groups.length],
    ["other", "Other", data.remarks.length],
  ];
  const present = known.filter(([name, , count]) => name === "suspects" || count);
  $("tabs").hidden = present.length === 1;
  for (const [name, text, count] of present) {
    const button = make("button", "", `${text} `);
    button.append(make("span", "", whole(count)));
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", "shown");
    button.setAttribute("aria-selected", name === tab);
    button.addEventListener("click", () => {
      tab = name;
      $("all-label").hidden = tab !== "suspects" || suspects.length === flagged.length;
      for (const other of $("tabs").children) other.setAttribute("aria-selected", other === button);
      filter(true);
    });
    $("tabs").append(button);
  }
}

// Keys

const ACTIONS = { r: "right", y: "right", s: "relabel", Enter: "relabel", d: "drop" };
const STEPS = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 };
const VERTICAL = { ArrowDown: 1, ArrowUp: -1 };

function onward(i) {
  grid.go(grid.numbers[grid.at] === i ? grid.at + 1 : grid.at); // where it is filtered out, the next has its place
}

function pressed(event) {
  const { key, target } = event, at = grid.numbers[grid.at];
  if (event.ctrlKey || event.metaKey || event.altKey || $("chooser").open) return;
  if (target.matches("input:not([type=checkbox]), select")) {
    if (key === "Escape") target.blur();
    return;
  }
  if (key === "Enter" && target.matches("button, input")) return;
  if (key in STEPS) grid.go(document.activeElement?.closest(".card") ? grid.at + STEPS[key] : grid.at);
  else if (key in VERTICAL) grid.go(document.activeElement?.closest(".card") ? grid.vertical(VERTICAL[key]) : grid.at);
  else if (key === "u") undo();
  else if (key === "/") $("text").focus();
  else if (at === undefined) return;
  else if (key === "l" || (ACTIONS[key] === "relabel" && suggestion(cards[at]) < 0)) choose(at, () => onward(at));
  else if (key in ACTIONS) {
    act(at, ACTIONS[key], false);
    onward(at);
  } else return;
  event.preventDefault();
}

function chooserPressed(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) mark(chosen + step);
  else if (event.key === "Enter") pick($("chooser-list").children[chosen]);
  else return;
  event.preventDefault();
}

// It opens

const covered = () => ({ top: $("bar").offsetHeight, bottom: $("help").offsetHeight });
const grid = new Grid($("grid"), build, covered);
load();
head();
tabs();
for (const id of ["given", "suggested"]) {
  $(id).append(option("", "any class"), ...names.map((_, label) => option(label, nameOf(label))));
  $(id).addEventListener("change", () => filter(true));
}
$("matrix-title").hidden = $("matrix").hidden = !flagged.length;
$("matrix").append(matrix());
$("classes").append(classes());
$("panel").addEventListener("click", (event) => {
  const button = event.target.closest("[data-given], [data-suggested]");
  if (!button) return;
  const again = button.getAttribute("aria-pressed") === "true";
  for (const id of ["given", "suggested"]) $(id).value = again ? "" : button.dataset[id] ?? "";
  filter(true);
});
$("text").addEventListener("input", () => filter(true));
for (const id of ["unticked", "all"]) $(id).addEventListener("change", () => filter(true));
$("clear").addEventListener("click", clear);
$("export").addEventListener("click", saveCorrections);
$("open-panel").addEventListener("click", () => {
  $("open-panel").setAttribute("aria-expanded", $("panel").classList.toggle("open"));
});
$("grid").addEventListener("click", (event) => {
  const card = event.target.closest(".card"), button = event.target.closest("button");
  if (!card) return;
  const place = [...grid.elements].find(([, element]) => element === card)[0];
  if (!button) return grid.go(place);
  grid.elements.get(grid.at)?.setAttribute("tabindex", -1);
  grid.at = place;
  card.tabIndex = 0;
  act(grid.numbers[place], button.dataset.action, true);
});
$("chooser-text").addEventListener("input", list);
$("chooser").addEventListener("keydown", chooserPressed);
$("chooser").addEventListener("click", (event) => {
  if (event.target === $("chooser")) $("chooser").close();
  else pick(event.target.closest("[data-label]"));
});
addEventListener("keydown", pressed);
addEventListener("storage", (event) => {
  if (event.key !== STORED) return;
  load(); // another tab has gone on
  tell();
  filter();
});
addEventListener("beforeunload", (event) => {
  if (!kept && !exported) event.preventDefault();
});
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--bar", `${$("bar").offsetHeight}px`);
}).observe($("bar"));
filter();
tell();

const late = () => {
  for (const image of document.querySelectorAll("img:not([src])")) fill(image);
};
const waiting = setInterval(late, 100);
addEventListener("DOMContentLoaded", () => {
  clearInterval(waiting);
  late();
});
