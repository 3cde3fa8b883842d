// What is drawn: axis, waves, links, labels and the overview, for the seconds in view.

// ---- view: which seconds are on the stage ----
const total = call.duration, shortest = Math.min(total, 0.02);
const view = { from: 0, to: total };
let position = 0, width = 0, height = 0, laneHeight = 0, trackHeight = 0;
const stage = $("stage"), canvas = $("canvas"), scrub = $("scrub"), lane = $("lane"), tip = $("tip"), hair = $("hair");
const x = (t) => ((t - view.from) / (view.to - view.from)) * width;
const time = (px) => view.from + (px / width) * (view.to - view.from);
const trackTop = (i) => laneHeight + i * (trackHeight + GAP);

function show(from, to) {
  const span = clamp(to - from, shortest, total), start = clamp(from, 0, total - span);
  view.from = start; view.to = start + span;
  $("zoom-out").disabled = $("zoom-fit").disabled = span >= total;
  schedule();
}
function zoom(factor, at) {
  const span = clamp((view.to - view.from) * factor, shortest, total), share = (at - view.from) / (view.to - view.from);
  show(at - share * span, at + (1 - share) * span);
}
const centre = () => (position >= view.from && position <= view.to ? position : (view.from + view.to) / 2);

let queued = false;
function schedule() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; paint(); });
}

// ---- labels: each to the right of its stem, to the left near the end, never on another ----
const ruler = document.createElement("canvas").getContext("2d");
const labels = call.events.map((event, index) => {
  const button = make("button", event.label, { type: "button", "aria-label": `${event.label}, at ${clock(event.at, 3)}. ${event.detail}` });
  button.style.setProperty("--side", `var(${SIDES[event.side] || "--soft"})`);
  button.addEventListener("click", () => seek(event.at));
  for (const on of ["pointerenter", "focus"]) button.addEventListener(on, () => tell(index));
  for (const off of ["pointerleave", "blur"]) button.addEventListener(off, () => { tip.hidden = true; });
  lane.append(button);
  return { event, button };
});
function measure() {
  ruler.font = "550 11.5px " + getComputedStyle(document.body).fontFamily;
  for (const label of labels) label.width = Math.ceil(ruler.measureText(label.event.label).width) + 30;
}
function place() {
  const done = [];
  const fits = (row, left, right, stem) => done.every((d) =>
    (d.row !== row || right + 4 <= d.left || d.right + 4 <= left) &&
    (d.row <= row || stem < d.left - 1 || stem > d.right + 1) &&
    (d.row >= row || d.stem <= left + 1 || d.stem >= right - 1));
  const put = (label, left, right) => {
    let row = 0;
    while (row < 40 && !fits(row, left, right, label.stem)) row++;
    Object.assign(label, { left, right, row });
    done.push(label);
  };
  const seen = labels.filter((l) => (l.stem = x(l.event.at)) >= -1 && l.stem <= width + 1);
  for (const label of labels) label.row = -1;
  const early = seen.filter((l) => l.stem + l.width <= width - 2), late = seen.filter((l) => l.stem + l.width > width - 2);
  for (const label of early) put(label, label.stem, label.stem + label.width);
  for (const label of late.reverse()) {
    const left = Math.max(2, label.stem - label.width);
    put(label, left, left + label.width);
  }
  const rows = done.reduce((most, d) => Math.max(most, d.row + 1), 1), atEnd = done.slice(early.length);
  // Short stems: what stands alone at the end moves down to the waves.
  const end = Math.min(...atEnd.map((d) => d.left)), drop = rows - 1 - Math.max(...atEnd.map((d) => d.row));
  if (atEnd.length && early.every((d) => d.right < end)) for (const label of atEnd) label.row += drop;
  return rows;
}
function layout() {
  width = stage.clientWidth;
  const kept = { ...view };
  view.from = 0; view.to = total; measure();
  const rows = labels.length ? place() : 0;
  Object.assign(view, kept);
  trackHeight = clamp(Math.round(width / 7.5), 84, 128);
  laneHeight = rows * ROW + LANE_PAD * (rows ? 2 : 1);
  height = laneHeight + tracks.length * trackHeight + (tracks.length - 1) * GAP + AXIS;
  stage.style.height = height + "px";
  scrub.style.top = $("playhead").style.top = hair.style.top = laneHeight + "px";
  schedule();
}

