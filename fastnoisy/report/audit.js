// What the page of an audit does: filters, verdicts on labels, and their export as corrections.

const data = JSON.parse(document.getElementById("data").textContent);
const { cards, class_names: names, splits } = data;
const $ = (id) => document.getElementById(id);
const nameOf = (label) => plain(names[label]);
const thumbnails = new Thumbnails(data.chunk);
const suspects = cards.slice(0, data.suspects).map((_, i) => i);
const flagged = suspects.filter((i) => cards[i].flagged);
const suggests = (card) => card.likely.length > 0 && (card.flagged || card.likely[0][1] > card.score);
const suggestion = (card) => (suggests(card) ? card.likely[0][0] : -1);

// Verdicts, by card: "right", "drop", or the number of another class. Rows of one file are corrected as one.

const verdicts = new Map();
const past = [];
const twins = new Map();
const key = (card) => `${card.split} ${card.path}`;
cards.forEach((card, i) => twins.set(key(card), [...(twins.get(key(card)) ?? []), i]));
const together = (i) => twins.get(key(cards[i]));

const STORED = `fastnoisy-audit-${data.digest}`;
let kept = true, exported = true;

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "[]");
    verdicts.clear();
    for (const [i, verdict] of found) if (cards[i]) verdicts.set(i, verdict);
  } catch {
    kept = false;
  }
}

function save() {
  exported = false;
  try {
    localStorage.setItem(STORED, JSON.stringify([...verdicts]));
  } catch {
    kept = false;
  }
  tell();
}

function set(i, verdict) {
  if (verdict === undefined) verdicts.delete(i);
  else verdicts.set(i, verdict === cards[i].given ? "right" : verdict);
}

function judge(i, verdict) {
  past.push(together(i).map((n) => [n, verdicts.get(n)]));
  for (const n of together(i)) set(n, verdict);
  save();
  changed(i);
}

function undo() {
  const before = past.pop();
  if (!before) return;
  for (const [n, verdict] of before) set(n, verdict);
  save();
  changed(before[0][0]);
  const place = grid.numbers.indexOf(before[0][0]);
  if (place >= 0) grid.go(place);
}

function changed(i) {
  if ($("unticked").checked) return filter();
  for (const [place, element] of grid.elements) {
    if (together(i).includes(grid.numbers[place])) paint(element, grid.numbers[place]);
  }
}

// Cards

function build(i) {
  const card = cards[i], [first] = card.likely, element = make("article", "card");
  const [picture, words, actions] = ["picture", "words", "actions"].map((name) => make("div", name));
  const image = make("img");
  image.alt = "";
  image.dataset.number = i;
  fill(image);
  picture.append(image, make("span", "verdict"));
  const path = plain(card.path), cut = path.lastIndexOf("/") + 1, line = make("span", "path");
  const sign = suggests(card) ? "\u2192" : "or";
  const split = splits.length > 1 ? `${plain(splits[card.split])}: ` : "";
  line.append(make("span", "", split + path.slice(0, cut)), make("b", "", path.slice(cut)));
  words.append(
    make("span", "given", nameOf(card.given)), make("span", "percent", card.score === null ? "" : percent(card.score)),
    make("span", suggests(card) ? "suggested" : "other", first ? `${sign} ${nameOf(first[0])}` : ""),
    make("span", "percent", first ? percent(first[1]) : ""), line,
  );
  for (const [name, text, title] of [
    ["right", "Right", "The given label is right"],
    ["relabel", "Relabel", suggests(card) ? `Relabel as ${nameOf(first[0])}` : "Relabel as another class"],
    ["choose", "\u25be", "Relabel as another class"],
    ["drop", "Drop", "Leave the image out"],
  ]) {
    const button = make("button", name, text);
    button.title = title;
    button.setAttribute("aria-label", title);
    button.dataset.action = name;
    actions.append(button);
  }
  const likely = card.likely.map(([label, share]) => `\n${percent(share)} ${nameOf(label)}`);
  words.title = `${path}\ngiven: ${nameOf(card.given)}${likely.join("")}`;
  element.append(picture, words, actions);
  const suggested = suggests(card) ? `, suggested ${nameOf(first[0])}` : "";
  element.setAttribute("aria-label", `${path}, given ${nameOf(card.given)}${suggested}`);
  paint(element, i);
  return element;
}

