"use strict";
// The images of a page: cards in a grid of which only the part in sight is in the document.
//
// Texts of the data, names of classes and files, are anybody's: they are put in by textContent, escaped by `plain`.

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  if (tag === "button") element.type = "button";
  return element;
}

// A text without what is not to be seen or turns the direction of writing; the joiners of Persian and emoji stay.
function plain(text) {
  return text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu, (sign) => {
    const code = sign.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + (code - 0xdc00).toString(16); // a byte that is no UTF-8
    return code === 10 ? "\\n" : "\\u{" + code.toString(16) + "}";
  });
}

const whole = (number) => number.toLocaleString("en");
const percent = (share) => (share < 0.005 ? "<1%" : share >= 0.995 ? ">99%" : `${Math.round(share * 100)}%`);

// Thumbnails stand in blocks behind the script, a hundred in each, and are there once the parser has come so far.
class Thumbnails {
  constructor(perBlock) {
    this.perBlock = perBlock;
    this.blocks = [];
  }

  get(number) {
    const block = Math.floor(number / this.perBlock);
    if (!this.blocks[block]) {
      const element = document.getElementById(`thumbnails-${block}`), text = element?.textContent ?? "";
      if (!text.endsWith(";")) return null;
      element.remove(); // one copy is enough
      this.blocks[block] = text.slice(0, -1).split(",");
    }
    return "data:image/jpeg;base64," + this.blocks[block][number % this.perBlock];
  }
}

// Groups of items, {heading, note, numbers}, in rows of equal cards. A place is an item's number in their sequence.
class Grid {
  static GAP = 12;
  static HEADING = 44; // pixels; of the first one without the space above it

  // build(number) makes an item's element; covered() is how much of the window's top and bottom something lies over
  constructor(element, build, covered) {
    Object.assign(this, { element, build, covered, groups: [], numbers: [], rows: [], elements: new Map(), at: 0 });
    let width = 0;
    new ResizeObserver(() => {
      if (element.clientWidth !== width) this.lay((width = element.clientWidth));
    }).observe(element);
    let asked = false;
    addEventListener("scroll", () => {
      if (!asked) requestAnimationFrame(() => ((asked = false), this.render()));
      asked = true;
    }, { passive: true });
    addEventListener("resize", () => this.render());
  }

  show(groups) {
    this.groups = groups;
    this.numbers = groups.flatMap((group) => group.numbers);
    this.at = Math.max(0, Math.min(this.at, this.numbers.length - 1));
    this.lay();
  }

  lay() {
    const width = this.element.clientWidth;
    const least = width < 520 ? 140 : 184;
    this.columns = Math.max(1, Math.floor((width + Grid.GAP) / (least + Grid.GAP)));
    this.width = Math.floor((width - Grid.GAP * (this.columns - 1)) / this.columns);
    const cardHeight = Math.round(this.width * 0.78) + 112;
    let top = 0, place = 0;
    this.rows = [];
    this.rowOf = [];
    for (const group of this.groups) {
      if (group.heading !== undefined) {
        const height = top ? Grid.HEADING : 28;
        this.rows.push({ top, height, group, first: place, count: 0 });
        top += height;
      }
      for (let i = 0; i < group.numbers.length; i += this.columns) {
        const count = Math.min(this.columns, group.numbers.length - i);
        for (let k = 0; k < count; k++) this.rowOf[place + k] = this.rows.length;
        this.rows.push({ top, height: cardHeight, first: place, count });
        place += count;
        top += cardHeight + Grid.GAP;
      }
    }
    this.element.style.height = `${top}px`;
    for (const element of this.elements.values()) element.remove();
    this.elements.clear();
    this.render();
  }

  // Bring what is in sight, and a bit around it, into the document, and take the rest out.
  render() {
    const from = -this.element.getBoundingClientRect().top - 500, to = from + innerHeight + 1000;
    let low = 0, high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].top + this.rows[middle].height < from) low = middle + 1;
      else high = middle;
    }
    const wanted = new Set();
    const added = [];
    for (let r = low; r < this.rows.length && this.rows[r].top < to; r++) {
      const row = this.rows[r];
      for (let k = row.count ? 0 : -1; k < row.count; k++) {
        const key = k < 0 ? `heading ${r}` : row.first + k;
        wanted.add(key);
        if (!this.elements.has(key)) added.push(this.place(row, k, key));
      }
    }
    for (const [key, element] of this.elements) {
      if (!wanted.has(key) && element !== document.activeElement) {
        element.remove();
        this.elements.delete(key);
      }
    }
    this.element.append(...added);
  }

  place(row, k, key) {
    let element;
    if (k < 0) {
      element = make("div", "heading", row.group.heading);
      element.append(make("span", "", row.group.note));
    } else {
      element = this.build(this.numbers[key]);
      element.tabIndex = key === this.at ? 0 : -1;
      element.setAttribute("aria-posinset", key + 1);
      element.setAttribute("aria-setsize", this.numbers.length);
      element.style.left = `${k * (this.width + Grid.GAP)}px`;
      element.style.width = `${this.width}px`;
    }
    element.style.top = `${row.top}px`;
    element.style.height = `${row.height}px`;
    this.elements.set(key, element);
    return element;
  }

  // The item at a place is the one that keys are about; it is scrolled into sight.
  go(place) {
    if (!this.numbers.length) return;
    const before = this.elements.get(this.at);
    if (before) before.tabIndex = -1;
    this.at = Math.max(0, Math.min(place, this.numbers.length - 1));
    const row = this.rows[this.rowOf[this.at]];
    const { top, bottom } = this.covered();
    const start = scrollY + this.element.getBoundingClientRect().top + row.top;
    const highest = start - top - Grid.GAP, lowest = start + row.height + bottom + Grid.GAP - innerHeight;
    if (scrollY > highest || scrollY < lowest) scrollTo(0, scrollY > highest ? highest : lowest);
    this.render();
    const element = this.elements.get(this.at);
    element.tabIndex = 0;
    element.focus({ preventScroll: true });
  }

  // The place a row above or below.
  vertical(step) {
    const own = this.rowOf[this.at];
    if (own === undefined) return 0;
    const column = this.at - this.rows[own].first;
    let r = own + step;
    while (this.rows[r] && !this.rows[r].count) r += step;
    const row = this.rows[r];
    return row ? row.first + Math.min(column, row.count - 1) : this.at;
  }
}
