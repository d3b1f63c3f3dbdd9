// The arena as squares, each some head blocks, in the colour of the model that holds them; below it the quotas, and what is used of each.
// A square stays where it is; where that is was drawn by lot, and is no address.

import { bytes, colour, colourOf, count, element, percent, renew, sheet, term, variable } from "./draw.js";

const ROWS = 9, STEP = 13, GAP = 2.5, FADE_MS = 600, BAR = 16, ABOVE_BAR = 10;
const FREE = { model: -1, cached: false };

export class Cache {
  constructor(canvas, text, legend) {
    Object.assign(this, { canvas, text, legend });
    this.cells = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Takes over what the server says: models in the order of their colours. */
  show(live, models, blockBytes) {
    this.live = live;
    this.models = models;
    const total = live.total_blocks, used = 1 - live.free_blocks / total;
    const each = models.map(({ name }) => `${name} ${percent((live.models[name]?.held_blocks ?? 0) / total)}`).join(", ");
    renew(this.text, `${percent(used)} of ${count(total)} `, term("head blocks"), ` of ${bytes(blockBytes)} in use, ${each}`);
    const kept = element("li", {}, "lighter: kept for requests that begin alike");
    this.legend.replaceChildren(...models.flatMap(({ name }, index) => this.key(name, index, live.models[name])), kept);
    this.draw();
  }

  key(name, index, model) {
    if (!model) return [];
    const dot = element("span", { className: "dot" });
    dot.style.setProperty("--of", variable(index));
    const cached = model.cached_blocks ? `, ${count(model.cached_blocks)} kept` : "";
    return [element("li", {}, dot, element("b", {}, name), ` ${count(model.held_blocks)} of its ${count(model.quota_blocks)} blocks${cached}`)];
  }

  /** Gives and takes squares, as few as possible, until each model has its share. */
  settle(columns) {
    const total = this.live.total_blocks, rows = Math.min(ROWS, Math.max(1, Math.floor(total / columns)));
    const size = Math.min(columns * rows, total);
    if (this.cells.length !== size) {
      this.cells = Array.from({ length: size }, () => ({ ...FREE, was: FREE, since: 0 }));
    }
    const wanted = this.models.flatMap(({ name }, model) => {
      const { held_blocks: held = 0, cached_blocks: cached = 0 } = this.live.models[name] ?? {};
      return [{ model, cached: false, blocks: held }, { model, cached: true, blocks: cached }];
    });
    const goals = wanted.map((each) => ({ ...each, cells: each.blocks && Math.max(1, Math.round(each.blocks / total * size)) }));
    const owned = (goal) => this.cells.filter((cell) => cell.model === goal.model && cell.cached === goal.cached);
    for (const goal of goals) for (const cell of some(owned(goal), owned(goal).length - goal.cells)) this.turn(cell, FREE);
    for (const goal of goals) {
      const free = this.cells.filter((cell) => cell.model < 0);
      for (const cell of some(free, goal.cells - owned(goal).length)) this.turn(cell, goal);
    }
  }

  turn(cell, { model, cached }) {
    Object.assign(cell, { was: { model: cell.model, cached: cell.cached }, model, cached, since: performance.now() });
  }

  draw() {
    if (!this.live) return;
    const columns = Math.max(1, Math.floor((this.canvas.clientWidth + GAP) / STEP));
    this.settle(columns);
    cancelAnimationFrame(this.frame);
    this.paint(columns);
  }

  paint(columns) {
    const rows = Math.ceil(this.cells.length / columns), { ink, width } = sheet(this.canvas, rows * STEP + ABOVE_BAR + BAR);
    const step = (width + GAP) / columns, now = performance.now();
    const fills = [colour("free"), ...this.models.map((_, index) => colourOf(index))];
    const fade = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : FADE_MS;
    let moving = false;
    this.cells.forEach((cell, at) => {
      const share = Math.min(1, (now - cell.since) / fade);
      moving ||= share < 1;
      const paintOne = (kind, alpha) => {
        ink.globalAlpha = alpha * (kind.cached ? 0.45 : 1);
        ink.fillStyle = fills[kind.model + 1];
        ink.beginPath();
        ink.roundRect((at % columns) * step, Math.floor(at / columns) * STEP, step - GAP, STEP - GAP, 2.5);
        ink.fill();
      };
      paintOne(FREE, 1);
      if (share < 1) paintOne(cell.was, 1 - share);
      paintOne(cell, share);
    });
    this.quotas(ink, width, rows * STEP + ABOVE_BAR, fills);
    if (moving) this.frame = requestAnimationFrame(() => this.paint(columns));
  }

  /** Quotas side by side, each filled as far as it is used: solid for requests, lighter for what is only cached. */
  quotas(ink, width, top, fills) {
    const all = this.models.map(({ name }) => this.live.models[name]), total = Math.max(this.live.total_blocks, sum(all, "quota_blocks"));
    let left = 0;
    all.forEach((model, index) => {
      if (!model) return;
      const across = (blocks) => Math.min(blocks, model.quota_blocks) / total * (width + GAP);
      const { held_blocks: held, cached_blocks: cached = 0 } = model;
      for (const [blocks, alpha] of [[model.quota_blocks, 0.2], [held + cached, 0.45], [held, 1]]) {
        ink.globalAlpha = alpha;
        ink.fillStyle = fills[index + 1];
        ink.beginPath();
        ink.roundRect(left, top, Math.max(0, across(blocks) - GAP), BAR, 3);
        ink.fill();
      }
      left += across(model.quota_blocks);
    });
    ink.globalAlpha = 1;
  }
}

const sum = (models, name) => models.reduce((total, model) => total + (model?.[name] ?? 0), 0);

/** So many of them by lot; none if that is less than one. */
function some(cells, most) {
  const left = [...cells], taken = [];
  while (taken.length < most && left.length) taken.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  return taken;
}