function fill(image) {
  const url = thumbnails.get(Number(image.dataset.number));
  if (url) image.src = url;
}

function paint(element, i) {
  const verdict = verdicts.get(i), other = typeof verdict === "number";
  element.className = "card" + (verdict === undefined ? "" : ` is-${other ? "relabel" : verdict}`);
  element.querySelector(".verdict").textContent =
    other ? `\u2192 ${nameOf(verdict)}` : { right: "\u2713 right", drop: "dropped" }[verdict] ?? "";
  for (const [name, on] of [["right", verdict === "right"], ["relabel", other], ["drop", verdict === "drop"]]) {
    element.querySelector(`.${name}`).setAttribute("aria-pressed", on);
  }
}

function act(i, action, again) {
  const value = action === "relabel" ? suggestion(cards[i]) : action, now = verdicts.get(i);
  if (action === "choose" || value === -1) choose(i);
  else judge(i, again && (now === value || (action === "relabel" && typeof now === "number")) ? undefined : value);
}

// The list of all classes, the likely ones of an image first

let choosing = -1, chosen = 0, then = null;

function choose(i, next) {
  [choosing, then] = [i, next];
  $("chooser-text").value = "";
  $("chooser").showModal();
  list();
}

function list() {
  const text = fold($("chooser-text").value), card = cards[choosing];
  const likely = new Map(card.likely);
  const order = [...likely.keys(), ...[...names.keys()].filter((label) => !likely.has(label))];
  const found = order.filter((label) => fold(names[label]).includes(text)).slice(0, 300);
  $("chooser-list").replaceChildren(...found.map((label) => {
    const button = make("button", "", nameOf(label)), share = likely.has(label) ? percent(likely.get(label)) : "";
    button.append(make("span", "", label === card.given ? "given" : share));
    button.dataset.label = label;
    button.tabIndex = -1;
    button.setAttribute("role", "option");
    return button;
  }));
  mark(0);
}

function mark(place) {
  const options = $("chooser-list").children;
  chosen = Math.max(0, Math.min(place, options.length - 1));
  for (const [k, option] of [...options].entries()) option.setAttribute("aria-selected", k === chosen);
  options[chosen]?.scrollIntoView({ block: "nearest" });
}

function pick(option) {
  if (!option) return;
  $("chooser").close();
  judge(choosing, Number(option.dataset.label));
  then?.();
}

// Filters

const fold = (text) => text.normalize("NFC").toLowerCase();
let tab = "suspects";

function accepts(i) {
  const card = cards[i];
  card.folded ??= fold(card.path);
  return ($("given").value === "" || card.given === Number($("given").value)) &&
    ($("suggested").value === "" || suggestion(card) === Number($("suggested").value)) &&
    card.folded.includes(fold($("text").value)) && !($("unticked").checked && verdicts.has(i));
}

const ofSuspects = () => ($("all").checked ? suspects : flagged);
const counted = (number) => `${whole(number)} ${number === 1 ? "image" : "images"}`;

// What the tab shows under the filters: of duplicates whole groups, where any of their images passes.
function groups() {
  if (tab === "suspects") return [{ numbers: ofSuspects().filter(accepts) }];
  const found = [];
  if (tab === "duplicates") {
    for (const { kind, cards: numbers, size } of data.groups) {
      const note = size > numbers.length ? `${whole(numbers.length)} of ${counted(size)}` : counted(size);
      if (numbers.some(accepts)) found.push({ heading: plain(kind), note, numbers });
    }
    return found;
  }
  for (const text of new Set(data.remarks.map((remark) => remark.text))) {
    const numbers = data.remarks.filter((remark) => remark.text === text).map((remark) => remark.card).filter(accepts);
    if (numbers.length) found.push({ heading: plain(text), note: counted(numbers.length), numbers });
  }
  return found;
}

