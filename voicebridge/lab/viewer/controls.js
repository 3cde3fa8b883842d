// What the reader does: play, seek, zoom and move, by pointer, touch and keys.

// ---- playhead ----
function move() {
  const at = x(position), head = $("playhead");
  head.hidden = at < -1 || at > width + 1;
  head.style.transform = `translateX(${at}px)`;
  $("clock").textContent = `${clock(position)} / ${clock(total)}`;
  scrub.setAttribute("aria-valuenow", position.toFixed(2));
  scrub.setAttribute("aria-valuetext", `${clock(position)} of ${clock(total)}`);
}
function seek(t) {
  position = clamp(t, 0, total);
  if (call.audio && player.readyState > 0) player.currentTime = Math.min(position, player.duration || total);
  const span = view.to - view.from;
  if (position < view.from || position > view.to) show(position - span / 2, position + span / 2);
  move();
}
function face() {
  $("play-shape").setAttribute("d", player.paused ? "M4 2.5v11l9-5.5z" : "M3.5 2.5h3.2v11H3.5zM9.3 2.5h3.2v11H9.3z");
  $("play-word").textContent = player.paused ? "Play" : "Pause";
  $("play").setAttribute("aria-label", player.paused ? "Play" : "Pause");
}
function follow() {
  if (player.paused) return;
  position = Math.min(player.currentTime, total);
  const span = view.to - view.from;
  if (position > view.to - span * 0.04 && view.to < total - 1e-6) show(position - span * 0.12, position + span * 0.88);
  move();
  requestAnimationFrame(follow);
}
function toggle() {
  if (!call.audio) return;
  if (!player.paused) { player.pause(); return; }
  if (position >= total - 0.05) position = 0;
  if (player.readyState > 0) player.currentTime = position;
  player.play().catch(() => face());
}