// ---- painting ----
function surface(element, w, h) {
  const ratio = window.devicePixelRatio || 1, pixels = Math.round(w * ratio), lines = Math.round(h * ratio);
  if (element.width !== pixels || element.height !== lines) { element.width = pixels; element.height = lines; }
  const pen = element.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  return pen;
}
function wave(pen, track, ink, middle, half, w, from, to) {
  const step = 1 / (window.devicePixelRatio || 1), seconds = (to - from) / w, scale = half / loudest;
  pen.fillStyle = pen.strokeStyle = ink;
  if (track.samples && seconds * track.rate < 0.6) {
    const first = Math.max(0, Math.floor(from * track.rate) - 1), last = Math.min(track.samples.length - 1, Math.ceil(to * track.rate) + 1);
    pen.beginPath(); pen.lineWidth = 1.5; pen.lineJoin = "round";
    for (let i = first; i <= last; i++) pen.lineTo((i / track.rate - from) / seconds, middle - (track.samples[i] / 32768) * scale);
    pen.stroke();
    return;
  }
  const peaks = [], cores = [];
  for (let px = 0; px < w; px += step) {
    const s = stretch(track, from + px * seconds, from + (px + step) * seconds);
    peaks.push([px, middle - s.most * scale, Math.max(step, (s.most - s.least) * scale)]);
    const core = Math.sqrt(s.square) * scale;
    if (core > 0.4) cores.push([px, middle - core, core * 2]);
  }
  pen.globalAlpha = 0.38;
  for (const [px, top, tall] of peaks) pen.fillRect(px, top, step, tall);
  pen.globalAlpha = 1;
  for (const [px, top, tall] of cores) pen.fillRect(px, top, step, tall);
}
function axis(pen) {
  const span = view.to - view.from, room = width / 84;
  const step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((s) => span / s <= room) || 1200;
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : 3;
  pen.font = "11px " + getComputedStyle(document.body).fontFamily;
  pen.lineWidth = 1; pen.textBaseline = "middle";
  for (let n = Math.ceil(view.from / step - 1e-6); n * step <= view.to + 1e-9; n++) {
    const at = Math.round(x(n * step)) + 0.5, words = clock(n * step, digits), wide = pen.measureText(words).width;
    pen.strokeStyle = colour("--line");
    pen.beginPath(); pen.moveTo(at, laneHeight); pen.lineTo(at, height - AXIS + 5); pen.stroke();
    pen.fillStyle = colour("--soft");
    pen.fillText(words, clamp(at - wide / 2, 4, width - wide - 4), height - AXIS / 2 + 2);
  }
}
function paint() {
  const pen = surface(canvas, width, height);
  axis(pen);
  tracks.forEach((track, i) => {
    const top = trackTop(i), ink = colour(TRACK_COLOURS[i]);
    pen.fillStyle = ink; pen.globalAlpha = 0.07;
    for (const span of track.spans) pen.fillRect(x(span.start), top, x(span.stop) - x(span.start), trackHeight);
    pen.globalAlpha = 1;
    wave(pen, track, ink, top + trackHeight / 2, trackHeight / 2 - 8, width, view.from, view.to);
  });
  links(pen);
  stems(pen);
  names(pen);
  overview();
  move();
}
function names(pen) {
  pen.font = "600 12px " + getComputedStyle(document.body).fontFamily;
  pen.textBaseline = "middle";
  tracks.forEach((track, i) => {
    const wide = pen.measureText(track.name).width, top = trackTop(i) + (i ? trackHeight - 26 : 4);
    pen.fillStyle = colour("--well"); pen.globalAlpha = 0.86;
    pen.beginPath(); pen.roundRect(6, top, wide + 14, 21, 6); pen.fill();
    pen.globalAlpha = 1; pen.fillStyle = colour(TRACK_COLOURS[i]);
    pen.fillText(track.name, 13, top + 11);
  });
}
function links(pen) {
  if (tracks.length < 2 || !call.links.length) return;
  const top = trackTop(0) + trackHeight + 3, bottom = trackTop(1) - 3, blend = pen.createLinearGradient(0, top, 0, bottom);
  blend.addColorStop(0, colour("--caller")); blend.addColorStop(1, colour("--bot"));
  pen.strokeStyle = blend; pen.lineWidth = 1.3; pen.globalAlpha = 0.75;
  for (const link of call.links) {
    const a = x(link.start), b = x(link.stop);
    if (b < 0 || a > width) continue;
    pen.beginPath(); pen.moveTo(a, top); pen.bezierCurveTo(a, top + 14, b, bottom - 14, b, bottom); pen.stroke();
    for (const [px, py, name] of [[a, top, "--caller"], [b, bottom, "--bot"]]) {
      pen.fillStyle = colour(name); pen.beginPath(); pen.arc(px, py, 2, 0, 7); pen.fill();
    }
  }
  pen.globalAlpha = 1;
}
function stems(pen) {
  place();
  const rows = Math.max(1, Math.round((laneHeight - 2 * LANE_PAD) / ROW));
  for (const label of labels) {
    const seen = label.row >= 0 && label.row < rows;
    label.button.hidden = !seen;
    if (!seen) continue;
    const top = LANE_PAD + label.row * ROW;
    label.button.style.transform = `translate(${Math.round(label.left)}px, ${top}px)`;
    const at = clamp(Math.round(label.stem), 1, width - 1) + 0.5;
    pen.strokeStyle = colour(SIDES[label.event.side] || "--soft");
    pen.globalAlpha = 0.55; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(at, top + 18); pen.lineTo(at, height - AXIS); pen.stroke();
    pen.globalAlpha = 1;
  }
}
function overview() {
  const strip = $("overview"), w = strip.clientWidth, h = strip.clientHeight;
  const whole = view.to - view.from >= total - 1e-9;
  if (!w) return;
  const pen = surface(strip, w, h);
  tracks.forEach((track, i) => wave(pen, track, colour(TRACK_COLOURS[i]), (h * (i + 0.5)) / tracks.length, h / 2 / tracks.length - 1, w, 0, total));
  if (whole) return;
  const a = (view.from / total) * w, b = Math.max(a + 3, (view.to / total) * w);
  pen.fillStyle = colour("--well"); pen.globalAlpha = 0.72;
  pen.fillRect(0, 0, a, h); pen.fillRect(b, 0, w - b, h);
  pen.globalAlpha = 1; pen.strokeStyle = colour("--soft"); pen.lineWidth = 1.5;
  pen.strokeRect(clamp(a, 1, w - 4), 1, Math.max(3, b - a - 1), h - 2);
}
