// The page of a picture: the map on a canvas, search, the list of regions. All data are in the page; nothing is asked
// of anybody. Text of a process is put in as text (textContent), never as markup.
"use strict";

(() => {
  const $ = (root, selector) => root.querySelector(selector);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") made.textContent = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // Numbers as vmatlas writes them: see legible.human
  function human(size) {
    if (size < 1024) return String(size);
    let value = size, power = 0;
    while (value >= 1023.5 && power < 6) { value /= 1024; power += 1; }
    const exact = size === Math.trunc(value) * 1024 ** power;
    return (value >= 9.95 || exact ? value.toFixed(0) : value.toFixed(1)) + "KMGTPE"[power - 1];
  }
  const bytes = (size) => (size === null ? "not told" : size === 0 ? "0" : `${human(size)} (${size.toLocaleString("en")})`);
  const percent = (part) => `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`;
  const many = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // Colours: those of the ground that is drawn on. Paper is always white.
  const palettes = JSON.parse($(document, "#palettes").textContent);
  const darkly = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const colours = () => palettes[darkly.matches && !printing ? "dark" : "light"];

  // ---------------------------------------------------------------- one address space

  class Space {
    constructor(data) {
      this.data = data;
      this.count = data.size.length;
      const grain = BigInt(data.grain);
      this.starts = new BigUint64Array(this.count);
      this.sizes = new Float64Array(this.count);
      this.begins = new Float64Array(this.count);
      this.ends = new Float64Array(this.count);
      this.order = Array.from({ length: this.count }, (_, row) => row);
      const first = new Set(data.areas);
      let address = 0n, at = 0;
      this.areas = [];
      for (let row = 0; row < this.count; row += 1) {
        const gap = BigInt(data.gap[row]), size = BigInt(data.size[row]);
        address += gap * grain;
        this.starts[row] = address;
        address += size * grain;
        this.sizes[row] = Number(size * grain);
        if (first.has(row)) {
          if (this.areas.length) this.areas[this.areas.length - 1].end = at;
          const halves = row > 0 && this.starts[row] >= 1n << 63n && this.end(row - 1) < 1n << 63n;
          this.areas.push({ first: row, begin: at, end: at, free: row ? Number(gap * grain) : 0, halves });
        } else if (row) {
          at += Math.min(Number(gap * grain), data.mark);
        }
        this.begins[row] = at;
        at += row in data.drawn ? data.drawn[row] : this.sizes[row];
        this.ends[row] = at;
      }
      if (this.areas.length) this.areas[this.areas.length - 1].end = at;
      this.length = at;
    }

    end(row) { return this.starts[row] + BigInt(this.sizes[row]); }
    range(row) { return `${this.starts[row].toString(16)}-${this.end(row).toString(16)}`; }
    text(column, row) { return this.data.strings[this.data[column][row]]; }
    guess(row) { const index = this.data.guess ? this.data.guess[row] : -1; return index < 0 ? null : this.data.guesses[index]; }
    name(row) { return this.text("name", row) || (this.guess(row) || { label: "" }).label; }
    common(row) { return this.text("name", row) ? this.short(row) : (this.guess(row) || { common: "" }).common; }
    short(row) { const name = this.name(row); return name.startsWith("/") ? name.slice(name.lastIndexOf("/") + 1) || name : name; }
    memory(key, row) {
      const column = this.data.memory[key];
      const value = column === undefined ? null : column[row];
      return value === null ? null : value * this.data.unit;
    }
    used(row) { return this.memory("resident", row); }
    filled(row) { const used = this.used(row); return used === null ? null : Math.min(used / this.sizes[row], 1); }
    sort(row) { return this.data.sorts[this.data.sort[row]]; }

    // The first row that ends beyond a place of the line.
    rowAt(place) {
      let low = 0, high = this.count;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.ends[middle] > place) high = middle; else low = middle + 1;
      }
      return low;
    }
    // The row whose region covers an address; else the first above, and whether it was covered.
    rowOf(address) {
      let low = 0, high = this.count;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.end(middle) > address) high = middle; else low = middle + 1;
      }
      return [low, low < this.count && this.starts[low] <= address];
    }
  }

  // ---------------------------------------------------------------- what is searched for

  const UNITS = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };
  const NUMBERS = {
    size: (space, row) => space.sizes[row],
    used: (space, row) => space.used(row),
    resident: (space, row) => space.used(row),
    private: (space, row) => space.memory("private", row),
    pss: (space, row) => space.memory("proportional", row),
    swap: (space, row) => space.memory("swapped", row),
    dirty: (space, row) => space.memory("dirty", row),
  };

  function condition(word, space) {
    if (word.startsWith("!") && word.length > 1) {
      const inner = condition(word.slice(1), space);
      return (row) => !inner(row);
    }
    if (word.startsWith('"')) return named(word.slice(1).replace('"', "").toLowerCase(), space);
    const number = /^([a-z]+)(>=|<=|>|<|=)([\d.]+)([kmgt]?)$/i.exec(word);
    if (number && NUMBERS[number[1].toLowerCase()]) {
      const tell = NUMBERS[number[1].toLowerCase()], limit = Number(number[3]) * UNITS[number[4].toLowerCase()];
      const holds = {
        ">": (a) => a > limit, "<": (a) => a < limit, ">=": (a) => a >= limit, "<=": (a) => a <= limit, "=": (a) => a === limit,
      }[number[2]];
      return (row) => { const told = tell(space, row); return told !== null && holds(told); };
    }
    if (/^[r-][w-][x-]$/.test(word)) return (row) => space.text("rights", row).startsWith(word);
    if (/^r?w?x?$/.test(word) && word) return (row) => [...word].every((letter) => space.text("rights", row).slice(0, 3).includes(letter));
    const lower = word.toLowerCase();
    if (lower === "shared") return (row) => space.text("rights", row)[3] === "s";
    if (lower === "private") return (row) => space.text("rights", row)[3] === "p";
    if (lower === "nameless") return (row) => !space.name(row);
    if (lower === "guess") return (row) => space.guess(row) !== null;
    const sort = space.data.sorts.findIndex((each) => each.key === lower);
    if (sort >= 0) return (row) => space.data.sort[row] === sort;
    const address = /^(0x)?([0-9a-f]{4,16})$/i.exec(word);
    const [at, covered] = address ? space.rowOf(BigInt(`0x${address[2]}`)) : [0, false];
    if (address && (covered || address[1])) return (row) => covered && row === at;
    return named(lower, space);
  }

  function named(lower, space) {
    const has = (told) => told.toLowerCase().includes(lower);
    return (row) => has(space.name(row)) || has(space.common(row)) || space.range(row).includes(lower);
  }

  function search(words, space) {
    // What stands within quotes is one name, whatever its words mean elsewhere.
    const told = words.match(/!?"[^"]*"?|[^\s,]+/g) || [];
    const all = told.filter((word) => !/^!?"*$/.test(word)).map((word) => condition(word, space));
    return all.length ? (row) => all.every((holds) => holds(row)) : null;
  }

  // ---------------------------------------------------------------- the map

  const LABEL = 14, BAR = 17, PITCH = 38, HEADING = 22, GUTTER = 122;

  class Ribbon {
    constructor(view, root) {
      this.view = view;
      this.space = view.space;
      this.box = $(root, ".ribbon");
      this.canvas = $(root, "canvas");
      this.tag = $(root, ".tag");
      this.zoom = 1;
      this.hovered = -1;
      this.pending = 0;
      this.box.addEventListener("scroll", () => this.later());
      new ResizeObserver(() => { if (!printing) this.resize(); }).observe(this.box);
      this.canvas.addEventListener("pointermove", (event) => this.hover(event));
      this.canvas.addEventListener("pointerleave", () => this.leave());
      this.canvas.addEventListener("click", (event) => { const row = this.hit(event); if (row >= 0) view.choose(row); });
      this.canvas.addEventListener("dblclick", (event) => this.zoomAt(event, 4));
      this.box.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoomAt(event, event.deltaY < 0 ? 1.25 : 0.8);
      }, { passive: false });
      this.box.addEventListener("keydown", (event) => this.key(event));
      darkly.addEventListener("change", () => this.later());
      this.resize();
    }

    // How the line is cut into rows of the present width, at the present zoom.
    lay() {
      const style = this.box.getBoundingClientRect();
      this.width = Math.max(Math.floor(this.box.clientWidth || style.width), 60);
      this.gutter = this.width > 640 ? GUTTER : 0;
      this.inner = this.width - this.gutter - 2;
      const target = Math.max(Math.floor(Math.min(innerHeight * 0.62, 640) / PITCH), this.space.areas.length * 1.6 + 6);
      const lines = (scale) => this.space.areas.reduce(
        (sum, area) => sum + Math.max(Math.ceil((area.end - area.begin) / scale / this.inner), 1) + (area.free ? 0.6 : 0), 0);
      let low = this.space.data.page / 14, high = Math.max(this.space.length / this.inner, low);
      if (lines(low) > target) {
        for (let step = 0; step < 40; step += 1) {
          const middle = Math.sqrt(low * high);
          if (lines(middle) > target) low = middle; else high = middle;
        }
        low = high;
      }
      this.fit = low;
      // A page need not be wider than 40 pixels, and a browser's page not higher than some millions.
      const most = Math.max(this.fit / (this.space.data.page / 40), 1);
      const highest = this.inner * 200000 / Math.max(this.space.length / this.fit, 1);
      this.most = Math.max(Math.min(most, highest), 1);
      this.zoom = Math.min(Math.max(this.zoom, 1), this.most);
      this.scale = this.fit / this.zoom;
      let top = 2;
      for (const area of this.space.areas) {
        area.top = top;
        area.lines = Math.max(Math.ceil((area.end - area.begin) / this.scale / this.inner - 1e-9), 1);
        area.heading = area.free || this.gutter === 0 ? HEADING : 0;
        top += area.heading + area.lines * PITCH;
      }
      this.height = top + 6;
    }

    resize() {
      this.lay();
      const view = printing ? Math.min(this.height, 4000) : Math.min(this.height, Math.max(innerHeight * 0.72, 160));
      this.seen = view;
      const ratio = printing ? 3 : devicePixelRatio || 1;
      this.canvas.width = Math.round(this.width * ratio);
      this.canvas.height = Math.round(view * ratio);
      this.canvas.style.height = `${view}px`;
      this.canvas.style.width = `${this.width}px`;
      this.ratio = ratio;
      $(this.box, ".spacer").style.height = `${Math.max(this.height - view, 0)}px`;
      this.draw();
    }

    later() {
      if (!this.pending) this.pending = requestAnimationFrame(() => { this.pending = 0; this.draw(); });
    }

    draw() {
      const context = this.canvas.getContext("2d");
      const palette = this.palette = colours();
      const top = printing ? 0 : this.box.scrollTop;
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.clearRect(0, 0, this.width, this.seen);
      context.translate(0, -top);
      this.hatch = hatching(context, palette);
      for (const area of this.space.areas) {
        const first = area.top + area.heading;
        if (area.top > top + this.seen || first + area.lines * PITCH < top) continue;
        if (area.heading) this.heading(context, area);
        const from = Math.max(Math.floor((top - first) / PITCH), 0);
        const to = Math.min(Math.ceil((top + this.seen - first) / PITCH), area.lines);
        for (let line = from; line < to; line += 1) this.line(context, area, line, first + line * PITCH);
      }
    }

    heading(context, area) {
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = this.palette.quiet;
      const words = area.free ? (area.halves ? "the kernel's half of the addresses" : `${human(area.free)} of free addresses`) : "";
      const where = this.gutter ? "" : `${this.space.starts[area.first].toString(16)}  `;
      context.fillText(where + words, this.gutter, area.top + 14);
    }

    line(context, area, number, y) {
      const space = this.space, palette = this.palette, scale = this.scale, left = this.gutter;
      const begin = area.begin + number * this.inner * scale;
      const end = Math.min(begin + this.inner * scale, area.end);
      let row = space.rowAt(begin);
      const bar = y + LABEL;
      // Free addresses between regions: a thin line, so that what lies near stays together.
      context.fillStyle = palette.rule;
      context.fillRect(left, bar + BAR / 2 - 0.5, (end - begin) / scale, 1);
      if (this.gutter && row < space.count) {
        context.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
        context.fillStyle = palette.quiet;
        context.textAlign = "right";
        context.fillText(this.addressAt(row, begin).toString(16), left - 10, bar + BAR / 2 + 4);
        context.textAlign = "left";
      }
      const matches = this.view.matches;
      let small = null; // regions too small to be seen, of one pixel
      const flush = () => {
        if (small === null) return;
        let best = -1;
        for (const sort of small.parts.keys()) if (best < 0 || small.parts.get(sort) > small.parts.get(best)) best = sort;
        const total = [...small.parts.values()].reduce((sum, part) => sum + part, 0);
        context.globalAlpha = matches && !small.match ? 0.13 : 1;
        this.fill(context, best, left + small.x, bar, 1, small.told ? small.used / total : null);
        small = null;
      };
      const labels = [];
      for (; row < space.count && space.begins[row] < end; row += 1) {
        const x = Math.max((space.begins[row] - begin) / scale, 0);
        const to = Math.min((space.ends[row] - begin) / scale, this.inner);
        const width = to - x, match = !matches || matches[row] === 1;
        if (width < 1) {
          const pixel = Math.floor(x), sort = space.data.sort[row];
          if (small !== null && small.x !== pixel) flush();
          if (small === null) small = { x: pixel, parts: new Map(), used: 0, told: false, match: false };
          small.parts.set(sort, (small.parts.get(sort) || 0) + width);
          const filled = space.filled(row);
          if (filled !== null) { small.told = true; small.used += filled * width; }
          small.match = small.match || match;
          continue;
        }
        flush();
        context.globalAlpha = match ? 1 : 0.13;
        this.piece(context, row, left + x, bar, width, begin, end);
        const label = space.short(row);
        if (label) labels.push({ label, common: space.common(row), x, to, match, many: 1 });
      }
      flush();
      context.font = "11px system-ui, sans-serif";
      for (const { label, x, to, match, many } of called(labels)) {
        if (to - x < 18) continue;
        context.globalAlpha = match ? 1 : 0.25;
        context.fillStyle = palette.ink;
        const shown = cut(many > 1 ? `${many} \u00d7 ${label}` : label, roomOf(x, to));
        if (shown) context.fillText(shown, left + x, y + 11);
      }
      context.globalAlpha = 1;
    }

    // A region, or what of it stands in this row.
    piece(context, row, x, y, width, begin, end) {
      const space = this.space, palette = this.palette, sort = space.data.sort[row];
      const seam = width >= 5 ? 1 : 0; // neighbours stay apart
      const marks = space.data.marks ? space.data.marks[row] || [] : null;
      this.fill(context, sort, x, y, width - seam, marks === null ? space.filled(row) : 0);
      if (marks !== null && space.sizes[row]) {
        const shrunk = (space.ends[row] - space.begins[row]) / space.sizes[row];
        const solid = palette.sorts[space.data.sorts[sort].key];
        for (let index = 0; index < marks.length; index += 3) {
          const low = space.begins[row] + marks[index] * space.data.grain * shrunk;
          const high = low + marks[index + 1] * space.data.grain * shrunk;
          if (high <= begin || low >= end) continue;
          const from = Math.max(x, this.gutter + (low - begin) / this.scale);
          const to = Math.min(x + width - seam, this.gutter + (high - begin) / this.scale);
          this.mark(context, marks[index + 2], solid, from, y, Math.max(to - from, 0.6));
        }
      }
      if (row in space.data.drawn && width > 26) { // folded: not to scale
        const middle = x + width / 2;
        context.strokeStyle = palette.paper;
        context.lineWidth = 3;
        context.beginPath();
        for (const offset of [-4, 3]) {
          context.moveTo(middle + offset - 3, y + BAR + 1);
          context.lineTo(middle + offset + 4, y - 1);
        }
        context.stroke();
      }
      if (row === this.view.chosen || row === this.hovered) {
        context.globalAlpha = 1;
        context.strokeStyle = palette.ink;
        context.lineWidth = row === this.view.chosen ? 2 : 1;
        context.strokeRect(x - 0.5, y - 1, Math.max(width - seam + 1, 3), BAR + 2);
      }
    }

    // Light where addresses are mapped, full where memory is in use: from below, where the place is not told.
    fill(context, sort, x, y, width, part) {
      const key = this.space.data.sorts[sort].key, colour = this.palette.sorts[key];
      const before = context.globalAlpha;
      context.globalAlpha = 1;
      context.fillStyle = this.palette.paper; // over the line of free addresses
      context.fillRect(x, y, width, BAR);
      context.globalAlpha = before;
      if (key === "reserved") {
        context.fillStyle = colour;
        context.fillRect(x, y, width, BAR);
        if (width > 4) { context.fillStyle = this.hatch; context.fillRect(x, y, width, BAR); }
        return;
      }
      context.fillStyle = colour;
      if (part === null) { context.globalAlpha = before * 0.62; context.fillRect(x, y, width, BAR); context.globalAlpha = before; return; }
      context.globalAlpha = before * 0.3;
      context.fillRect(x, y, width, BAR);
      context.globalAlpha = before;
      const height = part > 0 ? Math.max(BAR * part, 1) : 0;
      context.fillRect(x, y + BAR - height, width, height);
    }

    mark(context, what, solid, x, y, width) {
      if (what === 3) { // a guard
        context.fillStyle = this.palette.paper;
        context.fillRect(x, y, width, BAR);
        context.fillStyle = this.palette.ink;
        context.fillRect(x, y, width, 2);
        context.fillRect(x, y + BAR - 2, width, 2);
        return;
      }
      context.fillStyle = solid;
      if (what === 2) context.fillRect(x, y, width, BAR / 3); // in swap: lifted off the ground
      else if (what === 4) context.fillRect(x, y + BAR - 3, width, 3); // the page of zeros
      else context.fillRect(x, y, width, BAR);
    }

    addressAt(row, place) {
      const space = this.space;
      if (place <= space.begins[row]) return space.starts[row];
      const part = (place - space.begins[row]) / (space.ends[row] - space.begins[row]);
      const page = space.data.page;
      return space.starts[row] + BigInt(Math.floor(part * space.sizes[row] / page) * page);
    }

    placeOf(event) {
      const box = this.canvas.getBoundingClientRect();
      const x = event.clientX - box.left - this.gutter, y = event.clientY - box.top + this.box.scrollTop;
      const area = this.space.areas.find((each) => y >= each.top && y < each.top + each.heading + each.lines * PITCH);
      if (!area || x < 0) return null;
      const line = Math.floor((y - area.top - area.heading) / PITCH);
      if (line < 0) return null;
      const place = area.begin + (line * this.inner + x) * this.scale;
      return place < area.end ? place : null;
    }

    hit(event) {
      const place = this.placeOf(event);
      if (place === null) return -1;
      const slack = 2 * this.scale, row = this.space.rowAt(place);
      if (row < this.space.count && this.space.begins[row] <= place + slack) return row;
      return row > 0 && place - this.space.ends[row - 1] <= slack ? row - 1 : -1;
    }

    hover(event) {
      const row = this.hit(event);
      this.tag.hidden = row < 0;
      if (row >= 0) {
        const place = this.placeOf(event);
        this.tag.textContent = `${this.addressAt(row, place === null ? 0 : place).toString(16)}  ${human(this.space.sizes[row])}  ${this.space.text("rights", row)}  ${this.space.short(row) || this.space.sort(row).label}`;
        const wide = this.tag.offsetWidth;
        this.tag.style.left = `${Math.max(Math.min(event.clientX + 12, innerWidth - wide - 8), 4)}px`;
        this.tag.style.top = `${event.clientY + 16}px`;
      }
      if (row !== this.hovered) {
        this.hovered = row;
        this.view.tell(row >= 0 ? row : this.view.chosen);
        this.later();
      }
    }

    leave() {
      this.tag.hidden = true;
      if (this.hovered >= 0) { this.hovered = -1; this.view.tell(this.view.chosen); this.later(); }
    }

    topOf(place) {
      const area = this.space.areas.find((each) => place <= each.end) || this.space.areas[this.space.areas.length - 1];
      return area ? area.top + area.heading + Math.floor((place - area.begin) / this.scale / this.inner) * PITCH : 0;
    }

    show(row) {
      const top = this.topOf(this.space.begins[row]);
      if (top < this.box.scrollTop || top + PITCH > this.box.scrollTop + this.seen) this.box.scrollTop = Math.max(top - this.seen / 3, 0);
      this.later();
    }

    zoomAt(event, factor) {
      const place = this.placeOf(event);
      const offset = event.clientY - this.canvas.getBoundingClientRect().top;
      this.setZoom(this.zoom * factor, place, offset);
    }

    setZoom(zoom, place = null, offset = this.seen / 3) {
      const chosen = this.view.chosen;
      const kept = place !== null ? place : chosen >= 0 ? this.space.begins[chosen] : null;
      this.zoom = zoom;
      this.resize();
      this.box.scrollTop = kept === null ? 0 : Math.max(this.topOf(kept) - offset, 0);
      this.view.toldZoom();
      this.later();
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const chosen = this.view.chosen, count = this.space.count;
      const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -count, End: count };
      if (event.key in steps && count) {
        this.view.choose(this.view.step(chosen, steps[event.key]));
      } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count) {
        const place = chosen < 0 ? 0 : this.space.begins[chosen] + (event.key === "ArrowDown" ? 1 : -1) * this.inner * this.scale;
        this.view.choose(Math.min(Math.max(this.space.rowAt(Math.max(place, 0)), 0), count - 1));
      } else if (event.key === "+" || event.key === "=") this.setZoom(this.zoom * 1.5);
      else if (event.key === "-") this.setZoom(this.zoom / 1.5);
      else if (event.key === "0") this.setZoom(1);
      else if (event.key === "Enter" && chosen >= 0) this.setZoom(this.zoom * 4);
      else if (event.key === "Escape") this.view.choose(-1);
      else return;
      event.preventDefault();
    }
  }

  // Words of a treemap that are longer than their cell end in an ellipsis.
  function fit(tree) {
    for (const text of tree.querySelectorAll("text")) {
      const whole = text.dataset.whole || (text.dataset.whole = text.textContent);
      text.textContent = whole;
      const room = text.ownerSVGElement.getBoundingClientRect().width - 9, long = text.getComputedTextLength();
      if (long > room) text.textContent = cut(whole, Math.floor((whole.length * room) / long));
    }
  }

  const roomOf = (x, to) => Math.floor((to - x - 3) / 5.7);

  // Neighbours of one name have it once; those whose own names have no room, what they have in common, and their number.
  function called(labels) {
    const joined = (all, count) => {
      const found = [];
      for (const each of all) {
        const last = found[found.length - 1];
        if (last && last.label === each.label && each.x - last.to < 12) {
          last.to = each.to; last.match = last.match || each.match;
          if (count) last.many += each.many;
        } else found.push(each);
      }
      return found;
    };
    const once = joined(labels, false);
    for (const each of once) if (each.label.length > roomOf(each.x, each.to)) each.label = each.common;
    return joined(once, true);
  }

  function cut(text, room) {
    if (text.length <= room) return text;
    return room < 4 ? "" : `${text.slice(0, room - 1)}\u2026`;
  }

  function hatching(context, palette) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const brush = tile.getContext("2d");
    brush.strokeStyle = palette.quiet;
    brush.globalAlpha = 0.55;
    brush.lineWidth = 1;
    brush.beginPath();
    brush.moveTo(-1, 7); brush.lineTo(7, -1); brush.moveTo(-4, 4); brush.lineTo(4, -4); brush.moveTo(2, 10); brush.lineTo(10, 2);
    brush.stroke();
    return context.createPattern(tile, "repeat");
  }

  // ---------------------------------------------------------------- the list of regions

  const ROW = 24;

  class List {
    constructor(view, root) {
      this.view = view;
      this.box = $(root, ".list");
      this.body = $(this.box, "tbody");
      this.empty = $(root, ".list-empty");
      this.by = "start";
      this.down = false;
      for (const button of this.box.querySelectorAll("thead button")) {
        button.addEventListener("click", () => this.sortBy(button.dataset.by));
      }
      this.box.addEventListener("scroll", () => this.draw());
      new ResizeObserver(() => this.draw()).observe(this.box);
      this.body.addEventListener("click", (event) => {
        const line = event.target.closest("tr[data-row]");
        if (line) view.choose(Number(line.dataset.row));
      });
      this.box.addEventListener("keydown", (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step === undefined || event.target !== this.box || !this.rows.length) return;
        event.preventDefault();
        const at = this.rows.indexOf(view.chosen);
        view.choose(this.rows[Math.min(Math.max(at < 0 ? 0 : at + step, 0), this.rows.length - 1)]);
      });
      this.fill();
    }

    value(row) {
      const space = this.view.space;
      if (this.by === "size") return space.sizes[row];
      if (this.by === "name") return space.name(row);
      if (this.by === "sort") return space.sort(row).label;
      if (this.by === "rights") return space.text("rights", row);
      return space.memory(this.by, row);
    }

    sortBy(by) {
      this.down = by === this.by ? !this.down : !["start", "name", "sort", "rights"].includes(by);
      this.by = by;
      for (const head of this.box.querySelectorAll("thead th")) {
        const button = $(head, "button");
        if (!button) continue;
        if (button.dataset.by === by) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
      this.fill();
      this.box.scrollTop = 0;
    }

    fill() {
      const matches = this.view.matches;
      this.rows = matches ? this.view.space.order.filter((row) => matches[row] === 1) : [...this.view.space.order];
      if (this.by !== "start") {
        const values = new Map(this.rows.map((row) => [row, this.value(row)]));
        const sign = this.down ? -1 : 1;
        this.rows.sort((one, other) => {
          const a = values.get(one), b = values.get(other);
          if (a === b) return one - other;
          if (a === null || a === "") return 1; // what is not told stands last, whatever the order
          if (b === null || b === "") return -1;
          return a < b ? -sign : sign;
        });
      } else if (this.down) this.rows.reverse();
      this.empty.hidden = this.rows.length > 0;
      this.empty.textContent = this.view.space.count ? "No region passes: clear the search, or choose other sorts." : "There is no region: a process of the kernel's own has no memory.";
      this.draw();
    }

    draw() {
      const space = this.view.space;
      const seen = this.box.clientHeight || 600;
      const first = printing ? 0 : Math.max(Math.floor(this.box.scrollTop / ROW) - 6, 0);
      const last = printing ? Math.min(this.rows.length, 200) : Math.min(Math.ceil((this.box.scrollTop + seen) / ROW) + 6, this.rows.length);
      const lines = [];
      const spacer = (rows) => {
        const cell = element("td", { colspan: String(this.box.querySelectorAll("thead th").length) });
        cell.style.height = `${rows * ROW}px`;
        const line = element("tr", { class: "space", "aria-hidden": "true" }, cell);
        if (rows > 0) lines.push(line);
      };
      spacer(first);
      for (const row of this.rows.slice(first, last)) {
        const size = (value) => (value === null ? "\u2013" : human(value));
        const key = space.sort(row).key;
        const line = element("tr", { "data-row": String(row), class: row === this.view.chosen ? "chosen" : "" },
          element("td", { class: "mono", text: space.range(row) }),
          element("td", { text: human(space.sizes[row]) }));
        for (const column of space.data.columns) line.append(element("td", { class: column === "resident" ? "" : "narrow", text: size(space.memory(column, row)) }));
        const rights = space.text("rights", row);
        line.append(
          element("td", { class: `mono text narrow${/^.wx/.test(rights) ? " alarm" : ""}`, text: rights }),
          element("td", { class: "text narrow" }, swatch(key), space.sort(row).label),
          element("td", { class: "label name", text: space.name(row), title: space.name(row) }));
        lines.push(line);
      }
      if (!printing) spacer(this.rows.length - last);
      else if (last < this.rows.length) lines.push(element("tr", {}, element("td", { colspan: "3", text: `and ${many(this.rows.length - last, "more region")}` })));
      this.body.replaceChildren(...lines);
    }

    show(row) {
      const at = this.rows.indexOf(row);
      if (at < 0) return;
      const top = at * ROW;
      if (top < this.box.scrollTop || top + 3 * ROW > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = Math.max(top - this.box.clientHeight / 3, 0);
      this.draw();
    }
  }

  function swatch(key) {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark.setAttribute("class", "swatch");
    mark.setAttribute("aria-hidden", "true");
    const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    square.setAttribute("width", "100%");
    square.setAttribute("height", "100%");
    square.setAttribute("class", `is-${key.replace(/[^a-z]/g, "-")}`);
    mark.append(square);
    return mark;
  }

  // ---------------------------------------------------------------- all of one address space

  class SpaceView {
    constructor(root, data) {
      this.root = root;
      this.space = new Space(data);
      this.chosen = -1;
      this.matches = null;
      this.sorts = new Set();
      this.words = $(root, "input[type=search]");
      this.found = $(root, ".found");
      this.detail = $(root, ".detail");
      this.list = new List(this, root);
      this.ribbon = new Ribbon(this, root);
      this.words.addEventListener("input", () => this.search());
      this.words.addEventListener("keydown", (event) => {
        if (event.key === "Enter") { event.preventDefault(); this.choose(this.step(this.chosen, event.shiftKey ? -1 : 1)); }
        if (event.key === "Escape") { this.words.value = ""; this.search(); }
      });
      for (const button of root.querySelectorAll("button[data-sort]")) {
        button.addEventListener("click", () => {
          const on = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", String(on));
          if (on) this.sorts.add(button.dataset.sort); else this.sorts.delete(button.dataset.sort);
          this.search();
        });
      }
      for (const button of root.querySelectorAll("button[data-zoom]")) {
        button.addEventListener("click", () => {
          const factor = Number(button.dataset.zoom);
          this.ribbon.setZoom(factor ? this.ribbon.zoom * factor : 1);
        });
      }
      for (const cell of root.querySelectorAll(".treemap [data-find]")) {
        const find = () => { this.words.value = cell.dataset.find; this.search(); };
        cell.addEventListener("click", find);
      }
      const tree = $(root, ".treemap");
      if (tree) new ResizeObserver(() => fit(tree)).observe(tree);
      this.toldZoom();
      this.search();
      this.tell(-1);
    }

    search() {
      const holds = search(this.words.value, this.space);
      if (holds === null && !this.sorts.size) this.matches = null;
      else {
        this.matches = new Uint8Array(this.space.count);
        for (let row = 0; row < this.space.count; row += 1) {
          const wanted = !this.sorts.size || this.sorts.has(this.space.sort(row).key);
          this.matches[row] = wanted && (holds === null || holds(row)) ? 1 : 0;
        }
      }
      let number = 0, size = 0, used = 0, told = false;
      for (let row = 0; row < this.space.count; row += 1) {
        if (this.matches && !this.matches[row]) continue;
        number += 1;
        size += this.space.sizes[row];
        const each = this.space.used(row);
        if (each !== null) { told = true; used += each; }
      }
      const of = this.matches ? `${number.toLocaleString("en")} of ${many(this.space.count, "region")}` : many(number, "region");
      this.found.textContent = `${of}, ${human(size)}${told ? `, ${human(used)} in memory` : ""}`;
      this.list.fill();
      this.ribbon.later();
    }

    // The next region that passes, so many steps away.
    step(from, steps) {
      const count = this.space.count, passes = (row) => !this.matches || this.matches[row] === 1;
      const direction = steps < 0 ? -1 : 1;
      if (Math.abs(steps) >= count) {
        let row = direction < 0 ? 0 : count - 1;
        while (row >= 0 && row < count && !passes(row)) row -= direction;
        return row >= 0 && row < count ? row : from;
      }
      let row = from < 0 && direction < 0 ? 0 : from;
      for (let tried = 0; tried < count; tried += 1) {
        row = (row + direction + count) % count;
        if (passes(row)) return row;
      }
      return from;
    }

    choose(row) {
      this.chosen = row;
      this.tell(row);
      if (row >= 0) { this.ribbon.show(row); this.list.show(row); } else { this.ribbon.later(); this.list.draw(); }
    }

    toldZoom() {
      const scale = this.ribbon.scale, told = $(this.root, ".scale");
      told.textContent = this.space.count ? `1 pixel = ${human(Math.max(Math.round(scale), 1))}, zoom ${this.ribbon.zoom < 10 ? this.ribbon.zoom.toFixed(1) : Math.round(this.ribbon.zoom)}` : "";
    }

    // All that is known of a region.
    tell(row) {
      const space = this.space, data = space.data;
      if (row < 0) {
        this.detail.replaceChildren(element("p", { class: "quiet", text: "Point at a region, or choose one with the arrow keys: all that is known of it stands here." }));
        return;
      }
      const guess = space.guess(row), named = space.text("name", row);
      const title = element("h3", { class: "name", text: named || (guess ? guess.label : "(nameless)") });
      const facts = element("dl");
      const add = (term, told, kind = "") => facts.append(element("dt", { text: term }), element("dd", { text: told, class: kind }));
      add("addresses", space.range(row), "mono");
      add("size", bytes(space.sizes[row]));
      add("rights", space.text("rights", row), "mono");
      add("sort", space.sort(row).label);
      for (const [key, label] of data.measures) {
        const value = space.memory(key, row);
        if (value === null && key !== "resident") continue;
        add(label, bytes(value) + (key === "resident" && value !== null ? `, ${percent(space.filled(row))}` : ""));
      }
      if (data.marks) {
        const sums = [0, 0, 0, 0, 0], listed = data.marks[row] || [];
        for (let index = 0; index < listed.length; index += 3) sums[listed[index + 2]] += listed[index + 1] * data.grain;
        ["in small pages", "in huge pages", "pages in swap", "guards inside", "shared zeros"].forEach((word, index) => { if (sums[index]) add(word, bytes(sums[index])); });
      }
      for (const line of space.text("about", row).split("\n").filter(Boolean)) {
        const [term, told] = line.split("\t");
        add(term, told, "name");
      }
      if (data.offset && data.offset[row] !== null) add("offset in the file", `${BigInt(data.offset[row]).toString(16)}`, "mono");
      if (row + 1 < space.count) { const free = space.starts[row + 1] - space.end(row); add("free behind it", free ? human(Number(free)) : "nothing"); }
      if (row in data.drawn) add("drawn", "folded: not to scale");
      const parts = [title];
      if (guess) {
        parts.push(element("p", { class: "quiet", text: `A guess${guess.weak ? ", and a weak one" : ""}: the kernel gives it no name. What speaks for it:` }));
        parts.push(element("ul", { class: "evidence" }, ...guess.evidence.map((each) => element("li", { text: each }))));
      }
      parts.splice(1, 0, facts);
      this.detail.replaceChildren(...parts);
    }

    print(on) {
      if (on) this.kept = this.ribbon.zoom;
      this.ribbon.zoom = on ? 1 : this.kept || 1;
      this.ribbon.resize();
      this.list.draw();
    }
  }

  // ---------------------------------------------------------------- a series

  class CourseView {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.canvas = $(root, "canvas");
      this.slider = $(root, "input[type=range]");
      this.slider.addEventListener("input", () => this.show());
      new ResizeObserver(() => { if (!printing) this.draw(); }).observe(this.canvas.parentElement);
      darkly.addEventListener("change", () => this.draw());
      for (const plot of root.querySelectorAll(".plot")) {
        plot.addEventListener("click", (event) => {
          const box = plot.getBoundingClientRect(), { left, width } = data.plot;
          const part = ((event.clientX - box.left) / box.width * plot.viewBox.baseVal.width - left) / width;
          const wanted = part * data.elapsed[data.elapsed.length - 1];
          let best = 0;
          data.elapsed.forEach((each, index) => { if (Math.abs(each - wanted) < Math.abs(data.elapsed[best] - wanted)) best = index; });
          this.slider.value = String(best);
          this.show();
        });
      }
      this.show();
    }

    show() {
      const data = this.data, index = Number(this.slider.value), passed = data.elapsed[index];
      const when = `${new Date(data.times[index] * 1000).toISOString().replace("T", " ").slice(0, 19)} UTC, ${passed.toFixed(passed < 100 ? 1 : 0)} s after the first`;
      $(this.root, ".when").textContent = `${index + 1} of ${data.elapsed.length}: ${when}`;
      this.slider.setAttribute("aria-valuetext", when);
      const { left, width } = data.plot, last = data.elapsed[data.elapsed.length - 1] || 1;
      const x = String(left + width * passed / last);
      for (const line of this.root.querySelectorAll(".now")) { line.setAttribute("x1", x); line.setAttribute("x2", x); }
      data.bands.forEach((bands, number) => {
        const cells = [...this.root.querySelectorAll(`[data-band="${number}"]`)].reverse();
        bands.forEach((values, band) => { cells[band].textContent = human(values[index]); });
      });
      this.draw();
    }

    draw() {
      const data = this.data, palette = colours();
      let index = Number(this.slider.value);
      while (data.maps[index] === null) index -= 1;
      const width = Math.max(this.canvas.parentElement.clientWidth, 60), gutter = width > 640 ? GUTTER : 0;
      const pitch = 24, height = data.rows.length * pitch, ratio = printing ? 3 : devicePixelRatio || 1;
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      const context = this.canvas.getContext("2d"), cell = (width - gutter) / data.cells;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
      context.textAlign = "right";
      data.rows.forEach((address, row) => {
        context.fillStyle = palette.quiet;
        if (gutter) context.fillText(address, gutter - 10, row * pitch + 15);
        context.fillStyle = palette.rule;
        context.fillRect(gutter, row * pitch + 10, width - gutter, 1);
      });
      const runs = data.maps[index];
      let at = 0;
      for (let run = 0; run < runs.length; run += 2) {
        const value = runs[run], end = at + runs[run + 1];
        while (at < end) { // a run may go over several lines
          const row = Math.floor(at / data.cells), stop = Math.min(end, (row + 1) * data.cells);
          if (value) {
            const key = data.sorts[Math.floor((value - 1) / 11)], tenths = (value - 1) % 11;
            const x = gutter + (at % data.cells) * cell, y = row * pitch + 2, wide = (stop - at) * cell;
            context.fillStyle = palette.paper;
            context.fillRect(x, y, wide, BAR);
            context.fillStyle = palette.sorts[key];
            context.globalAlpha = key === "reserved" ? 1 : tenths > 9 ? 0.62 : 0.3;
            context.fillRect(x, y, wide, BAR);
            context.globalAlpha = 1;
            if (tenths <= 9 && tenths) context.fillRect(x, y + BAR * (1 - tenths / 9), wide, BAR * tenths / 9);
          }
          at = stop;
        }
      }
    }

    print() { this.draw(); }
  }

  // ---------------------------------------------------------------- the page

  const TYPES = { space: SpaceView, course: CourseView };
  const views = new Map();

  function open(article) {
    if (!views.has(article)) {
      const data = $(article, "script[type='application/json'].data");
      const told = data ? JSON.parse(data.textContent) : { type: "" };
      const Type = TYPES[told.type];
      views.set(article, Type ? new Type(article, told) : null);
    }
    return views.get(article);
  }

  const articles = [...document.querySelectorAll("article.view")];
  const choose = $(document, ".choose select");
  const shown = () => articles.filter((article) => !article.hidden);
  if (choose) {
    choose.addEventListener("change", () => {
      articles.forEach((article, index) => { article.hidden = String(index) !== choose.value; });
      shown().forEach(open);
    });
  }
  shown().forEach(open);

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const [first] = shown().map((article) => $(article, "input[type=search]")).filter(Boolean);
    if (first) { event.preventDefault(); first.focus(); first.select(); }
  });
  const print = (on) => { printing = on; for (const view of views.values()) if (view && view.print) view.print(on); };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();
