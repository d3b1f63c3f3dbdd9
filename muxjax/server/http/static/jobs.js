// The last jobs, a line for each model: prefill in its upper lane, decode in its lower one, a step of both across.

import { colour, colourOf, percent, seconds, sheet } from "./draw.js";

const MOST = 20000, LANE = 15, ROW = 2 * LANE + 12, AXIS = 20, LEFT = 104;

export class Jobs {
  constructor(canvas, text, told) {
    Object.assign(this, { canvas, text, told, jobs: [], span: 1, paused: false, last: 0 });
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.point(event));
  }

  /** Adds what is new; `rows` are [number, model, phase, begin, end, sequences, tokens]. */
  show(rows, now, models) {
    if (rows.length) this.last = rows.at(-1)[0];
    this.jobs.push(...rows.map(([, model, phase, begin, end, sequences, tokens]) => ({ model, phase, begin, end, sequences, tokens })));
    if (this.jobs.length > MOST) this.jobs.splice(0, this.jobs.length - MOST);
    if (this.paused) return;
    this.models = models;
    this.now = now;
    this.draw();
  }

  /** The numbers begin anew. */
  forget() {
    Object.assign(this, { jobs: [], last: 0 });
  }

  draw() {
    if (!this.models) return;
    const { ink, width } = sheet(this.canvas, this.models.length * ROW + AXIS);
    this.left = width < 520 ? 0 : LEFT;
    this.scale = (width - this.left) / this.span;
    const seen = this.jobs.filter((job) => job.end > this.now - this.span && job.begin < this.now);
    this.boxes = [];
    this.models.forEach(({ name }, index) => this.line(ink, width, name, index, seen));
    this.axis(ink, width);
    this.say(seen);
  }

  line(ink, width, name, index, seen) {
    const top = index * ROW;
    ink.fillStyle = colour("free");
    ink.globalAlpha = 0.55;
    ink.fillRect(this.left, top + 2, width - this.left, 2 * LANE + 2);
    ink.globalAlpha = 1;
    ink.fillStyle = colourOf(index);
    for (const job of seen) if (job.model === name) this.box(ink, job, top + 2);
    ink.fillStyle = colour("text");
    ink.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
    ink.textBaseline = "middle";
    if (this.left) ink.fillText(short(ink, name, LEFT - 12), 0, top + 2 + LANE + 1);
  }

  box(ink, job, top) {
    const x = Math.max(this.left, this.x(job.begin)), end = Math.max(this.x(job.end), x + 1);
    const gap = end - x > 4 ? 1 : 0, both = job.phase === "mixed";
    const y = job.phase === "decode" ? top + LANE + 2 : top, height = both ? 2 * LANE + 2 : LANE;
    ink.fillRect(x, y, end - x - gap, height);
    this.boxes.push({ job, x, end, y, height });
  }

  axis(ink, width) {
    const y = this.models.length * ROW + 8;
    ink.fillStyle = colour("soft");
    ink.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    ["right", "center", "left"].forEach((align, i) => {
      ink.textAlign = align;
      ink.fillText(["now", seconds(this.span / 2) + " ago", seconds(this.span) + " ago"][i], width - (width - this.left) * i / 2, y);
    });
    ink.textAlign = "left";
  }

  say(seen) {
    const begin = this.now - this.span, busy = {};
    for (const job of seen) busy[job.model] = (busy[job.model] ?? 0) + Math.min(job.end, this.now) - Math.max(job.begin, begin);
    const shares = this.models.map(({ name }) => `${name} ${percent((busy[name] ?? 0) / this.span)}`).join(", ");
    this.text.textContent = `${seen.length} steps; part of the time with a step under way: ${shares}`;
  }

  point(event) {
    const { offsetX: x, offsetY: y } = event;
    const found = (this.boxes ?? []).findLast((box) => x >= box.x - 1 && x <= box.end + 1 && y >= box.y && y <= box.y + box.height);
    if (!found) return;
    const { model, phase, begin, end, sequences, tokens } = found.job;
    this.told.textContent = `${model}: ${phase} of ${tokens} token${tokens > 1 ? "s" : ""} of ${sequences} sequence${sequences > 1 ? "s" : ""} in ${seconds(end - begin)}`;
  }

  x(at) {
    return this.left + (at - this.now + this.span) * this.scale;
  }
}

function short(ink, text, width) {
  let shown = text;
  while (ink.measureText(shown).width > width && shown.length > 2) shown = shown.slice(0, -2) + "…";
  return shown;
}