// ---- pointing ----
function tipAt(px, py) {
  tip.hidden = false;
  const left = px + 16 + tip.offsetWidth > width ? px - tip.offsetWidth - 14 : px + 14;
  tip.style.left = clamp(left, 4, Math.max(4, width - tip.offsetWidth - 4)) + "px";
  tip.style.top = clamp(py, 4, Math.max(4, height - tip.offsetHeight - 4)) + "px";
}
function tell(index) {
  const { event, left, row } = labels[index];
  hair.hidden = true;
  tip.replaceChildren(make("div"), make("div", `at ${clock(event.at, 3)}`));
  tip.firstChild.append(make("b", event.label));
  if (event.detail) tip.append(make("div", event.detail, { class: "wrap" }));
  if (row >= 0) tipAt(left, LANE_PAD + (row + 1) * ROW);
}
function loudness(track, t) {
  const { square } = stretch(track, t - 0.02, t + 0.02);
  return square > 1e-8 ? `${(10 * Math.log10(square)).toFixed(0)} dB` : "silent";
}
function hover(px, py) {
  const t = time(px), reach = 0.6 * Math.max(0.5, (view.to - view.from) * 0.02);
  hair.hidden = false;
  hair.style.transform = `translateX(${px}px)`;
  tip.replaceChildren(make("div"));
  tip.firstChild.append(make("b", clock(t, view.to - view.from < 2 ? 3 : 2)));
  for (const track of tracks) {
    tip.append(make("div", `${track.name}: ${loudness(track, t)}`));
    const span = track.spans.find((s) => s.label && s.start <= t && t <= s.stop);
    if (span) tip.append(make("div", span.label, { class: "wrap" }));
  }
  const link = call.links.reduce((best, l) => {
    const far = Math.max(l.start - t, t - l.stop, 0);
    return far < reach && (!best || far < best.far) ? { far, label: l.label } : best;
  }, null);
  if (link && link.label) tip.append(make("div", link.label, { class: "wrap" }));
  tipAt(px, py + 14);
}
const pointers = new Map();
let drag = null, pointing = false;
const inside = (e) => { const box = stage.getBoundingClientRect(); return [clamp(e.clientX - box.left, 0, width), e.clientY - box.top]; };
scrub.addEventListener("pointerdown", (e) => {
  if (e.button) return;
  const [px] = inside(e);
  scrub.setPointerCapture(e.pointerId);
  pointers.set(e.pointerId, px);
  drag = { px, from: view.from, moved: pointers.size > 1, span: view.to - view.from, spread: null };
  if (pointers.size === 2) { const [a, b] = [...pointers.values()]; drag.spread = Math.max(12, Math.abs(a - b)); drag.at = time((a + b) / 2); }
});
scrub.addEventListener("pointermove", (e) => {
  const [px, py] = inside(e);
  pointing = pointing || e.movementX !== 0 || e.movementY !== 0;
  if (!pointers.has(e.pointerId)) { hover(px, py); return; }
  pointers.set(e.pointerId, px);
  if (drag.spread && pointers.size === 2) {
    const [a, b] = [...pointers.values()], span = drag.span * drag.spread / Math.max(12, Math.abs(a - b)), share = (a + b) / 2 / width;
    show(drag.at - share * span, drag.at + (1 - share) * span);
  } else if (!drag.spread && Math.abs(px - drag.px) > 4 || drag.moved) {
    drag.moved = true; scrub.classList.add("drag"); tip.hidden = hair.hidden = true;
    if (!drag.spread) show(drag.from - ((px - drag.px) / width) * drag.span, drag.from + drag.span - ((px - drag.px) / width) * drag.span);
  }
});
for (const end of ["pointerup", "pointercancel"]) scrub.addEventListener(end, (e) => {
  if (!pointers.delete(e.pointerId)) return;
  scrub.classList.remove("drag");
  if (end === "pointerup" && drag && !drag.moved) seek(time(inside(e)[0]));
});
scrub.addEventListener("pointerleave", () => { tip.hidden = hair.hidden = true; });
// Scrolling past must not zoom: only a pointer that moved over the waves, or a focus there, means them.
window.addEventListener("scroll", () => { pointing = false; }, { passive: true });
scrub.addEventListener("wheel", (e) => {
  if (!(pointing || e.ctrlKey || e.metaKey || document.activeElement === scrub)) return;
  const unit = e.deltaMode === 1 ? 16 : 1, span = view.to - view.from;
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
    if (span >= total) return;
    const by = (((e.deltaX || e.deltaY) * unit) / width) * span;
    show(view.from + by, view.to + by);
  } else {
    if (e.deltaY > 0 && span >= total && !e.ctrlKey) return;
    zoom(Math.exp(clamp(e.deltaY * unit, -240, 240) * (e.ctrlKey ? 0.01 : 0.0022)), time(inside(e)[0]));
  }
  e.preventDefault();
}, { passive: false });
const glance = (e) => {
  const box = $("overview").getBoundingClientRect(), t = ((e.clientX - box.left) / box.width) * total, span = view.to - view.from;
  if (span >= total) seek(t); else show(t - span / 2, t + span / 2);
};
$("overview").addEventListener("pointerdown", (e) => { $("overview").setPointerCapture(e.pointerId); glance(e); });
$("overview").addEventListener("pointermove", (e) => { if (e.buttons) glance(e); });

// ---- keys ----
function jump(way) {
  const ahead = call.events.filter((e) => (way > 0 ? e.at > position + 1e-3 : e.at < position - 1e-3));
  if (ahead.length) seek((way > 0 ? ahead[0] : ahead[ahead.length - 1]).at);
}
const KEYS = {
  " ": toggle, "+": () => zoom(0.6, centre()), "=": () => zoom(0.6, centre()), "-": () => zoom(1 / 0.6, centre()),
  "0": () => show(0, total), n: () => jump(1), p: () => jump(-1),
  ArrowRight: (e) => seek(position + (e.shiftKey ? 5 : Math.min(1, (view.to - view.from) / 20))),
  ArrowLeft: (e) => seek(position - (e.shiftKey ? 5 : Math.min(1, (view.to - view.from) / 20))),
  Home: () => seek(0), End: () => seek(total),
};
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const there = e.target === document.body || e.target === scrub;
  const action = KEYS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  // Home and End scroll the page unless the slider itself has the focus.
  if (!action || (!there && (e.key === " " || e.key.length > 1)) || ((e.key === "Home" || e.key === "End") && e.target !== scrub)) return;
  e.preventDefault();
  action(e);
});