function filter(top = false) {
  const found = groups();
  if (top) grid.at = 0;
  grid.show(found);
  if (top) scrollTo(0, Math.min(scrollY, $("shown").getBoundingClientRect().top + scrollY - $("bar").offsetHeight));
  const of = { suspects: ofSuspects(), duplicates: data.groups, other: data.remarks }[tab].length;
  const count = tab === "duplicates" ? found.length : grid.numbers.length;
  const what = { suspects: $("all").checked ? "suspects, most suspect first" : "flagged, most suspect first",
    duplicates: "groups", other: "images" }[tab];
  const out = { suspects: 0, duplicates: data.groups_left_out, other: data.remarks_left_out }[tab];
  const more = out ? `; ${whole(out)} more are not shown` : "";
  $("count-text").textContent = `${count === of ? "" : `${whole(count)} of `}${whole(of)} ${what}${more}`;
  const set = ["given", "suggested", "text"].some((id) => $(id).value !== "") || $("unticked").checked;
  $("clear").hidden = !set;
  for (const button of document.querySelectorAll("[data-given], [data-suggested]")) {
    const pressed = ["given", "suggested"].every((id) => (button.dataset[id] ?? "") === $(id).value);
    button.setAttribute("aria-pressed", pressed);
  }
}

function clear() {
  for (const id of ["given", "suggested", "text"]) $(id).value = "";
  $("unticked").checked = false;
  filter(true);
}

// Progress and export

function tell() {
  const done = flagged.filter((i) => verdicts.has(i)).length, others = verdicts.size - done;
  $("meter").max = Math.max(1, flagged.length);
  $("meter").value = done;
  const beside = others ? `, and ${whole(others)} ${others === 1 ? "other" : "others"}` : "";
  $("done").textContent = `${whole(done)} of ${whole(flagged.length)} looked at${beside}`;
  $("export").disabled = !verdicts.size;
  if (!kept) notice("Progress is not kept: this browser keeps nothing for this page. Export before you close it.");
}

function notice(text, command) {
  $("notice").hidden = false;
  $("notice").textContent = text;
  if (command) $("notice").append(make("code", "", command));
}

const quoted = (cell) => (/[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

// Readers cut spaces off cells; around a path of which they are a part go `./` and `/.`, which mean nothing.
const guarded = (path) => path.replace(/^(?=[\s\x1c-\x1f\x85])/, "./").replace(/(?<=[\s\x1c-\x1f\x85])$/, "/.");

function corrections() {
  const lines = [["path", "split", "label", ...(data.drop_column ? ["drop"] : [])]];
  const written = new Set();
  for (const i of [...verdicts.keys()].sort((a, b) => a - b)) {
    if (written.has(key(cards[i]))) continue;
    written.add(key(cards[i]));
    const rows = together(i), drop = verdicts.get(i) === "drop";
    const other = rows.map((n) => verdicts.get(n)).find((verdict) => typeof verdict === "number");
    const agreed = rows.every((n) => cards[n].given === cards[i].given) ? cards[i].given : -1; // -1: as it is
    const label = other ?? agreed;
    const text = drop ? (data.drop_column ? "" : "drop") : label < 0 ? "" : names[label];
    lines.push([guarded(cards[i].path), splits[cards[i].split], text, ...(data.drop_column ? [String(drop)] : [])]);
  }
  return lines.map((cells) => cells.map(quoted).join(",") + "\r\n").join("");
}

// A text as the bytes it was made of: Python holds bytes that are no UTF-8 as lone surrogates.
function bytes(text) {
  const parts = text.split(/([\udc80-\udcff])/u);
  return parts.map((part, k) => (k % 2 ? new Uint8Array([part.charCodeAt(0) - 0xdc00]) : part));
}

function saveCorrections() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob(bytes(corrections()), { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  exported = true;
  const as = data.numbers_mislead ? " labels_as=name" : "";
  const command = `fastnoisy train folder-nrd --data ${data.store} labels=corrections.csv${as}`;
  notice("Saved corrections.csv. Train with it: ", command);
}
